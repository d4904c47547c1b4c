"""The table shows the figures of the audio benchmark: ours, their goals, and WhisperLive's beside them."""

from loadtests.bench.audio.conditions import CONDITIONS
from loadtests.bench.harness.records import Record, Round
from loadtests.bench.report.rows import Figure, Row, at, beyond, percent
from loadtests.bench.report.table import Table

SLACK_S = 0.1
"""Seconds that the client may be late with a frame before its figures are in doubt."""
SOUNDS = ("silence", "white noise", "50 Hz hum", "clicks", "tones")
Goals = tuple[float | None, float | None]
"""Goals of p50 and p90, in seconds."""


def wrong(kind: str) -> Figure:
    """Returns the words wrong of one kind of recordings, in per cent."""
    return percent(at("accuracy", "wer", kind, "rate"))


def _half(case: str, which: int) -> Figure:
    halves = at(case, "stable_halves_s")

    def figure(turn: dict[str, Record], target: str) -> float | None:
        both = halves(turn, target)
        return both[which]["p90"] if isinstance(both, list) else None

    return figure


def _accuracy() -> list[Row]:
    rows: list[Row] = []
    for kind in (*CONDITIONS, "all"):
        rows.append(Row(f"words wrong, {kind}, %", wrong(kind)))
        rows.append(Row("  from, in 95 % of drawings", percent(at("accuracy", "wer", kind, "low"))))
        rows.append(Row("  to", percent(at("accuracy", "wer", kind, "high"))))
        rows.append(Row("  points above the whole file", beyond(wrong(kind), "offline"), "{:+.2f}", goal=1.0))
    return [
        *rows,
        Row("stable words that the final changed, %", percent(at("accuracy", "stable_changed")), goal=0.5),
        Row("  word stable, p50 s", at("accuracy", "stable_s", "p50"), goal=0.8),
        Row("  word stable, p90 s", at("accuracy", "stable_s", "p90"), goal=1.3),
        Row("start of a word beside the whole file's, p50 s", at("accuracy", "start_off_s", "p50"), goal=0.1),
        Row("  p99 s", at("accuracy", "start_off_s", "p99"), goal=0.3),
        Row("  words without length", at("accuracy", "without_length"), "{:.0f}", goal=0),
        Row("speech that is no word and no gap, s", at("accuracy", "alone_s"), "{:.1f}", goal=0),
        Row("  gaps, s", at("accuracy", "gap_s"), "{:.1f}"),
    ]


def _latency(sessions: int, first: Goals, stable: Goals, final: Goals) -> list[Row]:
    case = f"latency-{sessions}"
    rows: list[Row] = []
    for label, name, goals in (
        ("first text", "first_s", first),
        ("word stable", "stable_s", stable),
        ("final", "final_s", final),
    ):
        rows.append(Row(f"{label}, {sessions} speaking, p50 s", at(case, name, "p50"), goal=goals[0]))
        rows.append(Row(f"  {label}, p90 s", at(case, name, "p90"), goal=goals[1]))
    return [
        *rows,
        Row("  word stable, first half, p90 s", _half(case, 0)),
        Row("  word stable, second half, p90 s", _half(case, 1)),
        Row("  messages of lag", at(case, "lag_messages"), "{:.0f}"),
        Row("  server CPU s per s of audio", at(case, "cpu_per_audio_s"), "{:.3f}"),
    ]


def _silence() -> list[Row]:
    rows: list[Row] = []
    for name in SOUNDS:
        rows.append(Row(f"{name}: words", at("silence", name, "words"), "{:.0f}", goal=0))
        rows.append(Row("  of a core, %", percent(at("silence", name, "core")), goal=1.0))
    return rows


def _strain() -> tuple[Row, ...]:
    return (
        Row("an hour's file: seconds of it in a second", _pace),
        Row("  MiB more while it is read", _more_while_read),
        Row("  left behind, % of memory", percent(at("upload", "file_left")), "{:+.1f}", goal=5),
        Row("beside a hostile client: word stable, p90, % later", percent(at("hostile", "change")), "{:+.0f}", goal=20),
        Row("twice as many as fit: admitted", at("overload", "admitted"), "{:.0f}"),
        Row("  refused", at("overload", "refused"), "{:.0f}"),
        Row("  refused after, p90 s", at("overload", "refused_s", "p90"), goal=0.1),
        Row("  word stable for those admitted, p90 s", at("overload", "stable_s", "p90"), goal=2.5),
        Row("  audio of theirs not heard, s", at("overload", "gap_s"), goal=0),
    )


def _pace(turn: Round, target: str) -> float | None:
    took_s = at("upload", "file_took_s")(turn, target)
    seconds = at("upload", "file_s")(turn, target)
    return seconds / took_s if seconds and took_s else None


def _more_while_read(turn: Round, target: str) -> float | None:
    """Returns MiB of memory at its most while a file is read, beyond what it was before."""
    most, before = (at("upload", name)(turn, target) for name in ("file_most_mib", "file_before_mib"))
    return None if most is None or before is None else most - before


def _peers(clients: int) -> list[Row]:
    case, rival = f"peers-{clients}", "whisperlive"
    return [
        Row(f"{clients} clients: first text, p50 s", at(case, "first_s", "p50"), rival=rival),
        Row("  word there for good, p50 s", at(case, "word_s", "p50"), rival=rival),
        Row("  word there for good, p90 s", at(case, "word_s", "p90"), rival=rival),
        Row("  final after speech, p50 s", at(case, "final_s", "p50"), rival=rival),
        Row("  final after speech, p90 s", at(case, "final_s", "p90"), rival=rival),
        Row("  recordings never final", at(case, "without_final"), "{:.0f}", rival=rival),
        Row("  words wrong, %", percent(at(case, "wer", "all", "rate")), rival=rival),
        Row("  server CPU s per s of audio", at(case, "cpu_per_audio_s"), "{:.3f}", rival=rival),
        Row("  bytes received per s of audio", at(case, "bytes_per_audio_s"), "{:.0f}", rival=rival),
    ]


ROWS = (
    *_accuracy(),
    *_latency(1, (1.2, None), (0.8, 1.2), (0.9, 1.3)),
    *_latency(8, (None, None), (None, 2.5), (None, 2.5)),
    Row("sessions while words are stable within 2 s (p90)", at("capacity", "sessions"), "{:.0f}"),
    Row("  per core", at("capacity", "per_core"), "{:.1f}"),
    *_silence(),
    Row("open session, KiB", at("memory", "kib_started"), "{:.1f}", goal=40),
    Row("  after 3 s of audio", at("memory", "kib_heard"), "{:.1f}", goal=40),
    Row("  process before, MiB", at("memory", "base_mib"), "{:.0f}"),
    Row("left by closed sessions, % of memory", percent(at("memory", "left")), "{:+.1f}", goal=5),
    *_strain(),
    *(row for clients in (1, 4, 8) for row in _peers(clients)),
)


def _notes(records: list[Record]) -> list[str]:
    notes = [
        f"{r['case']}: every step kept up; more than {r['figures']['sessions']} sessions were not tried"
        for r in records
        if r["case"] == "capacity" and not r["figures"]["crossed"]
    ]
    late = [r for r in records if (r["figures"].get("late_s") or 0) > SLACK_S]
    if late:
        cases = ", ".join(f"{r['case']} ({r['target']}, {r['figures']['late_s']:.2f} s)" for r in late)
        notes.append(f"the client was late with frames, so these delays are too long: {cases}")
    return notes


TABLE = Table(ROWS, faults="faults", titles={"offline": "whole files"}, notes=_notes)
