"""The README's figures of the chat lane: what a gateway adds to a token, beside what others run."""

from collections.abc import Sequence

from loadtests.bench.chat.table import added, memory, served
from loadtests.bench.harness.records import Record, Round
from loadtests.bench.report import plot
from loadtests.bench.report.blocks import Block, BlockRow, by_target, cell, median
from loadtests.bench.report.plot import Range
from loadtests.bench.report.rows import at, values

TITLES = {
    "trilane": "Trilane",
    "nginx": "nginx, relaying bytes",
    "litestar": "plain relay",
    "fastapi": "FastAPI + sse-starlette",
    "ai-sdk": "AI SDK on Node",
    "litellm": "LiteLLM",
}


def _share(rounds: Sequence[Round], target: str) -> str:
    """Returns the share of its tokens, for the figure of a target that does not serve all of them in time."""
    shares = values(served, rounds, target)
    share = sum(shares) / len(shares)
    return "" if share > 0.98 else f" ({100 * share:.0f} % of the tokens)"


ROWS = (
    BlockRow(
        "added to the first token, 1 stream, p50 / p99, ms", "one", [added("one", "ttft_ms", q) for q in ("p50", "p99")]
    ),
    BlockRow(
        "added to the first token, 100 streams of 50 tokens/s, p50 / p99, ms",
        "hundred",
        [added("hundred", "ttft_ms", q) for q in ("p50", "p99")],
    ),
    BlockRow("burst, 20 streams, tokens/s", "burst", [at("burst", "tokens_per_s")]),
    BlockRow(
        "added to each token, 300 streams of 50 tokens/s, p99, ms",
        "paced",
        [added("paced", "lag_ms", "p99")],
        remark=_share,
    ),
    BlockRow("CPU per token there, µs", "paced", [at("paced", "server_us_per_token")]),
    BlockRow("memory, idle, MB", "paced", [memory("rss_idle_mb")]),
)


def tokens(records: list[Record]) -> Block:
    """Returns what each target adds to a token as a table, and what it adds to the first as a plot."""
    ranges: list[Range] = []
    for case, group in (("one", "1 stream"), ("hundred", "100 streams of 50 tokens/s")):
        for name, title in TITLES.items():
            ends = [median(added(case, "ttft_ms", q), records, case, name) for q in ("p50", "p99")]
            if any(record["target"] == name for record in records):
                note = cell(BlockRow("", case, []), records, name)
                ranges.append(Range(title, ends[0], ends[1], group, note, ours=name == "trilane"))
    svg = plot.ranges("Added to the first token: half of them (full dots), 99 % (open)", ranges, "milliseconds")
    return Block(by_target(ROWS, records, TITLES), svg)
