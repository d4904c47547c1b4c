"""Measures the audio lane: how fast the model is, how long a client waits for what it said, who waits for the model.

Where there are traces, a session has a span in each process that heard it, and a file has one. They tell how much was
said, and no word of it.
"""

from typing import TYPE_CHECKING

from audio.coverage import UNINTELLIGIBLE
from audio.model.desk import URGENCIES, DoneTask
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE
from gateway.core.telemetry import COUNTS, LONG_S, Metrics

if TYPE_CHECKING:
    from gateway.core.tracing import Span, Tracer

URGENCY_NAMES = ("final", "partial", "guess", "background")
"""The names of the desk's urgencies, in their order."""
RESUMED = ("recovered", "session_unknown", "refused")
RATIOS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 5)

assert len(URGENCY_NAMES) == URGENCIES


class AudioFigures:
    """The metrics of the audio lane that are counted where something happens."""

    def __init__(self, metrics: Metrics) -> None:
        self._ratio = metrics.histogram(
            "audio_real_time_ratio",
            "Time that the model took for a second of audio, by task: below 1 it keeps up",
            RATIOS,
        )
        self._partial = metrics.histogram(
            "audio_partial_latency_seconds", "From when a partial could be made until it was there", LONG_S
        )
        self._final = metrics.histogram(
            "audio_final_latency_seconds", "From the end of a segment until its final was there", LONG_S
        )
        self._resumes = metrics.counter(
            "audio_resumes", "Connections that named a session, by what became of it", "outcome", RESUMED
        )
        self._replay = metrics.histogram(
            "audio_replay_events", "Messages that a client had missed when it came back", COUNTS
        )
        self._gaps = metrics.counter(
            "audio_gap_seconds", "Audio that was not heard, by reason", "reason", ("overload", "failed", UNINTELLIGIBLE)
        )
        self._models: Models | None = None
        metrics.gauges(
            "audio_waiting_tasks", "Sessions that wait for the model, by what for", ["urgency"], self._waiting
        )

    def watch(self, models: Models) -> None:
        """Measures what goes through these models from now on."""
        self._models = models
        models.desk.on_done = self._note_task

    def _waiting(self) -> dict[tuple[str, ...], float]:
        waiting = self._models.desk.waiting if self._models is not None else (0,) * URGENCIES
        return {(name,): count for name, count in zip(URGENCY_NAMES, waiting, strict=True)}

    def _note_task(self, task: DoneTask) -> None:
        self._ratio.observe(task.took_s / task.audio_s)
        if URGENCY_NAMES[task.urgency] == "final":
            self._final.observe(task.waited_s + task.took_s)
        elif URGENCY_NAMES[task.urgency] == "partial":
            self._partial.observe(task.waited_s + task.took_s)

    def note_resume(self, outcome: str, replay: int | None = None) -> None:
        self._resumes.labels(outcome).inc()
        if replay is not None:
            self._replay.observe(replay)

    def note_gap(self, reason: str, seconds: float) -> None:
        self._gaps.labels(reason).inc(seconds)


class ListeningSpan:
    """The span of a session or a file; it is nothing where there are no traces."""

    __slots__ = ("_first", "_span")

    def __init__(self, tracer: "Tracer | None", kind: str, model: str, samples: int = 0) -> None:
        """Begins at `samples` at 16 kHz, which were heard before; `kind` is `session` or `file`.

        The conventions for generative AI have no word for `transcribe`, and allow one of ours.
        """
        attributes = {"gen_ai.operation.name": "transcribe", "gen_ai.request.model": model, "trilane.audio.kind": kind}
        self._span: Span | None = None if tracer is None else tracer.start(f"transcribe {model}".rstrip(), attributes)
        self._first = samples

    def end(self, samples: int, failure: BaseException | None = None, outcome: str = "") -> None:
        """Ends it at the sample that was heard last; `outcome` is that of its row of usage, if this ends it."""
        if self._span is not None:
            kind = outcome if outcome in ("error", "interrupted") else None
            heard_s = (samples - self._first) / SAMPLE_RATE
            self._span.end({"trilane.audio.seconds": heard_s, "trilane.outcome": outcome}, failure or kind)
