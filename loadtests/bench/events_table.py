"""The figures of an events benchmark as text. "Of Nchan" is the ratio to Nchan in the same round."""

from typing import Any

from loadtests.bench.layout import NOISY_CORES, Figure, Record, Round, Row, aligned, line


def _at(case: str, *path: str) -> Figure:
    """A figure of one case, where the target has it."""

    def figure(turn: Round, target: str) -> float | None:
        value: Any = turn[target].get(case)
        for name in path:
            value = value.get(name) if value else None
        return value

    return figure


def _of_nchan(plain: Figure) -> Figure:
    def figure(turn: Round, target: str) -> float | None:
        if "nchan" not in turn or target == "nchan":
            return None
        ours, theirs = plain(turn, target), plain(turn, "nchan")
        return None if ours is None or not theirs else ours / theirs

    return figure


def _only(name: str, plain: Figure) -> Figure:
    return lambda turn, target: plain(turn, target) if target == name else None


def _fan_out(readers: int, of_nchan: float) -> list[Row]:
    case = f"fan-{readers}"
    top, cost, fixed = (
        _at(case, *path)
        for path in (("best", "deliveries_per_s"), ("best", "us_per_delivery"), ("fixed", "us_per_delivery"))
    )
    return [
        Row(f"{readers:,} readers: deliveries/s, p99 < 100 ms", top, "{:,.0f}"),
        Row("  of Nchan", _of_nchan(top), goal=of_nchan, at_most=False),
        Row("  server CPU µs/delivery there", cost),
        Row("  of Nchan", _of_nchan(cost), goal=1.0),
        Row("  server core there", _at(case, "best", "server_core")),
        Row("  client core there", _at(case, "best", "client_core")),
        Row("  at 60,000/s: CPU µs/delivery", fixed),
        Row("  of Nchan", _of_nchan(fixed), goal=1.0),
        Row("  at 60,000/s: p50 ms", _at(case, "fixed", "delay_ms", "p50")),
        Row("  at 60,000/s: p99 ms", _at(case, "fixed", "delay_ms", "p99")),
    ]


_idle = _at("idle", "kib", "10000")
ROWS = (
    Row("10,000 idle streams: KiB each", _idle, goal=5.0),
    Row("  as plain ASGI", _only("plain", _idle), goal=14.0, judged="plain"),
    Row("  1,000: KiB each", _at("idle", "kib", "1000")),
    Row("  process before, MiB", _at("idle", "base_mib"), "{:.1f}"),
    Row("  accepts/s", _at("idle", "accepts_per_s"), "{:,.0f}", goal=4000, at_most=False),
    Row("  server CPU µs/accept", _at("idle", "us_per_accept"), "{:.0f}"),
    *_fan_out(1000, 1.1),
    *_fan_out(5000, 0.85),
    Row("a slow reader of 1,000: p99 ms without", _at("slow", "p99_ms")),
    Row("  p99 beside it, of that without", _at("slow", "ratio"), goal=1.2),
    Row("  events that it was behind", _at("slow", "behind"), "{:.0f}"),
    Row("  up to date again after, s", _at("slow", "caught_up_s")),
    Row("5,000 come back at once: all live after s", _at("storm", "live_s")),
    Row("  all up to date after s", _at("storm", "up_s"), goal=5.0),
    Row("  server CPU µs/reader", _at("storm", "us_per_reader"), "{:.0f}"),
    Row("publish, 200/s: p50 to the socket, ms", _at("publish", "single", "delay_ms", "p50")),
    Row("  p99 ms", _at("publish", "single", "delay_ms", "p99")),
    Row("  one after the other: events/s", _at("publish", "single_top", "events_per_s"), "{:,.0f}"),
    Row("  batches of 100, 15,000/s: p50 to the socket, ms", _at("publish", "batched", "delay_ms", "p50"), goal=5.0),
    Row("    p99 ms", _at("publish", "batched", "delay_ms", "p99")),
    Row(
        "  batches, one after the other: events/s",
        _at("publish", "batched_top", "events_per_s"),
        "{:,.0f}",
        goal=15_000,
        at_most=False,
    ),
    Row("replay from memory, events/s", _at("replay", "memory"), "{:,.0f}", goal=300_000, at_most=False),
    Row("replay from SQLite, events/s", _at("replay", "log"), "{:,.0f}", goal=50_000, at_most=False),
    Row("  the first time after the start", _at("replay", "log_first"), "{:,.0f}"),
)


def render(records: list[Record], absent: dict[str, str]) -> str:
    """The whole table, and below it what a reader must know before believing it."""
    good = _calmest([record for record in records if "error" not in record])
    names = list(dict.fromkeys(record["target"] for record in good))
    rounds = _by_round(good)
    body = [line(row, names, absent, rounds) for row in ROWS]
    body = [cells for cells in body if any(cell != "-" for cell in cells[1 : len(names) + 1])]
    faults = ["events lost, doubled, wrong; streams cut", *(str(_faults(good, name)) for name in names)]
    body.append([*faults, *("-" for _ in absent), "0", ""])
    return "\n".join([aligned([["", *names, *absent, "goal", ""], *body]), *_notes(records, good, absent)])


def progress(record: Record) -> str:
    """One line while the benchmark runs."""
    start = f"round {record['round'] + 1} {record['case']:9} {record['target']:8} {record['took_s']:5.1f} s | "
    if "error" in record:
        return start + record["error"]
    one: Round = {record["target"]: {record["case"]: record["figures"]}}
    said = [
        f"{row.label.strip()} {row.form.format(value)}"
        for row in ROWS
        if (value := row.figure(one, record["target"])) is not None and "core" not in row.label
    ]
    faults = "".join(f" | {name} {count:,}" for name, count in record["faults"].items())
    return f"{start}{' | '.join(said)}{faults} | other work {record['foreign_cores']:.2f} cores"


def _faults(records: list[Record], name: str) -> int:
    return sum(sum(record["faults"].values()) for record in records if record["target"] == name)


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
    notes = [f"{name}: {why} (Debian: apt install nginx-light libnginx-mod-nchan)" for name, why in absent.items()]
    notes += [f"{r['case']}, {r['target']}, round {r['round'] + 1}: {r['error']}" for r in records if "error" in r]
    noisy = [record for record in used if record["foreign_cores"] > NOISY_CORES]
    if noisy:
        notes.append(
            f"{len(noisy)} of {len(used)} measurements shared the machine with other work of more than "
            f"{NOISY_CORES} cores: repeat on a quiet one before believing the tails."
        )
    return notes
