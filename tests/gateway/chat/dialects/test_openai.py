"""The OpenAI dialect: which requests are taken, and a run as chunks and as one completion."""

import json
from typing import Any

import msgspec
import pytest

from events.log.port import Block
from gateway.chat.dialects.openai import CompletionFrames, CompletionRequest, completion
from gateway.chat.dialects.ui_message import CHUNK, ChunkWriter
from gateway.chat.ending import Aborted, Failed, Finished, Outcome, RunEnding, RunFinished, RunInfo
from gateway.chat.upstreams.completion import Chunk
from gateway.core.usage import Usage
from gateway.errors import BadRequest, UpstreamCut

USAGE = Usage(input_tokens=3, output_tokens=2, total_tokens=5, cached_tokens=1, reasoning_tokens=1)
USAGE_OBJECT = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
TOOLS = [
    {"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "f", "arguments": ""}}]},
    {"tool_calls": [{"index": 1, "id": "c1", "function": {"name": "g", "arguments": '{"b"'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]},
    {"tool_calls": [{"index": 1, "function": {"arguments": ":2}"}}]},
]


class Ran:
    """A run that is over: its writer was given these deltas, then this outcome."""

    def __init__(self, *found: dict[str, Any], outcome: Outcome | None = None) -> None:
        self.writer = ChunkWriter()
        deltas = msgspec.convert([{"choices": [{"delta": delta}]} for delta in found], list[Chunk])
        self.chunks = self.writer.start("m") + self.writer.speaker("gpt") + self.writer.write(deltas)
        self.ending = RunEnding(
            info=RunInfo(run_id="r", sub="s", message_id="m", model="asked"),
            outcome=outcome or Finished("stop"),
            writer=self.writer,
            usage=USAGE,
            model="gpt",
        )
        self.chunks += self.ending.appends(1)[0].data

    def block(self) -> Block:
        return Block(first=1, data=self.chunks, name=CHUNK, time_ms=0)

    def told(self, *, include_usage: bool = False) -> list[dict[str, Any]]:
        """Every object of the stream."""
        frames = CompletionFrames("r", "asked", 7, include_usage=include_usage)("e", self.block())
        lines = [line for frame in frames for line in frame.split(b"\n\n") if line]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for chunk in self.told() for choice in chunk.get("choices", ())]

    def completion(self) -> dict[str, Any]:
        return completion(self.finished(), "gpt", 7)

    def finished(self) -> RunFinished:
        """As it is read back from the chat's log."""
        return msgspec.json.decode(msgspec.json.encode(self.ending.finished()), type=RunFinished)


# Requests


def parsed(**fields: Any) -> CompletionRequest:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return msgspec.json.decode(json.dumps(body), type=CompletionRequest)


def test_what_the_model_is_asked_is_passed_on_as_it_came() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    given = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "n"}],
        "temperature": 0.5,
        "top_p": 1,
        "stop": ["a", "b"],
        "seed": 1,
        "tools": tools,
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "max_tokens": 5,
        "max_completion_tokens": None,
        "logit_bias": {"50256": -100},
        "top_k": 40,
        "metadata": {"a": "b"},
    }
    assert parsed(**given).for_upstream(10, 100) == given


def test_what_is_ours_to_say_is_left_out() -> None:
    ours = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "n": 1, "logprobs": False}
    assert set(parsed(**ours).for_upstream(10, 100)) == {"messages"}


@pytest.mark.parametrize("count", [0, 11])
def test_too_few_and_too_many_messages_are_refused(count: int) -> None:
    with pytest.raises(BadRequest) as refused:
        parsed(messages=[{}] * count).for_upstream(10, 100)
    assert refused.value.code == "too_many_messages"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_more_output_than_the_limit_is_refused(name: str) -> None:
    parsed(**{name: 100}).for_upstream(10, 100)
    with pytest.raises(BadRequest, match=f"{name}=101"):
        parsed(**{name: 101}).for_upstream(10, 100)


@pytest.mark.parametrize("field", [{"n": 2}, {"base_url": "http://evil"}, {"messages": None}, {"max_tokens": "5"}])
def test_fields_that_are_unknown_or_not_offered_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        parsed(**field)


# Chunks


def test_a_plain_answer_is_role_then_text_then_finish() -> None:
    head = {"id": "chatcmpl-r", "object": "chat.completion.chunk", "created": 7, "model": "gpt"}
    choices = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        ({}, "stop"),
    ]
    assert Ran({"content": "Hel"}, {"content": "lo"}).told() == [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in choices
    ]


def test_usage_comes_last_and_only_when_asked_for() -> None:
    told = Ran({"content": "a"}).told(include_usage=True)
    assert [chunk["usage"] for chunk in told] == [None] * (len(told) - 1) + [USAGE_OBJECT]
    assert told[-1]["choices"] == []
    assert all("usage" not in chunk for chunk in Ran({"content": "a"}).told())


def test_reasoning_has_a_field_of_its_own() -> None:
    assert Ran({"reasoning": "hm"}, {"content": "so"}).deltas()[1:3] == [{"reasoning_content": "hm"}, {"content": "so"}]


def test_tool_calls_keep_their_index_and_name_themselves_once() -> None:
    calls = [delta["tool_calls"][0] for delta in Ran(*TOOLS).deltas() if "tool_calls" in delta]
    assert calls == [
        {"index": 0, "id": "c0", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "id": "c1", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 1, "function": {"arguments": '{"b"'}},
        {"index": 0, "function": {"arguments": '{"a":1}'}},
        {"index": 1, "function": {"arguments": ":2}"}},
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content-filter", "content_filter"),
        ("tool-calls", "tool_calls"),
        ("other", "stop"),
    ],
)
def test_finish_reasons_are_those_of_the_format(ours: Any, theirs: str) -> None:
    ran = Ran({"content": "a"}, outcome=Finished(ours))
    assert ran.told()[-1]["choices"][0]["finish_reason"] == theirs
    assert ran.completion()["choices"][0]["finish_reason"] == theirs


def test_a_cut_is_an_error_frame_after_what_was_said() -> None:
    ran = Ran({"content": "half"}, outcome=Failed(UpstreamCut()))
    assert [delta.get("content") for delta in ran.deltas()] == ["", "half"]
    error = ran.told()[-1]["error"]
    assert (error["code"], error["type"], error["param"]) == ("upstream_cut", "upstream_cut", None)
    assert error["message"]


def test_a_stop_is_an_error_frame_too() -> None:
    assert Ran({"content": "half"}, outcome=Aborted("stopped")).told()[-1]["error"]["code"] == "aborted"


def test_an_error_before_any_word_is_an_error_frame() -> None:
    assert Ran(outcome=Failed(UpstreamCut())).told()[-1]["error"]["code"] == "upstream_cut"


def test_no_failure_has_a_finish_reason() -> None:
    for outcome in (Failed(UpstreamCut()), Aborted("stopped")):
        told = Ran({"content": "half"}, outcome=outcome).told(include_usage=True)
        assert not [c for chunk in told for c in chunk.get("choices", ()) if c["finish_reason"]]


@pytest.mark.parametrize("name", ["run", "heartbeat"])
def test_other_events_of_a_run_make_no_frame(name: str) -> None:
    frames = CompletionFrames("r", "m", 0, include_usage=False)
    assert frames("e", Block(first=1, data=[b"{}", b"{}"], name=name, time_ms=0)) == [b"", b""]


def test_frames_that_are_made_again_are_the_same() -> None:
    """Replay makes them a second time."""
    ran = Ran({"content": "a"}, *TOOLS)
    frames = CompletionFrames("r", "m", 0, include_usage=True)
    assert frames("e", ran.block()) == frames("e", ran.block())


# Whole completions


def test_a_finished_run_is_one_completion() -> None:
    assert Ran({"reasoning": "hm"}, {"content": "Hel"}, {"content": "lo"}).completion() == {
        "id": "chatcmpl-r",
        "object": "chat.completion",
        "created": 7,
        "model": "gpt",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None, "reasoning_content": "hm"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE_OBJECT,
    }


def test_a_completion_with_tools_has_their_calls_and_no_text() -> None:
    message = Ran(*TOOLS).completion()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"b":2}'}},
    ]


def test_a_completion_passes_invalid_arguments_on_as_a_stream_does() -> None:
    cut = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":'}}]}
    message = Ran(cut, outcome=Finished("length")).completion()["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a":'


def test_an_empty_answer_is_an_empty_text() -> None:
    assert Ran().completion()["choices"][0]["message"]["content"] == ""
