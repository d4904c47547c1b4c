"""The OpenAI dialect: which requests are taken, and a run as chunks and as one completion."""

import json
from typing import Any

import msgspec
import pytest

from events.log.port import Block
from gateway.chat.dialects.completion_request import CompletionRequest
from gateway.chat.dialects.openai import CompletionFrames, completion
from gateway.chat.ending import Aborted, Failed, Finished, RunEnding, RunOutcome
from gateway.chat.records.chat_record import RunFinished, RunInfo
from gateway.chat.records.record import RECORD
from gateway.core.usage import Usage
from gateway.errors import UpstreamCut
from tests.support.answers import recorded

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


class EndedRun:
    """A run that is over: an upstream has sent these deltas, then this was its outcome."""

    def __init__(self, *deltas: dict[str, Any], outcome: RunOutcome | None = None) -> None:
        recorder, self.records = recorded(*deltas)
        info = RunInfo(run_id="r", sub="s", message_id="m", model="asked")
        self.ending = RunEnding(info, outcome or Finished("stop"), recorder, USAGE, model="gpt")
        self.records += self.ending.appends(1, None)[0].data

    def block(self) -> Block:
        return Block(first=1, data=self.records, name=RECORD, time_ms=0)

    def chunks(self, *, include_usage: bool = False) -> list[dict[str, Any]]:
        """Returns every object of the stream."""
        frames = CompletionFrames("r", "asked", 7, include_usage=include_usage)("e", self.block())
        lines = [line for frame in frames for line in frame.split(b"\n\n") if line]
        return [json.loads(line.removeprefix(b"data: ")) for line in lines]

    def deltas(self) -> list[dict[str, Any]]:
        return [choice["delta"] for chunk in self.chunks() for choice in chunk.get("choices", ())]

    def completion(self) -> dict[str, Any]:
        return completion(self.finished(), "gpt", 7)

    def finished(self) -> RunFinished:
        """Returns the end of the run as it is read back from the chat's log."""
        return msgspec.json.decode(msgspec.json.encode(self.ending.finished), type=RunFinished)


# Chunks


def test_a_plain_answer_is_role_then_text_then_finish() -> None:
    head = {"id": "chatcmpl-r", "object": "chat.completion.chunk", "created": 7, "model": "gpt"}
    choices = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        ({}, "stop"),
    ]
    assert EndedRun({"content": "Hel"}, {"content": "lo"}).chunks() == [
        {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in choices
    ]


def test_usage_comes_last_and_only_when_asked_for() -> None:
    chunks = EndedRun({"content": "a"}).chunks(include_usage=True)
    assert [chunk["usage"] for chunk in chunks] == [None] * (len(chunks) - 1) + [USAGE_OBJECT]
    assert chunks[-1]["choices"] == []
    assert all("usage" not in chunk for chunk in EndedRun({"content": "a"}).chunks())


def test_reasoning_has_a_field_of_its_own() -> None:
    assert EndedRun({"reasoning": "hm"}, {"content": "so"}).deltas()[1:3] == [
        {"reasoning_content": "hm"},
        {"content": "so"},
    ]


def test_tool_calls_keep_their_index_and_name_themselves_once() -> None:
    calls = [delta["tool_calls"][0] for delta in EndedRun(*TOOLS).deltas() if "tool_calls" in delta]
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
    run = EndedRun({"content": "a"}, outcome=Finished(ours))
    assert run.chunks()[-1]["choices"][0]["finish_reason"] == theirs
    assert run.completion()["choices"][0]["finish_reason"] == theirs


def test_a_cut_is_an_error_frame_after_what_was_said() -> None:
    run = EndedRun({"content": "half"}, outcome=Failed(UpstreamCut()))
    assert [delta.get("content") for delta in run.deltas()] == ["", "half"]
    error = run.chunks()[-1]["error"]
    assert (error["code"], error["type"], error["param"]) == ("upstream_cut", "server_error", None)
    assert error["message"]


def test_a_stop_is_an_error_frame_too() -> None:
    assert EndedRun({"content": "half"}, outcome=Aborted("stopped")).chunks()[-1]["error"]["code"] == "aborted"


def test_an_error_before_any_word_is_an_error_frame() -> None:
    assert EndedRun(outcome=Failed(UpstreamCut())).chunks()[-1]["error"]["code"] == "upstream_cut"


def test_no_failure_has_a_finish_reason() -> None:
    for outcome in (Failed(UpstreamCut()), Aborted("stopped")):
        chunks = EndedRun({"content": "half"}, outcome=outcome).chunks(include_usage=True)
        assert not [c for chunk in chunks for c in chunk.get("choices", ()) if c["finish_reason"]]


@pytest.mark.parametrize("name", ["run", "heartbeat"])
def test_other_events_of_a_run_make_no_frame(name: str) -> None:
    frames = CompletionFrames("r", "m", 0, include_usage=False)
    assert frames("e", Block(first=1, data=[b"{}", b"{}"], name=name, time_ms=0)) == [b"", b""]


def test_frames_that_are_made_again_are_the_same() -> None:
    """Replay makes them a second time."""
    run = EndedRun({"content": "a"}, *TOOLS)
    frames = CompletionFrames("r", "m", 0, include_usage=True)
    assert frames("e", run.block()) == frames("e", run.block())


def test_fields_of_a_provider_are_passed_on_in_the_delta_that_they_came_with() -> None:
    cited = {"annotations": [{"type": "url_citation", "url": "https://a"}]}
    run = EndedRun({"content": "so"}, {"content": "!", **cited}, {"reasoning": "hm", "x": 1}, {"y": {"z": None}})
    assert run.deltas()[2:5] == [{"content": "!", **cited}, {"reasoning_content": "hm", "x": 1}, {"y": {"z": None}}]


# Whole completions


def test_a_finished_run_is_one_completion() -> None:
    assert EndedRun({"reasoning": "hm"}, {"content": "Hel"}, {"content": "lo"}).completion() == {
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
    message = EndedRun(*TOOLS).completion()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"b":2}'}},
    ]


def test_a_completion_passes_invalid_arguments_on_as_a_stream_does() -> None:
    cut = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":'}}]}
    message = EndedRun(cut, outcome=Finished("length")).completion()["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a":'


def test_an_empty_answer_is_an_empty_text() -> None:
    assert EndedRun().completion()["choices"][0]["message"]["content"] == ""


def test_a_completion_has_the_fields_of_a_provider_and_none_of_them_replaces_one_of_ours() -> None:
    run = EndedRun({"content": "so", "annotations": [1]}, {"y": 2}, {"reasoning": "hm", "x": 3}, {"refusal_level": 4})
    message = run.completion()["choices"][0]["message"]
    assert json.loads(msgspec.json.encode(message)) == {
        "role": "assistant",
        "content": "so",
        "refusal": None,
        "reasoning_content": "hm",
        "annotations": [1],
        "y": 2,
        "x": 3,
        "refusal_level": 4,
    }


# Functions, the older form of tools

FUNCTION = [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": '{"a":1}'}}]


@pytest.mark.parametrize("deltas", [FUNCTION, TOOLS[:1] + TOOLS[2:3]], ids=["as functions", "as tools"])
def test_a_client_that_knows_functions_gets_a_function_call(deltas: list[dict[str, Any]]) -> None:
    run = EndedRun(*deltas, outcome=Finished("tool-calls"))
    frames = CompletionFrames("r", "m", 0, include_usage=False, has_functions=True)("e", run.block())
    chunks = [json.loads(frame.removeprefix(b"data: ")) for frame in frames if frame]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    calls = [choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]]
    assert calls == [{"name": "f", "arguments": ""}, {"arguments": '{"a":1}'}]
    assert not [choice for choice in choices if "tool_calls" in choice["delta"]]
    assert choices[-1]["finish_reason"] == "function_call"
    [choice] = completion(run.finished(), "m", 0, has_functions=True)["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "function_call": {"name": "f", "arguments": '{"a":1}'},
    }
    assert choice["finish_reason"] == "function_call"


def test_a_second_function_call_is_not_lost() -> None:
    run = EndedRun(*TOOLS, outcome=Finished("tool-calls"))
    [choice] = completion(run.finished(), "m", 0, has_functions=True)["choices"]
    assert choice["message"]["function_call"]["name"] == "f"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["g"]


@pytest.mark.parametrize(
    ("fields", "is_legacy"),
    [
        ({"functions": [{"name": "f"}]}, True),
        ({"functions": [], "tools": None}, True),
        ({"functions": None}, False),
        ({"functions": [], "tools": []}, False),
        ({"tools": []}, False),
        ({}, False),
    ],
)
def test_functions_count_where_there_are_no_tools(fields: dict[str, object], is_legacy: bool) -> None:
    raw = msgspec.json.decode(msgspec.json.encode(fields), type=dict[str, msgspec.Raw])
    assert CompletionRequest.wants_function_call(raw) is is_legacy
