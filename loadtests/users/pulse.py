"""A pulse shows how late this client itself is: a beat should come every 50 ms, and is timed when it comes.

gevent serves every socket that is ready before it wakes a sleeper, so no reader was kept from its bytes for longer
than the beat was late. That is what tells a busy client from a gateway that holds bytes back.
"""

import time
from collections import Counter, deque
from collections.abc import Callable

import gevent

BEAT_S = 0.05
KEPT_S = 120.0
"""Seconds for which lateness is remembered: `worst_since` answers for no longer ago."""
LATE_S = 0.2
"""Seconds of lateness from which a client judges nobody by fractions of a second."""
NOTED_S = 0.02
"""Seconds of lateness from which beats are remembered one by one."""


class Pulse:
    """Beats while `run` runs in a greenlet; `late_ms` counts the beats by whole milliseconds of lateness."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.late_ms: Counter[int] = Counter()
        self._clock = clock
        self._beats: deque[tuple[float, float]] = deque(maxlen=int(KEPT_S / BEAT_S))

    def run(self) -> None:
        """Beats for ever."""
        while True:
            due = self._clock() + BEAT_S
            gevent.sleep(BEAT_S)
            self.beat(self._clock() - due)

    def beat(self, late_s: float) -> None:
        """Takes the lateness of one beat, in seconds."""
        self.late_ms[max(0, int(late_s * 1000))] += 1
        if late_s > NOTED_S:
            self._beats.append((self._clock(), late_s))

    def worst_since(self, moment: float) -> float:
        """Returns the worst lateness in seconds since that `time.monotonic()`; up to NOTED_S counts as none."""
        worst = 0.0
        for at, late_s in reversed(self._beats):
            if at < moment:
                break
            worst = max(worst, late_s)
        return worst


def quantile(counts: Counter[int], share: float) -> int:
    """Returns the value at or below which `share` of the counted ones lie; 0 when nothing was counted."""
    rest = counts.total() * share
    for value in sorted(counts):
        rest -= counts[value]
        if rest <= 0:
            return value
    return 0
