"""Measures the chat lane. A run is measured once, at its end, by what it knows of itself: nothing runs per token."""

from collections.abc import Callable, Mapping

from gateway.chat.ending import Failed
from gateway.chat.run import Run
from gateway.chat.upstreams.circuit import STATES, Circuit
from gateway.core.telemetry import COUNTS, LONG_S, SHORT_S, Metrics
from gateway.errors import (
    TrilaneError,
    UpstreamCut,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)

OUTCOMES = ("finish", "error", "abort")
RESUMED = ("recovered", "unknown_cursor", "evicted", "epoch_changed", "damaged", "malformed", "refused")
"""What becomes of a reader that comes with a cursor."""


class ChatFigures:
    """The metrics of the chat lane."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runs = metrics.counter("chat_runs", "Runs that ended, by outcome", "outcome", OUTCOMES)
        tokens = metrics.counter("chat_tokens", "Tokens booked, by direction", "direction", ("in", "out"))
        self._input_tokens, self._output_tokens = tokens.labels("in"), tokens.labels("out")
        self._first_token = metrics.histogram(
            "chat_first_token_seconds", "From the start of a run to its first visible token", LONG_S
        )
        self._between_tokens = metrics.histogram(
            "chat_between_tokens_seconds", "Mean time between two deltas of a run that ended", SHORT_S
        )
        self._run = metrics.histogram(
            "chat_run_seconds",
            "From the start of a run to its end",
            (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 3600, 14_400),
        )
        self._resumes = metrics.counter(
            "chat_resumes", "Readers that came with a cursor, by what became of it", "outcome", RESUMED
        )
        self._replay = metrics.histogram(
            "chat_replay_events", "Events that a reader with a cursor had missed when it came", COUNTS
        )
        self._upstream_errors = metrics.counter(
            "chat_upstream_errors", "Tries of an upstream that failed, by kind", "kind"
        )
        for kind in ("timeout", "cut", "unreachable", "auth", "rate_limited", "refused", "failed"):
            self._upstream_errors.labels(kind)

    def watch(
        self,
        open_runs: Callable[[], float],
        in_flight: Callable[[], Mapping[str, int]],
        circuits: Callable[[], Mapping[str, Circuit]],
    ) -> None:
        """Adds what is looked up: the runs that are being written, and the requests and health of each upstream."""
        self._metrics.gauge("chat_open_runs", "Runs being written", open_runs)
        self._metrics.gauges(
            "chat_upstream_requests",
            "Requests that an upstream is answering",
            ["upstream"],
            lambda: {(name,): count for name, count in in_flight().items()},
        )
        self._metrics.gauges(
            "chat_upstream_state",
            "1 for the state of an upstream's circuit: closed, open, half_open, or paused by its own wish",
            ["upstream", "state"],
            lambda: {(name, state): float(one.state == state) for name, one in circuits().items() for state in STATES},
        )
        self._metrics.totals(
            "chat_upstream_openings",
            "Times that an upstream was left out because it failed",
            ["upstream"],
            lambda: {(name,): one.openings for name, one in circuits().items()},
        )

    def note_end(self, run: Run) -> None:
        """Measures a run that has ended, unless another process ended it: that one counts it."""
        finished = run.finished.result() if run.finished.done() and not run.finished.cancelled() else None
        if finished is None:
            return
        self._runs.labels(finished.outcome).inc()
        self._input_tokens.inc(finished.usage.input_tokens)
        self._output_tokens.inc(finished.usage.output_tokens)
        self._run.observe(run.lasted_s)
        if run.first_token_s is not None:
            self._first_token.observe(run.first_token_s)
            if run.recorder.emitted > 1:
                self._between_tokens.observe((run.lasted_s - run.first_token_s) / (run.recorder.emitted - 1))
        if isinstance(run.outcome, Failed) and run.first_token_s is not None:
            self.note_upstream_error(run.outcome.error)  # those before the first token are noted at each try

    def note_upstream_error(self, error: TrilaneError) -> None:
        """Counts an error of the model's side; others are not counted here."""
        if isinstance(error, UpstreamError):
            self._upstream_errors.labels(kind_of(error)).inc()

    def note_resume(self, outcome: str, replay: int | None = None) -> None:
        outcome = "malformed" if outcome == "bad_cursor" else outcome
        self._resumes.labels(outcome if outcome in RESUMED else "refused").inc()
        if replay is not None:
            self._replay.observe(replay)


def kind_of(error: UpstreamError) -> str:
    """Returns the kind under which an upstream's error is counted."""
    match error:
        case UpstreamTimeout():
            return "timeout"
        case UpstreamCut():
            return "cut"
        case UpstreamUnreachable():
            return "unreachable"
        case UpstreamRefused(status=429):
            return "rate_limited"
        case UpstreamRefused(code="upstream_auth"):
            return "auth"
        case UpstreamRefused() if error.status < 500:
            return "refused"
        case _:
            return "failed"
