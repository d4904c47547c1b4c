"""The README's figures of the events lane show the cost of streams and deliveries, and minutes of silence."""

from loadtests.bench.harness.records import Record
from loadtests.bench.report import plot
from loadtests.bench.report.blocks import Block, BlockRow, by_target, cell, median
from loadtests.bench.report.plot import Bar
from loadtests.bench.report.rows import at
from loadtests.bench.report.text import markdown, rounded

TITLES = {
    "trilane": "Trilane",
    "plain": "Trilane on plain ASGI",
    "nchan": "nginx + Nchan",
    "fastapi": "FastAPI + sse-starlette",
    "litestar": "Litestar channels",
}
IN_TIME = "deliveries/s to {:,} readers, p99 below 100 ms"


def _fan(readers: int) -> BlockRow:
    case = f"fan-{readers}"
    return BlockRow(IN_TIME.format(readers), case, [at(case, "best", "deliveries_per_s")], lacking="none in time")


ROWS = (
    BlockRow("memory of an idle stream, 10,000 open, KiB", "idle", [at("idle", "kib", "10000")]),
    BlockRow("new streams per second", "idle", [at("idle", "accepts_per_s")]),
    _fan(1000),
    BlockRow("CPU of a delivery there, µs", "fan-1000", [at("fan-1000", "best", "us_per_delivery")]),
    _fan(5000),
    BlockRow("5,000 readers who lost their connection at once are up to date after, s", "storm", [at("storm", "up_s")]),
    BlockRow("publish to socket, 200 events/s, p50, ms", "publish", [at("publish", "single", "delay_ms", "p50")]),
    BlockRow(
        "publishing in lists of 100, 15,000 events/s, p50 to the socket, ms",
        "publish",
        [at("publish", "batched", "delay_ms", "p50")],
    ),
    BlockRow("replay from memory, events/s", "replay", [at("replay", "memory")]),
    BlockRow("replay from the log, events/s", "replay", [at("replay", "log")]),
)


def deliveries(records: list[Record]) -> Block:
    """Shows what streams and deliveries cost, and plots the highest rates of deliveries."""
    bars: list[Bar] = []
    for readers in (1000, 5000):
        row = _fan(readers)
        for name, title in TITLES.items():
            if text := cell(row, records, name):
                value = median(row.figures[0], records, row.case, name)
                bars.append(Bar(title, value, f"{readers:,} readers", text, ours=name == "trilane"))
    svg = plot.bars("Deliveries per second, while 99 % arrive within 100 ms", bars, "deliveries/s")
    return Block(by_target(ROWS, records, TITLES), svg)


def scale(records: list[Record]) -> Block:
    """Shows minutes of silence: a column for each layout."""
    newest = {one["case"]: one for one in sorted(records, key=lambda one: one["time"]) if "figures" in one}
    columns = [_silence(record) for record in newest.values()]
    rows = [[label, *(column[label] for column in columns)] for label in columns[0]]
    return Block(markdown(["", *(_streams(name) for name in newest)], rows))


def _streams(case: str) -> str:
    streams, _, processes = case.removeprefix("scale-").partition("x")
    return f"{int(streams):,} streams, {processes} {'process' if processes == '1' else 'processes'}"


def _silence(record: Record) -> dict[str, str]:
    figures = record["figures"]
    rows = figures["rows"]
    rows_with_pings = [row for row in rows if row["pings"]]
    first, last = min(row["ping_min_s"] for row in rows_with_pings), max(row["ping_max_s"] for row in rows_with_pings)
    core = sum(row["core"] for row in rows_with_pings) / len(rows_with_pings)
    minutes = f"{rows[-1]['after_s'] / 60:.0f}"
    return {
        f"memory of a stream after {minutes} minutes, KiB": rounded(rows[-1]["kib"]),
        "of a core, pings included": rounded(core),
        "pings, and the silence before them, s": f"{sum(r['pings'] for r in rows):,.0f}, {first:.1f} to {last:.1f}",
        "the event after it reached": f"{min(figures['reached'], figures['wanted']):,} of {figures['wanted']:,}",
    }
