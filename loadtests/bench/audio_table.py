"""The figures of an audio benchmark as text: ours, what they are held to, and WhisperLive's beside them."""

from typing import Any

from loadtests.bench.audio_speech import KINDS
from loadtests.bench.layout import NOISY_CORES, Figure, Record, Round, Row, aligned, line

SLACK_S = 0.1
"""How late the client may be with a frame before its figures are in doubt."""


def _at(case: str, *path: str) -> Figure:
    """A figure of one case, where the target has it."""

    def figure(turn: Round, target: str) -> float | None:
        value: Any = turn[target].get(case)
        for name in path:
            value = value.get(name) if value else None
        return value

    return figure


def _percent(figure: Figure) -> Figure:
    def found(turn: Round, target: str) -> float | None:
        value = figure(turn, target)
        return None if value is None else 100 * value

    return found


def _above_offline(kind: str) -> Figure:
    rate = _percent(_at("accuracy", "wer", kind, "rate"))

    def figure(turn: Round, target: str) -> float | None:
        if "offline" not in turn or target == "offline":
            return None
        ours, whole = rate(turn, target), rate(turn, "offline")
        return None if ours is None or whole is None else ours - whole

    return figure


def _half(case: str, which: int) -> Figure:
    halves = _at(case, "stable_halves_s")

    def figure(turn: Round, target: str) -> float | None:
        found: Any = halves(turn, target)
        return found[which]["p90"] if found else None

    return figure


def _accuracy() -> list[Row]:
    rows: list[Row] = []
    for kind in (*KINDS, "all"):
        rows.append(Row(f"words wrong, {kind}, %", _percent(_at("accuracy", "wer", kind, "rate"))))
        rows.append(
            Row("  points above the whole file", _above_offline(kind), "{:+.2f}", 0.5 if kind == "all" else None)
        )
    return rows


def _latency(sessions: int, first: tuple[float, float], stable: tuple[float, ...], final: tuple[float, float]):
    """Rows of so many sessions; a goal of 0 is none."""
    case = f"latency-{sessions}"
    goals = zip(("first_s", "stable_s", "final_s"), (first, stable, final), strict=True)
    labels = {"first_s": "first text", "stable_s": "word stable", "final_s": "final"}
    rows = [
        Row(
            f"{labels[name]}, {sessions} speaking, {quantile} s"
            if quantile == "p50"
            else f"  {labels[name]}, {quantile} s",
            _at(case, name, quantile),
            goal=goal or None,
        )
        for name, pair in goals
        for quantile, goal in zip(("p50", "p90"), pair, strict=True)
    ]
    return [
        *rows,
        Row("  word stable, first half, p90 s", _half(case, 0)),
        Row("  word stable, second half, p90 s", _half(case, 1)),
        Row("  messages of lag", _at(case, "lag_messages"), "{:.0f}"),
        Row("  server CPU s per s of audio", _at(case, "cpu_per_audio_s"), "{:.3f}"),
    ]


def _silence() -> list[Row]:
    rows: list[Row] = []
    for name in ("silence", "white noise", "50 Hz hum", "clicks", "tones"):
        rows.append(Row(f"{name}: words", _at("silence", name, "words"), "{:.0f}", goal=0))
        rows.append(Row("  of a core, %", _percent(_at("silence", name, "core")), goal=1.0))
    return rows


ROWS = (
    *_accuracy(),
    *_latency(1, (1.2, 0), (0.8, 1.2), (0.9, 1.3)),
    *_latency(8, (0, 0), (0, 2.5), (0, 2.5)),
    Row("sessions while words are stable within 2 s (p90)", _at("capacity", "sessions"), "{:.0f}"),
    Row("  per core", _at("capacity", "per_core"), "{:.1f}"),
    *_silence(),
    Row("open session, KiB", _at("memory", "kib_started"), "{:.1f}", goal=40),
    Row("  after 3 s of audio", _at("memory", "kib_heard"), "{:.1f}", goal=40),
    Row("  process before, MiB", _at("memory", "base_mib"), "{:.0f}"),
    Row("left by closed sessions, % of memory", _percent(_at("memory", "left")), "{:+.1f}", goal=5),
)


def _peers(clients: int) -> list[Row]:
    case = f"peers-{clients}"
    return [
        Row(f"{clients} clients: first text, p50 s", _at(case, "first_s", "p50")),
        Row("  word there for good, p50 s", _at(case, "word_s", "p50")),
        Row("  word there for good, p90 s", _at(case, "word_s", "p90")),
        Row("  final after speech, p50 s", _at(case, "final_s", "p50")),
        Row("  final after speech, p90 s", _at(case, "final_s", "p90")),
        Row("  recordings never final", _at(case, "without_final"), "{:.0f}"),
        Row("  words wrong, %", _percent(_at(case, "wer", "all", "rate"))),
        Row("  server CPU s per s of audio", _at(case, "cpu_per_audio_s"), "{:.3f}"),
        Row("  bytes received per s of audio", _at(case, "bytes_per_audio_s"), "{:.0f}"),
    ]


PEERS = [row for clients in (1, 4, 8) for row in _peers(clients)]


def render(records: list[Record], absent: dict[str, str]) -> str:
    """The whole table, and below it what a reader must know before believing it."""
    good = _calmest([record for record in records if "error" not in record])
    rounds = _by_round(good)
    names = [name for name in ("trilane", "offline", "whisperlive") if any(name in turn for turn in rounds)]
    body = [_line(row, names, rounds) for row in (*ROWS, *PEERS)]
    body = [cells for cells in body if any(cell != "-" for cell in cells[1 : len(names) + 1])]
    faults = ["faults", *(str(sum(sum(r["faults"].values()) for r in good if r["target"] == n)) for n in names)]
    titles = {"offline": "whole files"}
    head = ["", *(titles.get(name, name) for name in names), "goal", ""]
    return "\n".join([aligned([head, *body, [*faults, "0", ""]]), *_notes(records, good, absent)])


def progress(record: Record) -> str:
    """One line while the benchmark runs."""
    start = f"round {record['round'] + 1} {record['case']:9} {record['target']:11} {record['took_s']:5.1f} s | "
    if "error" in record:
        return start + record["error"]
    one: Round = {record["target"]: {record["case"]: record["figures"]}}
    said = [
        f"{row.label.strip()} {row.form.format(value)}"
        for row in (*ROWS, *PEERS)
        if (value := row.figure(one, record["target"])) is not None
    ]
    faults = "".join(f" | {name}: {count}" for name, count in record["faults"].items())
    return f"{start}{' | '.join(said)}{faults} | other work {record['foreign_cores']:.2f} cores"


def _line(row: Row, names: list[str], rounds: list[Round]) -> list[str]:
    """Beside WhisperLive, the goal is to be no worse."""
    cells = line(row, names, {}, rounds)
    if row not in PEERS:
        return cells
    pairs = [(row.figure(turn, "trilane"), row.figure(turn, "whisperlive")) for turn in rounds if _both(turn)]
    known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    if known:
        better = sum(ours <= theirs for ours, theirs in known) * 2 > len(known)
        cells[-2:] = ["≤ WhisperLive", "met" if better else "MISSED"]
    return cells


def _both(turn: Round) -> bool:
    return "trilane" in turn and "whisperlive" in turn


def _calmest(records: list[Record]) -> list[Record]:
    """Of the attempts at one measurement the one that other work disturbed least."""
    found: dict[tuple[int, str, str], Record] = {}
    for record in sorted(records, key=lambda record: record["foreign_cores"], reverse=True):
        found[record["round"], record["case"], record["target"]] = record
    return [record for record in records if record in found.values()]


def _by_round(records: list[Record]) -> list[Round]:
    rounds: dict[int, Round] = {}
    for record in records:
        rounds.setdefault(record["round"], {}).setdefault(record["target"], {})[record["case"]] = record["figures"]
    return list(rounds.values())


def _notes(records: list[Record], used: list[Record], absent: dict[str, str]) -> list[str]:
    notes = [f"{name}: {why}" for name, why in absent.items()]
    notes += [f"{r['case']}, {r['target']}, round {r['round'] + 1}: {r['error']}" for r in records if "error" in r]
    notes += [
        f"{r['case']}, {r['target']}, round {r['round'] + 1}: {name}: {count}"
        for r in used
        for name, count in r["faults"].items()
    ]
    notes += [
        f"{r['case']}: every step kept up; more than {r['figures']['sessions']} sessions were not tried"
        for r in used
        if r["case"] == "capacity" and not r["figures"]["crossed"]
    ]
    late = [r for r in used if (r["figures"].get("late_s") or 0) > SLACK_S]
    if late:
        cases = ", ".join(f"{r['case']} ({r['target']}, {r['figures']['late_s']:.2f} s)" for r in late)
        notes.append(f"the client was late with frames, so these delays are too long: {cases}")
    if noisy := [r for r in used if r["foreign_cores"] > NOISY_CORES]:
        notes.append(
            f"{len(noisy)} of {len(used)} measurements shared the machine with other work of more than "
            f"{NOISY_CORES} cores: repeat on a quiet one before believing the delays."
        )
    return notes
