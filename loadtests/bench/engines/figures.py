"""The README's figures of the engines: what each costs, and what it carries, side by side."""

from loadtests.bench.engines.cases import WORKERS
from loadtests.bench.engines.producers import PRODUCERS
from loadtests.bench.engines.table import of_bare, with_store
from loadtests.bench.harness.records import Record
from loadtests.bench.report.blocks import Block, BlockRow, by_target
from loadtests.bench.report.rows import Figure, at

TITLES = {"memory": "memory", "sqlite": "SQLite", "redis": "Redis", "postgres": "PostgreSQL"}


def _append(producers: int) -> list[BlockRow]:
    path, who = ("append", str(producers)), "1 producer" if producers == 1 else f"{producers} producers"
    return [
        BlockRow(f"{who}: appends/s", "append", [at(*path, "per_s")]),
        BlockRow(f"{who}: append p50 / p99, ms", "append", [at(*path, "p50_ms"), at(*path, "p99_ms")]),
        BlockRow(f"{who}: of what the server does bare", "append", [of_bare(producers)]),
    ]


def _both(case: str, *path: str) -> list[Figure]:
    return [at(case, *path, quantile) for quantile in ("p50", "p99")]


ROWS = (
    *(row for producers in PRODUCERS for row in _append(producers)),
    BlockRow(
        "CPU of an append there, ours / the server's, µs",
        "append",
        [at("append", "100", "us_per_append"), with_store(at("append", "100", "store_us_per_append"))],
    ),
    BlockRow("publish to a socket of another process, p50 / p99, ms", "relay", _both("relay", "delay_ms")),
    BlockRow("deliveries/s to 1,000 readers, p99 below 100 ms", "fan", [at("fan", "best", "deliveries_per_s")]),
    BlockRow("first token, 1 stream, p50 / p99, ms", "first", _both("first", "one", "ttft_ms")),
    BlockRow("first token, 100 streams of 50 tokens/s, p50 / p99, ms", "first", _both("first", "hundred", "ttft_ms")),
    BlockRow("11,000 tokens/s sent: carried, 1/s", "carry", [at("carry", "tokens_per_s")]),
    BlockRow("CPU per token there, µs", "carry", [at("carry", "server_us_per_token")]),
    BlockRow(
        "CPU per token with one worker / two, 3,000 tokens/s each, µs",
        "workers",
        [at("workers", name, "server_us_per_token") for name in WORKERS],
    ),
)


def engines(records: list[Record]) -> Block:
    """Shows a column for each engine."""
    return Block(by_target(ROWS, records, TITLES))
