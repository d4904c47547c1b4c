"""Measures what readers get, now and then: it costs a comparison an event, and nothing per reader."""

import time
from collections.abc import Callable

SAMPLE_MS = 1000
"""Milliseconds between two events that are measured in one process."""
GIVEN_UP_MS = 60_000
"""Milliseconds after which an event that nobody was sent is measured no longer: all its readers are slow, or gone."""


class DeliveryMeter:
    """Samples how late events reach the sockets of those who keep up, and hears of every hole that readers are told of.

    One event at a time is followed, from the feed that takes it to the last write of it. `clock` gives seconds since
    1970, as the clocks of those who write the log do.
    """

    __slots__ = ("_clock", "_frame", "_subject", "_time_ms", "next_ms", "on_gap", "on_lag")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.on_lag: Callable[[float], None] = _ignore_lag
        """Called with the seconds that an event took from the log to its readers."""
        self.on_gap: Callable[[str], None] = _ignore_gap
        """Called with the reason of a hole."""
        self.next_ms = 0
        """The time from which the next event is to be measured: the caller compares, and calls `begin`."""
        self._clock = clock
        self._subject: object = None
        self._frame = 0
        self._time_ms = 0

    def begin(self, subject: object, frame: int, time_ms: int) -> None:
        """Begins to measure an event that was written to the log at `time_ms`: `frame` is its number in a feed."""
        now_ms = self._clock() * 1000
        if self._subject is None or now_ms - self._time_ms > GIVEN_UP_MS:
            self._subject, self._frame, self._time_ms = subject, frame, time_ms
        self.next_ms = int(now_ms) + SAMPLE_MS

    def end(self, subject: object, upto: int) -> None:
        """Notes that the readers of a feed have been written all its frames before the number `upto`."""
        if subject is self._subject and upto > self._frame:
            self._subject = None
            self.on_lag(max(0.0, self._clock() - self._time_ms / 1000))


def _ignore_lag(seconds: float) -> None:
    """Does nothing: nobody measures."""


def _ignore_gap(reason: str) -> None:
    """Does nothing: nobody counts."""
