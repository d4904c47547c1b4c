"""The table shows the figures of the events benchmark, and their goals.

"Of Nchan" is the ratio to Nchan in the same round.
"""

from loadtests.bench.report.rows import Row, at, only, ratio
from loadtests.bench.report.table import Table


def _fan_out(readers: int, of_nchan: float) -> list[Row]:
    case = f"fan-{readers}"
    top, cost, cpu_us = (
        at(case, *path)
        for path in (("best", "deliveries_per_s"), ("best", "us_per_delivery"), ("fixed", "us_per_delivery"))
    )
    return [
        Row(f"{readers:,} readers: deliveries/s, p99 < 100 ms", top, "{:,.0f}"),
        Row("  of Nchan", ratio(top, "nchan"), goal=of_nchan, at_most=False),
        Row("  server CPU µs/delivery there", cost),
        Row("  of Nchan", ratio(cost, "nchan"), goal=1.0),
        Row("  server core there", at(case, "best", "server_core")),
        Row("  client core there", at(case, "best", "client_core")),
        Row("  at 60,000/s: CPU µs/delivery", cpu_us),
        Row("  of Nchan", ratio(cpu_us, "nchan"), goal=1.0),
        Row("  at 60,000/s: p50 ms", at(case, "fixed", "delay_ms", "p50")),
        Row("  at 60,000/s: p99 ms", at(case, "fixed", "delay_ms", "p99")),
    ]


_idle = at("idle", "kib", "10000")
ROWS = (
    Row("10,000 idle streams: KiB each", _idle, goal=5.0),
    Row("  as plain ASGI", only("plain", _idle), goal=14.0, judged="plain"),
    Row("  1,000: KiB each", at("idle", "kib", "1000")),
    Row("  process before, MiB", at("idle", "base_mib"), "{:.1f}"),
    Row("  accepts/s", at("idle", "accepts_per_s"), "{:,.0f}", goal=4000, at_most=False),
    Row("  server CPU µs/accept", at("idle", "us_per_accept"), "{:.0f}"),
    *_fan_out(1000, 1.1),
    *_fan_out(5000, 0.85),
    Row("a slow reader of 1,000: p99 ms without", at("slow", "p99_ms")),
    Row("  p99 beside it, of that without", at("slow", "ratio"), goal=1.2),
    Row("  events that it was behind", at("slow", "behind"), "{:.0f}"),
    Row("  up to date again after, s", at("slow", "caught_up_s")),
    Row("5,000 come back at once: all live after s", at("storm", "live_s")),
    Row("  all up to date after s", at("storm", "up_s"), goal=5.0),
    Row("  server CPU µs/reader", at("storm", "us_per_reader"), "{:.0f}"),
    Row("publish, 200/s: p50 to the socket, ms", at("publish", "single", "delay_ms", "p50")),
    Row("  p99 ms", at("publish", "single", "delay_ms", "p99")),
    Row("  one after the other: events/s", at("publish", "single_top", "events_per_s"), "{:,.0f}"),
    Row("  batches of 100, 15,000/s: p50 to the socket, ms", at("publish", "batched", "delay_ms", "p50"), goal=5.0),
    Row("    p99 ms", at("publish", "batched", "delay_ms", "p99")),
    Row(
        "  batches, one after the other: events/s",
        at("publish", "batched_top", "events_per_s"),
        "{:,.0f}",
        goal=15_000,
        at_most=False,
    ),
    Row("replay from memory, events/s", at("replay", "memory"), "{:,.0f}", goal=300_000, at_most=False),
    Row("replay from SQLite, events/s", at("replay", "log"), "{:,.0f}", goal=50_000, at_most=False),
    Row("  the first time after the start", at("replay", "log_first"), "{:,.0f}"),
)
TABLE = Table(ROWS, faults="events lost, doubled, wrong; streams cut")
