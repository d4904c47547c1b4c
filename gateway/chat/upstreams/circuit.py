"""A circuit keeps requests from an upstream that fails, and lets one through now and then to see if it is back. Pure.

It opens when of the last tries half or more have failed, for 5 s; then one request is a probe: an answer closes it, a
failure keeps it open for twice as long, 2 minutes at most. What a request is itself at fault for says nothing of an
upstream and counts neither way. An upstream that names a time at which to come again is not asked before.

Times are seconds of a clock that only goes forward, so that setting the machine's clock moves no circuit.
"""

import time
from collections import deque
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Literal, get_args

from gateway.chat.upstreams.completion_parser import GAVE_UP
from gateway.errors import UpstreamError, UpstreamRefused

CircuitState = Literal["closed", "open", "half_open", "paused"]
STATES: tuple[CircuitState, ...] = get_args(CircuitState)
WINDOW = 20
"""Maximum tries that are looked back on."""
WINDOW_S = 300.0
"""Seconds after which a try is forgotten."""
MIN_FAILURES = 3
SHARE = 0.5
"""Share of those tries at which a circuit opens, once MIN_FAILURES have failed."""
FIRST_S = 5.0
"""Seconds that a circuit is open at first."""
LONGEST_S = 120.0
STEADY_S = 60.0
"""Seconds after which a circuit that was closed counts as steady: the next time it opens for FIRST_S again."""
MAX_PAUSE_S = 600.0
"""Maximum seconds for which an upstream is believed that it wants to be left alone."""

Clock = Callable[[], float]


class Circuit:
    """The health of one upstream."""

    def __init__(
        self, clock: Clock, on_change: Callable[[CircuitState, str, float], None], wall: Clock = time.time
    ) -> None:
        """`on_change` is told the new state, why (the error's code), and for how many seconds, 0 when it closes.

        `wall` is the time of day, for the dates at which upstreams ask to be asked again.
        """
        self.openings = 0
        self._clock = clock
        self._on_change = on_change
        self._wall = wall
        self._tries: deque[tuple[float, bool]] = deque(maxlen=WINDOW)
        self._open_until: float | None = None
        self._open_s = 0.0
        self._closed_at = float("-inf")
        self._paused_until = float("-inf")
        self._probe: Trial | None = None
        self._era = 0
        """Number of times that it opened or closed: a try of an earlier era says nothing of this one."""

    @property
    def state(self) -> CircuitState:
        now = self._clock()
        if self._open_until is None:
            return "paused" if now < self._paused_until else "closed"
        return "open" if now < self._open_until else "half_open"

    @property
    def admits(self) -> bool:
        """Returns whether it may be asked now, be it as a probe."""
        now = self._clock()
        is_open = self._open_until is not None and (now < self._open_until or self._probe is not None)
        return now >= self._paused_until and not is_open

    @property
    def back_at(self) -> float:
        """Returns the time from which it may be asked again."""
        return max(self._paused_until, float("-inf") if self._open_until is None else self._open_until)

    def begin(self) -> "Trial":
        """Returns the trial of a request that is sent now, even if it is not admitted; the caller ends it."""
        trial = Trial(self, self._era)
        if self.state == "half_open" and self._probe is None:
            self._probe = trial
        return trial

    # Called by trials

    def note_token(self, trial: "Trial") -> None:
        """Closes when it is open, and the trial is not one from before that."""
        if self._open_until is not None and trial.era == self._era:
            self._close()
            trial.era = self._era  # how its answer ends counts already
        self._let_go(trial)

    def end(self, trial: "Trial", error: UpstreamError | None) -> None:
        was_probe = self._probe is trial
        self._let_go(trial)
        if error is not None and (pause_s := pause_of(error, self._wall())):
            self._pause(error, pause_s)
        elif trial.era == self._era:
            self._weigh(error, was_probe=was_probe)

    def forget(self, trial: "Trial") -> None:
        self._let_go(trial)

    def _let_go(self, trial: "Trial") -> None:
        if self._probe is trial:
            self._probe = None

    def _weigh(self, error: UpstreamError | None, *, was_probe: bool) -> None:
        now = self._clock()
        is_failure = error is not None and is_of_upstream(error)
        if self._open_until is not None:
            if not is_failure:
                self._close()
            elif was_probe:
                self._open(error, min(LONGEST_S, self._open_s * 2))
            return
        if error is None or is_failure:
            self._tries.append((now, is_failure))
        while self._tries and self._tries[0][0] < now - WINDOW_S:
            self._tries.popleft()
        failures = sum(failed for _, failed in self._tries)
        if is_failure and failures >= MIN_FAILURES and failures >= SHARE * len(self._tries):
            is_flapping = now - self._closed_at < STEADY_S
            self._open(error, min(LONGEST_S, self._open_s * 2) if is_flapping else FIRST_S)

    def _open(self, error: UpstreamError | None, for_s: float) -> None:
        self._open_s = for_s
        self._open_until = self._clock() + for_s
        self._era += 1
        self.openings += 1
        self._tries.clear()
        self._on_change("open", error.code if error is not None else "", for_s)

    def _close(self) -> None:
        self._open_until = None
        self._closed_at = self._clock()
        self._era += 1
        self._on_change("closed", "", 0.0)

    def _pause(self, error: UpstreamError, pause_s: float) -> None:
        was_paused = self.state == "paused"
        self._paused_until = max(self._paused_until, self._clock() + pause_s)
        if not was_paused:
            self._on_change("paused", error.code, pause_s)


class Trial:
    """One request to an upstream, which its circuit is told the outcome of: by `end` or `forget`, whichever is first.

    As a context it lasts as long as an answer is written, and ends with it.
    """

    def __init__(self, circuit: Circuit, era: int) -> None:
        self.era = era
        self._circuit: Circuit | None = circuit

    def note_token(self) -> None:
        """Notes that the answer has begun."""
        if self._circuit is not None:
            self._circuit.note_token(self)

    def end(self, error: UpstreamError | None) -> None:
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            circuit.end(self, error)

    def forget(self) -> None:
        """Ends without an outcome: nobody waited for it."""
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            circuit.forget(self)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or isinstance(error, UpstreamError):
            self.end(error)
        else:
            self.forget()


def is_of_upstream(error: UpstreamError) -> bool:
    """Returns whether an error says something of its upstream, be it our account there, and not of the request."""
    if error.code == GAVE_UP:
        return False
    return not isinstance(error, UpstreamRefused) or error.is_of_account or error.status == 429 or error.status >= 500


def pause_of(error: UpstreamError, wall_s: float) -> float:
    """Returns the seconds for which an upstream asks to be left alone, MAX_PAUSE_S at most; 0 when it does not.

    `wall_s` is the time of day, in seconds since 1970: what it asks for may be a date (RFC 9110 §10.2.3).
    """
    if not error.retry_after or not is_of_upstream(error):
        return 0.0
    try:
        pause_s = float(error.retry_after)
    except ValueError:
        try:
            pause_s = parsedate_to_datetime(error.retry_after).timestamp() - wall_s
        except ValueError:
            return 0.0
    return max(0.0, min(MAX_PAUSE_S, pause_s))
