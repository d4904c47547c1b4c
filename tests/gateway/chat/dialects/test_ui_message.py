"""The AI SDK's dialect: a record is a frame as it is stored."""

import json

import pytest

from events.log.port import Block
from gateway.chat.dialects.ui_message import UIFrames, farewell
from gateway.chat.records.record import RECORD
from tests.support.answers import PROVIDER, recorded

# Frames


def test_each_chunk_is_one_frame_with_its_cursor() -> None:
    block = Block(first=7, data=[b'{"type":"a"}', b'{"type":"b"}'], name=RECORD, time_ms=0)
    assert UIFrames("run")("ep", block) == [
        b'id: run.ep.7\ndata: {"type":"a"}\n\n',
        b'id: run.ep.8\ndata: {"type":"b"}\n\n',
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
    assert json.loads(frame.split(b"data: ")[1])["providerMetadata"] == {PROVIDER: fields}


# Leaving


def test_the_farewell_has_data_that_no_client_shows() -> None:
    retry, data = farewell().decode().splitlines()[:2]
    record = json.loads(data.removeprefix("data: "))
    assert (record["type"], record["transient"]) == ("data-drain", True)
    assert retry == f"retry: {record['data']['retry']}"
    assert 1000 <= record["data"]["retry"] <= 4000
