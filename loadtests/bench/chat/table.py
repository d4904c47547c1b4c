"""The figures of the chat benchmark, and what they are held to.

"Added" is the difference to `direct`, "of nginx" and "of a plain relay" the ratio to them, each in the same round.
"""

from loadtests.bench.harness.records import Round
from loadtests.bench.report.rows import Figure, Row, at, beyond, ratio
from loadtests.bench.report.table import Table

WANTED = 15_000
"""Tokens a second of the case `paced`."""


def added(case: str, kind: str, quantile: str) -> Figure:
    """Returns the ms that a target adds to a time of the client on the upstream itself."""
    return beyond(at(case, kind, quantile), "direct")


def served(turn: Round, target: str) -> float | None:
    """Returns the share of the tokens asked for that came in time; at most 1."""
    rate = at("paced", "tokens_per_s")(turn, target)
    return None if rate is None else min(1.0, rate / WANTED)


def _tokens_per_frame(turn: Round, target: str) -> float | None:
    case = turn[target].get("burst")
    return case["tokens"] / case["frames"] if case and case["frames"] else None


def memory(name: str) -> Figure:
    """Returns MB of the server, in the case with the most streams; the upstream alone has none."""
    return lambda turn, target: at("paced", name)(turn, target) or None


def _first_token(case: str, streams: str, goals: tuple[float | None, float | None]) -> tuple[Row, ...]:
    plain = added(case, "ttft_ms", "p50")
    return (
        Row(f"first token, {streams}, p50 ms", at(case, "ttft_ms", "p50")),
        Row("  added p50 ms", plain, goal=goals[0]),
        Row("  added p99 ms", added(case, "ttft_ms", "p99"), goal=goals[1]),
        Row("  added p50, of a plain relay", ratio(plain, "litestar"), goal=0.75),
    )


_burst = at("burst", "tokens_per_s")
ROWS = (
    *_first_token("one", "1 stream", (None, None)),
    *_first_token("hundred", "100 streams", (1.5, 8.0)),
    Row("  server CPU µs/token", at("hundred", "server_us_per_token"), "{:.1f}"),
    Row("burst, 20 streams, upstream chunks/s", _burst, "{:,.0f}", goal=25_000, at_most=False),
    Row("  tokens in one SSE event", _tokens_per_frame),
    Row("  of nginx", ratio(_burst, "nginx"), "{:.3f}", goal=0.12, at_most=False),
    Row("  server CPU µs/token", at("burst", "server_us_per_token"), "{:.1f}"),
    Row("300 streams, token lag p50 ms", at("paced", "lag_ms", "p50")),
    Row("  token lag p99 ms", at("paced", "lag_ms", "p99")),
    Row("  added lag p99 ms", added("paced", "lag_ms", "p99"), goal=25.0),
    Row(f"  tokens/s ({WANTED:,} wanted)", at("paced", "tokens_per_s"), "{:,.0f}"),
    Row("  server CPU µs/token", at("paced", "server_us_per_token"), "{:.1f}"),
    Row("  server core", at("paced", "server_core")),
    Row("memory idle, MB", memory("rss_idle_mb"), "{:.1f}", goal=90.0),
    Row("memory after, MB", memory("rss_after_mb"), "{:.1f}"),
)
TABLE = Table(ROWS, faults="bad streams")
