"""A client's messages: what is read of them, what a model is sent, and what a posted answer may change."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.records.messages import (
    ALLOWED,
    NOT_ALLOWED,
    UIMessage,
    ends_with_result,
    merge_tool_results,
    parts_of,
    text_of,
    to_upstream,
)
from gateway.errors import BadRequest
from tests.support.chats import answer, message, tool, user

# Reading


def test_only_the_texts_are_the_text() -> None:
    shown = message("m", "assistant", {"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}, "b")
    assert text_of(shown) == "ab"


@pytest.mark.parametrize("part", ["1", "null", "[]", '"text"', "{}", '{"type":7}', '{"type":"text","text":null}'])
def test_a_part_that_is_none_is_refused(part: str) -> None:
    with pytest.raises(BadRequest, match="message 'm'"):
        parts_of(UIMessage(id="m", role="user", parts=[msgspec.Raw(part.encode())]))


def test_a_refusal_shows_little_of_a_long_id() -> None:
    with pytest.raises(BadRequest) as refused:
        parts_of(UIMessage(id="m" * 10_000, role="user", parts=[msgspec.Raw(b"1")]))
    assert len(refused.value.detail) < 300


def test_parts_come_back_as_they_came() -> None:
    text = (
        b'{"id":"m","role":"user","parts":[{"type":"data-x","data":{"z":1.10,"a":[]},"x":null}],"metadata":{"k":1e5}}'
    )
    assert msgspec.json.encode(msgspec.json.decode(text, type=UIMessage)) == text


# What a model is sent

SENT_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
IMAGE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
CALL = tool("c", "find", "output-available", input={"q": 1}, output={"hits": [1]})
CALLED = {"id": "c", "type": "function", "function": {"name": "find", "arguments": '{"q":1}'}}

SENT: dict[str, tuple[UIMessage, list[dict[str, Any]]]] = {
    "a text": (user("u", "hi"), [{"role": "user", "content": "hi"}]),
    "several texts": (message("u", "user", "a", "b"), [{"role": "user", "content": "ab"}]),
    "a system message": (message("s", "system", "be brief"), [{"role": "system", "content": "be brief"}]),
    "an image": (
        message("u", "user", "look", IMAGE),
        [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image_url", "image_url": {"url": IMAGE["url"]}},
                ],
            }
        ],
    ),
    "an image alone": (
        message("u", "user", IMAGE),
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE["url"]}}]}],
    ),
    "data and sources": (
        message("u", "user", {"type": "data-x", "data": 1}, {"type": "source-url", "sourceId": "s", "url": "u"}, "hi"),
        [{"role": "user", "content": "hi"}],
    ),
    "an answer": (answer("a", "hello"), [{"role": "assistant", "content": "hello"}]),
    "an answer with reasoning": (
        message("a", "assistant", {"type": "reasoning", "text": "hm"}, {"type": "step-start"}, "so"),
        [{"role": "assistant", "content": "so"}],
    ),
    "an answer of reasoning alone": (message("a", "assistant", {"type": "reasoning", "text": "hm"}), []),
    "an empty answer": (message("a", "assistant"), []),
    "a tool and its result": (
        message("a", "assistant", "let me see", CALL),
        [
            {"role": "assistant", "content": "let me see", "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "c", "content": '{"hits":[1]}'},
        ],
    ),
    "what was said after a tool": (
        message("a", "assistant", CALL, "found 1"),
        [
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "c", "content": '{"hits":[1]}'},
            {"role": "assistant", "content": "found 1"},
        ],
    ),
    "a dynamic tool": (
        message("a", "assistant", CALL | {"type": "dynamic-tool", "toolName": "find"}),
        [
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "c", "content": '{"hits":[1]}'},
        ],
    ),
    "a tool without a result": (
        message("a", "assistant", "wait", tool("c", "find", "input-available", input={})),
        [{"role": "assistant", "content": "wait"}],
    ),
    "a tool that was cut": (
        message("a", "assistant", "wait", tool("c", "find", "input-streaming")),
        [{"role": "assistant", "content": "wait"}],
    ),
}


@pytest.mark.parametrize(("shown", "conversation"), SENT.values(), ids=SENT.keys())
def test_a_model_is_sent_what_it_can_use(shown: UIMessage, conversation: list[dict[str, Any]]) -> None:
    assert to_upstream([shown]) == conversation


RESULTS = [
    ({"state": "output-available", "output": "text"}, '"text"'),
    ({"state": "output-available", "output": None}, "null"),
    ({"state": "output-available"}, "null"),
    ({"state": "output-error", "errorText": "it broke"}, "it broke"),
    ({"state": "output-denied"}, NOT_ALLOWED),
    ({"state": "output-denied", "approval": {"id": "p", "approved": False, "reason": "no"}}, f"{NOT_ALLOWED}: no"),
    ({"state": "approval-responded", "approval": {"id": "p", "approved": True}}, ALLOWED),
    ({"state": "approval-responded", "approval": {"id": "p", "approved": True, "reason": "go"}}, f"{ALLOWED}: go"),
    ({"state": "approval-responded", "approval": {"id": "p", "approved": False}}, NOT_ALLOWED),
    ({"state": "approval-responded", "approval": {"id": "p", "approved": None}}, NOT_ALLOWED),
    ({"state": "approval-responded"}, NOT_ALLOWED),
    ({"state": "output-available", "output": 1, "approval": {"id": "p", "approved": True, "reason": "go"}}, "1"),
    ({"state": "output-error", "errorText": "it broke", "approval": {"id": "p", "approved": True}}, "it broke"),
]


@pytest.mark.parametrize(("part", "content"), RESULTS)
def test_every_end_of_a_tool_is_a_result_for_the_model(part: dict[str, Any], content: str) -> None:
    shown = message("a", "assistant", tool("c", "f", "x") | part)
    assert to_upstream([shown])[1] == {"role": "tool", "tool_call_id": "c", "content": content}


TABLE = {"type": "file", "mediaType": "text/csv", "url": "data:text/csv,a%2Cb", "filename": "t.csv"}


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([IMAGE, "look"], [SENT_IMAGE, {"type": "text", "text": "look"}]),
        (["a", "b", IMAGE, "c"], [{"type": "text", "text": "ab"}, SENT_IMAGE, {"type": "text", "text": "c"}]),
        ([TABLE, "sum it up"], "t.csv (text/csv):\n\na,b\n\nsum it up"),
        ([TABLE], "t.csv (text/csv):\n\na,b"),
        (["", IMAGE], [SENT_IMAGE]),
        ([TABLE | {"filename": None}], "text/csv (text/csv):\n\na,b"),
    ],
)
def test_files_and_texts_keep_their_order(parts: list[Any], content: Any) -> None:
    assert to_upstream([message("u", "user", *parts)])[0]["content"] == content


def test_a_conversation_keeps_its_order() -> None:
    conversation = to_upstream([user("1", "a"), answer("2", "b"), user("3", "c")])
    assert [sent_message["content"] for sent_message in conversation] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("shown", "contents"),
    [
        ([user("1", "a"), user("2", "b")], ["a\n\nb"]),
        ([user("1", "a"), user("2", "b"), user("3", "c"), answer("4", "d")], ["a\n\nb\n\nc", "d"]),
        ([user("1", "a"), message("2", "assistant"), user("3", "b")], ["a\n\nb"]),
        ([user("1", ""), user("2", "b")], ["b"]),
        ([answer("1", "a"), answer("2", "b"), user("3", "c")], ["a\n\nb", "c"]),
        ([message("1", "system", "a"), message("2", "system", "b"), user("3", "c")], ["a\n\nb", "c"]),
        ([user("1", "a"), message("2", "user", IMAGE)], [[{"type": "text", "text": "a"}, SENT_IMAGE]]),
        (
            [message("1", "user", "a", IMAGE), user("2", "b")],
            [[{"type": "text", "text": "a"}, SENT_IMAGE, {"type": "text", "text": "b"}]],
        ),
        ([message("1", "user", IMAGE), message("2", "user", IMAGE)], [[SENT_IMAGE, SENT_IMAGE]]),
    ],
)
def test_turns_of_one_role_in_a_row_are_one(shown: list[UIMessage], contents: list[Any]) -> None:
    """Templates of several models refuse a conversation in which the roles do not alternate."""
    assert [sent_message["content"] for sent_message in to_upstream(shown)] == contents


def test_calls_stay_with_their_results_when_turns_are_joined() -> None:
    sent = to_upstream([answer("1", "well"), message("2", "assistant", "see", CALL, CALL, "so"), answer("3", "then")])
    assert [m["role"] for m in sent] == ["assistant", "tool", "tool", "assistant"]
    assert sent[0] == {"role": "assistant", "content": "well\n\nsee", "tool_calls": [CALLED, CALLED]}
    assert sent[3] == {"role": "assistant", "content": "so\n\nthen"}


# Tool results of a client

STORED = message("a", "assistant", "pay?", tool("c", "pay", "input-available", input={"amount": 1}))


def merged(posted: UIMessage, stored: UIMessage = STORED) -> list[dict[str, Any]] | None:
    answer_with_results = merge_tool_results(stored, posted)
    return answer_with_results and [json.loads(bytes(part)) for part in answer_with_results.parts]


@pytest.mark.parametrize("state", ["output-available", "output-error", "output-denied", "approval-responded"])
def test_a_result_takes_the_place_of_the_open_call(state: str) -> None:
    result = tool("c", "pay", state, input={"amount": 1}, output="done")
    assert merged(message("a", "assistant", "pay?", result)) == [{"type": "text", "text": "pay?"}, result]


@pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested", "", "output"])
def test_what_is_no_result_changes_nothing(state: str) -> None:
    assert merged(message("a", "assistant", tool("c", "pay", state))) is None


def test_a_result_of_another_call_changes_nothing() -> None:
    assert merged(message("a", "assistant", tool("other", "pay", "output-available"))) is None


def test_a_result_that_is_stored_stays() -> None:
    first = tool("c", "pay", "output-available", output=1)
    second = tool("c", "pay", "output-available", output=2)
    assert merged(message("a", "assistant", second), message("a", "assistant", first)) is None


def test_the_text_of_a_posted_answer_is_not_believed() -> None:
    posted = message("a", "assistant", "p", tool("c", "pay", "output-available", input={"amount": 1}))
    parts = merged(posted)
    assert parts is not None
    assert parts[0]["text"] == "pay?"
    assert merged(message("a", "assistant", "something else")) is None


def test_parts_that_a_client_adds_are_not_believed() -> None:
    more = tool("d", "pay", "output-available", input={"amount": 1_000_000}, output="done")
    assert merged(message("a", "assistant", "pay?", more)) is None


@pytest.mark.parametrize("change", [{"input": {"amount": 1_000_000}}, {"type": "tool-steal"}])
def test_the_call_that_a_result_belongs_to_stays_as_the_model_made_it(change: dict[str, Any]) -> None:
    result = tool("c", "pay", "output-available", input={"amount": 1}, output="done") | change
    parts = merged(message("a", "assistant", "pay?", result))
    assert parts is not None
    assert (parts[1]["type"], parts[1]["input"], parts[1]["output"]) == ("tool-pay", {"amount": 1}, "done")


def asked(state: str, approved: bool | None = None, ask: str = "p1", **more: Any) -> UIMessage:
    """Returns an answer whose only call somebody was asked about."""
    approval = {"id": ask} if approved is None else {"id": ask, "approved": approved}
    return message("a", "assistant", tool("c", "pay", state, approval=approval, **more))


@pytest.mark.parametrize(
    ("stored", "posted", "state"),
    [
        (asked("approval-requested"), asked("approval-responded", True), "approval-responded"),
        (asked("approval-requested"), asked("approval-responded", False), "approval-responded"),
        (asked("approval-requested"), asked("output-denied", False), "output-denied"),
        (asked("approval-requested"), asked("approval-responded", True, ask="another"), None),
        (asked("approval-responded", True), asked("output-available", True, output=1), "output-available"),
        (asked("approval-responded", True), asked("output-error", True, errorText="x"), "output-error"),
        (asked("approval-responded", False), asked("output-available", True, output=1), None),
        (asked("approval-responded", False), asked("approval-responded", True), None),
        (asked("output-denied", False), asked("output-available", True, output=1), None),
        (asked("output-available", True, output=1), asked("approval-responded", False), None),
    ],
)
def test_an_approval_is_answered_once_and_only_what_was_allowed_has_an_output(
    stored: UIMessage, posted: UIMessage, state: str | None
) -> None:
    parts = merged(posted, stored)
    assert (parts and parts[0]["state"]) == state


@pytest.mark.parametrize(
    ("parts", "ends"),
    [
        ([tool("c", "f", "output-available")], True),
        (["a", tool("c", "f", "output-error"), {"type": "step-start"}], True),
        ([tool("c", "f", "approval-responded")], True),
        ([tool("c", "f", "input-available")], False),
        ([tool("c", "f", "output-available"), "b"], False),
        (["a"], False),
        ([], False),
    ],
)
def test_an_answer_ends_with_a_result_when_nothing_was_said_after_it(parts: list[Any], ends: bool) -> None:
    assert ends_with_result(message("a", "assistant", *parts)) is ends
