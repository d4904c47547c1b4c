"""The table of the engines benchmark has a column for each engine, and the goals of those on servers.

"Of the bare server" is the ratio to the same requests sent without our engine, in the same process and minute.
"""

from collections.abc import Sequence

from loadtests.bench.engines.producers import PRODUCERS
from loadtests.bench.harness.records import Round
from loadtests.bench.report.rows import Figure, Row, at, beyond, only, ratio
from loadtests.bench.report.table import Table

BARE_SHARE = 0.5
"""Part of the bare server's rate that an engine must reach."""
MAX_OF_ONE = 1.1
"""What a token may cost two workers, as a ratio to one with half of the load."""
WANTED_TOKENS = 10_000
"""Tokens a second that one process must carry, each of them in the log."""


def of_bare(producers: int) -> Figure:
    """Returns our rate as a ratio to the bare server's; None for engines that have no server."""
    ours, bare = at("append", str(producers), "per_s"), at("append", str(producers), "bare", "per_s")

    def figure(turn: Round, target: str) -> float | None:
        rates = ours(turn, target), bare(turn, target)
        return rates[0] / rates[1] if rates[0] is not None and rates[1] else None

    return figure


def _goals(
    label: str, figure: Figure, goals: dict[str, float], form: str = "{:.2f}", *, at_most: bool = True
) -> list[Row]:
    """Returns a row that judges the first engine, and one for each further engine with a goal of its own."""
    (name, goal), *others = goals.items()
    rows = [Row(label, figure, form, goal, at_most, name)]
    more = "  " * (1 + (len(label) - len(label.lstrip())) // 2)
    return rows + [Row(f"{more}{other}", only(other, figure), form, goal, at_most, other) for other, goal in others]


def _append(producers: int) -> list[Row]:
    path = ("append", str(producers))
    who = "1 producer" if producers == 1 else f"{producers} producers"
    return [
        Row(f"{who}: appends/s", at(*path, "per_s"), "{:,.0f}"),
        *_goals(
            "  of the bare server", of_bare(producers), dict.fromkeys(("redis", "postgres"), BARE_SHARE), at_most=False
        ),
        Row("  the bare server: appends/s", at(*path, "bare", "per_s"), "{:,.0f}"),
        Row("  append p50 ms", at(*path, "p50_ms")),
        Row("  append p99 ms", at(*path, "p99_ms")),
        Row("  CPU µs/append", at(*path, "us_per_append"), "{:.1f}"),
        Row("  the server's CPU µs/append", with_store(at(*path, "store_us_per_append")), "{:.1f}"),
    ]


def with_store(figure: Figure) -> Figure:
    """Returns a figure of the store's server, where there is one."""
    return lambda turn, target: figure(turn, target) or None


def _first(case: str, streams: str) -> Sequence[Row]:
    plain = at("first", case, "ttft_ms", "p50")
    return [
        Row(f"first token, {streams}, p50 ms", plain),
        Row("  more than on SQLite, p50 ms", beyond(plain, "sqlite"), goal=1.5, judged="redis"),
        Row("  more than on SQLite, p99 ms", beyond(at("first", case, "ttft_ms", "p99"), "sqlite")),
    ]


def _of_one(turn: Round, target: str) -> float | None:
    """Returns what a token costs two workers as a ratio to one."""
    one, two = (at("workers", name, "server_us_per_token")(turn, target) for name in ("one", "two"))
    return two / one if one and two is not None else None


_deliveries = at("fan", "best", "deliveries_per_s")
ROWS = (
    *(row for producers in PRODUCERS for row in _append(producers)),
    *_goals(
        "publish to a socket of another process, p50 ms", at("relay", "delay_ms", "p50"), {"redis": 3, "postgres": 10}
    ),
    *_goals("  p99 ms", at("relay", "delay_ms", "p99"), {"redis": 25, "postgres": 25}),
    Row("  the server's CPU µs/event", with_store(at("relay", "store_us_per_event")), "{:.0f}"),
    Row("1,000 readers: deliveries/s, p99 < 100 ms", _deliveries, "{:,.0f}"),
    Row("  of memory's", ratio(_deliveries, "memory"), goal=0.9, at_most=False, judged="redis"),
    Row("  CPU µs/delivery there", at("fan", "best", "us_per_delivery")),
    Row("  at 60,000/s: CPU µs/delivery", at("fan", "fixed", "us_per_delivery")),
    Row("  at 60,000/s: p99 ms", at("fan", "fixed", "delay_ms", "p99")),
    *_first("one", "1 stream"),
    *_first("hundred", "100 streams"),
    *_goals(
        "220 streams: tokens/s (11,000 sent)",
        at("carry", "tokens_per_s"),
        {"redis": WANTED_TOKENS},
        "{:,.0f}",
        at_most=False,
    ),
    Row("  token lag p50 ms", at("carry", "lag_ms", "p50")),
    Row("  token lag p99 ms", at("carry", "lag_ms", "p99")),
    Row("  CPU µs/token", at("carry", "server_us_per_token"), "{:.1f}"),
    Row("  of SQLite's", ratio(at("carry", "server_us_per_token"), "sqlite")),
    Row("two workers, 6,000 tokens/s: CPU µs/token", at("workers", "two", "server_us_per_token"), "{:.1f}"),
    *_goals("  of one worker's, 3,000 tokens/s", _of_one, dict.fromkeys(("sqlite", "redis", "postgres"), MAX_OF_ONE)),
)
TABLE = Table(ROWS, faults="streams and events not as they must be")
