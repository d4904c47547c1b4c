"""The README's figures of asks and steers: what they cost, and whether one answer counts."""

from loadtests.bench.harness.records import Record
from loadtests.bench.report.blocks import Block, BlockRow, by_target
from loadtests.bench.report.rows import at

ROWS = (
    BlockRow("first token after a question, p50, ms", "answer", [at("answer", "question", "p50_ms")]),
    BlockRow("after a client's result, later by, ms", "answer", [at("answer", "more_ms", "result")]),
    BlockRow("after a refusal, later by, ms", "answer", [at("answer", "more_ms", "denial")]),
    BlockRow(
        "after an approval and the call that it allows, later by, ms", "answer", [at("answer", "more_ms", "approval")]
    ),
    BlockRow("after a refusal on another device, later by, ms", "answer", [at("answer", "more_ms", "elsewhere")]),
    BlockRow("memory of a chat that waits for an answer, KiB", "parked", [at("parked", "each_kib")]),
    BlockRow("1,000 asks, 8 devices, 3 processes: decisions", "many", [at("many", "decisions")]),
    BlockRow("calls that were made and not allowed, or twice", "many", [at("many", "wrong")]),
    BlockRow("after a message that is read at once, later by, ms", "steer", [at("steer", "more_ms")]),
    BlockRow(
        "the model's connection is closed after, p50 / worst, ms",
        "steer",
        [at("steer", "closed", "p50_ms"), at("steer", "closed", "max_ms")],
    ),
)


def asks(records: list[Record]) -> Block:
    """Shows one column."""
    return Block(by_target(ROWS, records, {"trilane": "Trilane"}))
