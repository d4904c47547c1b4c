"""A run is told to one caller as progress and a result, whole and from every place in it."""

import json
from typing import Any

import msgspec
import pytest

from events.log.port import Block
from events.log.source import Source
from gateway.chat.records.record import (
    MessageAbort,
    MessageError,
    MessageFinish,
    MessageStart,
    ReasoningDelta,
    TextDelta,
    encode_record,
)
from gateway.mcp.ask import WAITS, AnswerSource, CallerNames, RecordLines
from gateway.mcp.protocol import RpcHeaders

FINISH = MessageFinish("stop")
RECORDS = [
    MessageStart("m"),
    ReasoningDelta(id="r", delta="hm"),
    TextDelta(id="t", delta="One"),
    TextDelta(id="t", delta=" and\nanother"),
    TextDelta(id="t", delta=" word"),
]
TEXT = "One and\nanother word"
FIRST = 2
"""Offset of the first record: the run's own facts stand before it."""


class Pieces(Source):
    """A reader of a finished run that gives so many records at once."""

    def __init__(self, records: list[Any], at_once: int) -> None:
        block = Block(first=FIRST, data=[encode_record(record) for record in records], name="chunk", time_ms=0)
        lines = RecordLines("run")("epoch", block)
        self.pieces = [b"".join(lines[at : at + at_once]) for at in range(0, len(lines), at_once)]
        self.on_wake = lambda: None

    @property
    def ended(self) -> bool:
        return not self.pieces

    @property
    def complete(self) -> bool:
        return self.ended

    def poll(self) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else b""

    async def catch_up(self) -> None: ...

    def close(self) -> None: ...


def told(end: Any, at_once: int, token: int | None = 9, after: int = 0) -> list[tuple[str, Any]]:
    """Returns cursor and message of every event."""
    reader = Pieces([*RECORDS, end], at_once)
    source = AnswerSource(reader, CallerNames("q", token), RpcHeaders(), {"chatId": "c"}, after)
    data = b""
    while not source.ended:
        data += source.poll() or b""
    events = [event.split(b"\nid: ") for event in data.split(b"\n\n") if event]
    return [(cursor.decode(), json.loads(line.removeprefix(b"data: "))) for line, cursor in events]


@pytest.mark.parametrize("at_once", [1, 2, 3, 10])
def test_progress_is_the_text_so_far_and_the_result_all_of_it(at_once: int) -> None:
    *steps, (cursor, end) = told(FINISH, at_once)
    assert "".join(step["params"]["message"] for _, step in steps) == TEXT
    amounts = [step["params"]["progress"] for _, step in steps]
    assert amounts == sorted(set(amounts))
    assert amounts[-1] == len(TEXT)
    assert (cursor, end["id"], end["result"]["content"][0]["text"]) == ("run.epoch.7", "q", TEXT)
    assert (end["result"]["isError"], end["result"]["structuredContent"]) == (False, {"chatId": "c"})


@pytest.mark.parametrize("after", range(FIRST + len(RECORDS)))
@pytest.mark.parametrize("at_once", [1, 4])
def test_a_stream_that_is_continued_repeats_nothing_and_ends_with_the_whole(after: int, at_once: int) -> None:
    missed = "".join(
        record.delta for offset, record in enumerate(RECORDS, FIRST) if isinstance(record, TextDelta) and offset > after
    )
    *steps, (_, end) = told(FINISH, at_once, after=after)
    assert "".join(step["params"]["message"] for _, step in steps) == missed
    assert end["result"]["content"][0]["text"] == TEXT


def test_who_gave_no_token_is_told_the_result_alone() -> None:
    assert len(told(FINISH, 1, token=None)) == 1


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (MessageError("the model is away"), "the model is away"),
        (MessageAbort("stopped"), "the answer was stopped"),
        (MessageFinish("tool-calls"), WAITS),
    ],
)
def test_an_answer_that_did_not_end_is_an_error_with_what_there_was(end: Any, why: str) -> None:
    result = told(end, 10)[-1][1]["result"]
    assert (result["isError"], result["content"][0]["text"]) == (True, f"{TEXT}\n\n[{why}]")


def test_without_a_handshake_there_are_no_cursors() -> None:
    source = AnswerSource(Pieces([*RECORDS, FINISH], 1), CallerNames("q", 9), RpcHeaders("2026-07-28"), {})
    data = b""
    while not source.ended:
        data += source.poll() or b""
    assert data.count(b"data: ") == 4
    assert b"id: run" not in data


def test_the_callers_names_are_kept_as_they_were() -> None:
    names = CallerNames("1", 1)
    assert msgspec.json.decode(msgspec.json.encode(names), type=CallerNames) == names
