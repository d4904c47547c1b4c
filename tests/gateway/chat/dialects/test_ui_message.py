"""The AI SDK's dialect: a record is a frame as it is stored."""

import json

import pytest

from events.log.port import Block
from gateway.chat.dialects.ui_message import UIFrames, farewell, whole_frames
from gateway.chat.records.chat_record import FIRST_RECORD
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import RECORD
from gateway.chat.records.retelling import records_of
from tests.support.answers import PROVIDER, recorded
from tests.support.chats import message, tool

# Frames


def test_each_chunk_is_one_frame_with_its_cursor() -> None:
    block = Block(first=7, data=[b'{"type":"a"}', b'{"type":"b"}'], name=RECORD, time_ms=0)
    assert UIFrames("run")("ep", block) == [
        b'data: {"type":"a"}\nid: run.ep.7\n\n',
        b'data: {"type":"b"}\nid: run.ep.8\n\n',
    ]


@pytest.mark.parametrize("name", ["run", "heartbeat", "message", ""])
def test_other_events_of_a_run_are_hidden_but_counted(name: str) -> None:
    assert UIFrames("run")("ep", Block(first=1, data=[b"{}"] * 3, name=name, time_ms=0)) == [b""] * 3


def test_readers_of_one_run_share_their_frames() -> None:
    assert UIFrames("run") == UIFrames("run") != UIFrames("other")


def test_fields_of_a_provider_reach_the_client_as_they_are_stored() -> None:
    """A provider adds fields to a delta that we do not know."""
    fields = {"annotations": [{"type": "url_citation", "url": "https://a"}]}
    _, records = recorded({"content": "so"}, {"content": "!", **fields})
    [frame] = UIFrames("run")("ep", Block(first=1, data=records[-1:], name=RECORD, time_ms=0))
    assert json.loads(frame.splitlines()[0].removeprefix(b"data: "))["providerMetadata"] == {PROVIDER: fields}


# Answers that are continued

EARLIER = message("a", "assistant", "so", tool("c", "f", "output-available", input={}, output=1))
LATER = [b'{"type":"start","messageId":"a"}', b'{"type":"start-step"}', b'{"type":"finish-step"}']


def whole(first: int, *data: bytes, name: str = RECORD) -> list[bytes]:
    return whole_frames("run", EARLIER)("ep", Block(first=first, data=list(data), name=name, time_ms=0))


def test_the_earlier_part_of_an_answer_is_told_after_its_start() -> None:
    frames = whole(FIRST_RECORD, *LATER)
    first, rest = frames[0], frames[1:]
    assert rest == UIFrames("run")("ep", Block(first=FIRST_RECORD, data=LATER, name=RECORD, time_ms=0))[1:]
    told = [line.removeprefix(b"data: ") for line in first.splitlines() if line.startswith(b"data: ")]
    assert told == [LATER[0], *records_of(EARLIER.parts)]


def test_of_the_frames_that_are_repeated_only_the_last_has_a_cursor() -> None:
    first = whole(FIRST_RECORD, *LATER)[0]
    assert first.count(b"id: ") == 1
    assert first.endswith(b"\nid: run.ep.2\n\n")


def test_the_earlier_part_is_told_once_wherever_a_block_begins() -> None:
    assert whole(FIRST_RECORD + 1, *LATER[1:]) == whole(FIRST_RECORD, *LATER)[1:]
    assert whole(FIRST_RECORD, LATER[0]) == whole(FIRST_RECORD, *LATER)[:1]
    assert whole(1, b"{}", b"{}", name="run") == [b"", b""]


@pytest.mark.parametrize("answer", [None, message("a", "assistant"), message("a", "assistant", {"type": "custom"})])
def test_an_answer_without_an_earlier_part_is_told_as_ever(answer: UIMessage | None) -> None:
    frames = whole_frames("run", answer)("ep", Block(first=FIRST_RECORD, data=LATER, name=RECORD, time_ms=0))
    assert [frame.count(b"data: ") for frame in frames] in ([1, 1, 1], [3, 1, 1])
    assert whole_frames("run", None) == UIFrames("run")
    assert whole_frames("run", EARLIER) == whole_frames("run", EARLIER) != UIFrames("run")


# Leaving


def test_the_farewell_has_data_that_no_client_shows() -> None:
    retry, data = farewell().decode().splitlines()[:2]
    record = json.loads(data.removeprefix("data: "))
    assert (record["type"], record["transient"]) == ("data-drain", True)
    assert retry == f"retry: {record['data']['retry']}"
    assert 1000 <= record["data"]["retry"] <= 4000
