"""The Responses dialect: a run as numbered events and as one response, however its records are read."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from events.log.port import Block
from gateway.chat.dialects.response_items import upstream_messages
from gateway.chat.dialects.responses import ResponseEvents, error_frame
from gateway.chat.ending import Aborted, Failed, Finished, RunEnding, RunOutcome
from gateway.chat.record_source import PLAIN_RECORDS
from gateway.chat.records.chat_record import RunFinished, RunInfo
from gateway.chat.records.record import HEARTBEAT, RECORD
from gateway.chat.records.response_record import StoredResponse
from gateway.core.usage import Usage
from gateway.errors import UpstreamCut
from tests.support.answers import call, recorded

USAGE = Usage(input_tokens=3, output_tokens=2, total_tokens=5, cached_tokens=1, reasoning_tokens=1)
CALL = call(0, '{"a": ', id="c0", name="f"), call(0, "1}")


def stored(**more: Any) -> StoredResponse:
    return StoredResponse(
        run_id="r", sub="s", created_at=7, model="asked", echo=Raw(b'{"store":true}'), input=[], **more
    )


class EndedRun:
    """A run that is over: an upstream has sent these deltas, then this was its outcome."""

    def __init__(self, *deltas: dict[str, Any], outcome: RunOutcome | None = None) -> None:
        recorder, self.records = recorded(*deltas, is_over=True)
        info = RunInfo(run_id="r", sub="s", message_id="m", model="asked")
        ending = RunEnding(info, outcome or Finished("stop"), recorder, USAGE, model="gpt")
        self.records += ending.appends(1, None)[0].data
        self.finished = msgspec.json.decode(msgspec.json.encode(ending.finished), type=RunFinished)

    def events(self, after: int = -1, **more: Any) -> list[dict[str, Any]]:
        return parsed(ResponseEvents(stored(**more), after).feed(self.records))

    def response(self) -> dict[str, Any]:
        told = ResponseEvents(stored())
        told.feed(self.records)
        return json.loads(msgspec.json.encode(told.response()))

    def retold(self) -> dict[str, Any]:
        told = ResponseEvents(stored())
        told.retell(self.finished)
        return json.loads(msgspec.json.encode(told.response()))


def parsed(frames: bytes) -> list[dict[str, Any]]:
    """Returns the events of a stream, each of which has its type twice."""
    events: list[dict[str, Any]] = []
    for frame in frames.decode().split("\n\n")[:-1]:
        name, _, data = frame.partition("\ndata: ")
        events.append(json.loads(data))
        assert name == f"event: {events[-1]['type']}"
    return events


def test_a_text_is_told_by_its_pieces_and_whole() -> None:
    run = EndedRun({"content": 'Hé"'}, {"content": "l\n"})
    place = {"item_id": "msg_r_0", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": 'Hé"l\n', "annotations": [], "logprobs": []}
    item = {"id": "msg_r_0", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    told = [event for event in run.events() if "response" not in event]
    assert [event.pop("sequence_number") for event in told] == [2, 3, 4, 5, 6, 7, 8]
    assert told == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "logprobs": [], "delta": 'Hé"'},
        {"type": "response.output_text.delta", **place, "logprobs": [], "delta": "l\n"},
        {"type": "response.output_text.done", **place, "text": 'Hé"l\n', "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    assert run.response()["output"] == [item]


def test_a_response_has_its_figures_and_what_was_asked() -> None:
    response = EndedRun({"content": "a"}).response()
    assert [response[name] for name in ("id", "created_at", "model", "status", "store")] == [
        "resp_r",
        7,
        "gpt",
        "completed",
        True,
    ]
    assert response["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 5,
    }


def test_a_refusal_is_a_part_of_its_own() -> None:
    events = EndedRun({"content": "Well. "}, {"refusal": "I can"}, {"refusal": "not."}).events()
    assert [event["delta"] for event in events if event["type"] == "response.refusal.delta"] == ["I can", "not."]
    [part] = events[-1]["response"]["output"][1]["content"]
    assert part == {"type": "refusal", "refusal": "I cannot."}


def test_arguments_are_told_as_the_model_wrote_them() -> None:
    events = EndedRun(*CALL, outcome=Finished("tool-calls")).events()
    assert [event["delta"] for event in events if event["type"].endswith("arguments.delta")] == ['{"a": ', "1}"]
    [done] = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert (done["arguments"], done["item_id"], done["name"]) == ('{"a": 1}', "fc_r_0", "f")
    [item] = events[-1]["response"]["output"]
    assert (item["call_id"], item["name"], item["status"]) == ("c0", "f", "completed")


def test_what_an_upstream_adds_stands_beside_the_response() -> None:
    run = EndedRun({"content": "a", "signature": "abc"}, {"content": "b"})
    assert run.response()["provider"] == {"signature": "abc"}
    assert [event["delta"] for event in run.events() if "delta" in event] == ["a", "b"]


def test_what_an_upstream_adds_to_a_call_goes_back_to_it() -> None:
    signed = {"google": {"thought_signature": "abc"}}
    [piece] = call(0, "{}", id="c0", name="f")["tool_calls"]
    run = EndedRun({"tool_calls": [{**piece, "extra_content": signed}]}, outcome=Finished("tool-calls"))
    assert run.response()["output"][0]["provider"] == {"extra_content": signed}
    assert run.retold()["output"] == run.response()["output"]
    [message] = upstream_messages(run.response()["output"])
    function = {"name": "f", "arguments": "{}"}
    assert message["tool_calls"] == [{"id": "c0", "type": "function", "function": function, "extra_content": signed}]


@pytest.mark.parametrize(
    ("outcome", "status", "last"),
    [
        (Finished("stop"), "completed", ["response.completed"]),
        (Finished("other"), "completed", ["response.completed"]),
        (Finished("length"), "incomplete", ["response.incomplete"]),
        (Finished("content-filter"), "incomplete", ["response.incomplete"]),
        (Failed(UpstreamCut("gone")), "failed", ["response.failed", "error"]),
        (Aborted("stopped"), "cancelled", ["response.incomplete"]),
    ],
)
def test_a_run_ends_in_one_way(outcome: RunOutcome, status: str, last: list[str]) -> None:
    run = EndedRun({"content": "a"}, outcome=outcome)
    events = run.events()
    assert [event["type"] for event in events][-len(last) :] == last
    assert events[-len(last)]["response"]["status"] == run.response()["status"] == status
    [item] = run.response()["output"]
    assert item["status"] == ("completed" if status == "completed" else "incomplete")
    if status == "failed":
        assert events[-1]["error"]["code"] == events[-1]["code"] == events[-2]["response"]["error"]["code"]


def test_a_call_that_was_cut_is_never_done() -> None:
    types = {event["type"] for event in EndedRun(CALL[0], outcome=Failed(UpstreamCut("gone"))).events()}
    assert "response.output_item.added" in types
    assert not types & {"response.output_item.done", "response.function_call_arguments.done"}


DELTAS = st.lists(
    st.one_of(
        st.builds(lambda text: {"content": text}, st.text(min_size=1, max_size=4)),
        st.builds(lambda text: {"reasoning_content": text}, st.text(min_size=1, max_size=4)),
        st.builds(lambda text: {"refusal": text}, st.text(min_size=1, max_size=4)),
        st.builds(
            lambda index: call(index, f'{{"n":{index}}}', id=f"c{index}", name="f"),
            st.integers(min_value=0, max_value=3),
        ),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(DELTAS, st.data())
def test_however_a_run_is_read_it_says_the_same(deltas: list[dict[str, Any]], data: st.DataObject) -> None:
    run = EndedRun(*deltas)
    whole = run.events()
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    assert whole[-1]["response"] == run.response()
    after = data.draw(st.integers(min_value=-1, max_value=len(whole)))
    assert run.events(after) == whole[after + 1 :]
    cut = data.draw(st.integers(min_value=0, max_value=len(run.records)))
    told = ResponseEvents(stored())
    assert parsed(told.feed(run.records[:cut]) + told.feed(run.records[cut:])) == whole
    done = [event["item"] for event in whole if event["type"] == "response.output_item.done"]
    assert sorted(done, key=lambda item: item["id"]) == sorted(run.response()["output"], key=lambda item: item["id"])
    if deltas:  # else no model has said anything
        assert run.retold() == run.response()


@pytest.mark.parametrize("outcome", [Finished("length"), Failed(UpstreamCut("gone")), Aborted("stopped")])
def test_what_is_kept_of_a_run_tells_how_it_ended(outcome: RunOutcome) -> None:
    run = EndedRun({"content": "a"}, outcome=outcome)
    told, kept = run.response(), run.retold()
    assert [kept[name] for name in ("status", "error", "incomplete_details", "usage")] == [
        told[name] for name in ("status", "error", "incomplete_details", "usage")
    ]


def test_only_records_are_read() -> None:
    def block(name: str) -> Block:
        return Block(first=1, data=[b"{}"], name=name, time_ms=0)

    assert (PLAIN_RECORDS("e", block(RECORD)), PLAIN_RECORDS("e", block(HEARTBEAT))) == ([b"{}\n"], [b""])


def test_an_error_of_the_stream_has_the_number_before_it() -> None:
    [event] = parsed(error_frame("gone", "log_unavailable", 4))
    assert (event["sequence_number"], event["code"], event["error"]["message"]) == (4, "log_unavailable", "gone")
