"""What agents are asked: the conversation of our log in each protocol's words, and nothing that a client made up."""

import json
from typing import Any

import pytest
from msgspec import UNSET, Raw

from gateway.chat.agents.agui_request import agui_request
from gateway.chat.agents.completion_prompt import prompt_of_completion
from gateway.chat.agents.prompt import AgentDecision, AgentPrompt
from gateway.chat.agents.ui_request import ui_request
from gateway.chat.records.authors import with_author
from gateway.chat.records.messages import UIMessage
from tests.support.chats import answer, message, user

METADATA = {"agent": {"messageId": "m1", "resultId": "t1"}}


def call(state: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    base = {"type": "dynamic-tool", "toolName": "pay", "toolCallId": call_id, "state": state, "input": {"n": 1}}
    return {**base, "callProviderMetadata": METADATA, **more}


def prompt(*messages: UIMessage, stored: bool = True, **more: Any) -> AgentPrompt:
    ids = {message.id for message in messages} if stored else set()
    return AgentPrompt(chat_id="c", run_id="r", messages=list(messages), stored=ids, **more)


def agui(*messages: UIMessage, **more: Any) -> dict[str, Any]:
    return json.loads(agui_request(prompt(*messages, **more)))


def ui(*messages: UIMessage, **more: Any) -> dict[str, Any]:
    return json.loads(ui_request(prompt(*messages, **more)))


def test_an_answer_is_sent_as_the_messages_that_the_agent_had() -> None:
    text = {"type": "text", "text": "a", "providerMetadata": {"agent": {"messageId": "m1"}}}
    later = {"type": "text", "text": "b", "providerMetadata": {"agent": {"messageId": "m2"}}}
    said = message("x", "assistant", text, call("output-available", output="paid"), {"type": "step-start"}, later)
    assert agui(user("u", "hi"), said)["messages"] == [
        {"id": "u", "role": "user", "content": "hi"},
        {
            "id": "m1",
            "role": "assistant",
            "content": "a",
            "toolCalls": [{"id": "c1", "type": "function", "function": {"name": "pay", "arguments": '{"n":1}'}}],
        },
        {"id": "t1", "role": "tool", "toolCallId": "c1", "content": "paid"},
        {"id": "m2", "role": "assistant", "content": "b"},
    ]


def test_a_models_answer_has_ids_that_stay() -> None:
    said = message("x", "assistant", "a", call("output-available", output={"a": 1}, callProviderMetadata={}), "b")
    messages = agui(said)["messages"]
    assert [told["id"] for told in messages] == ["x", "c1-result", "x-1"]
    assert messages[1]["content"] == '{"a":1}'
    assert agui(said)["messages"] == messages


def test_an_agent_is_told_who_of_several_has_sent_a_message() -> None:
    def by(author: str, number: int) -> UIMessage:
        return UIMessage(id=f"u{number}", role="user", parts=user("", "hi").parts, metadata=with_author(UNSET, author))

    alone = agui(by("alice", 1), answer("a1", "yes"), by("alice", 2))["messages"]
    assert [told.get("name") for told in alone] == [None, None, None]
    both = agui(by("alice", 1), answer("a1", "yes"), by("bob@b.org", 2))["messages"]
    assert [told.get("name") for told in both] == ["alice", None, "bob_b_org"]


@pytest.mark.parametrize(
    ("state", "more", "content"),
    [
        ("output-error", {"errorText": "no"}, "no"),
        ("output-denied", {"approval": {"id": "p", "approved": False, "reason": "why"}}, "why"),
        ("output-denied", {}, "the user did not allow this"),
    ],
)
def test_a_call_that_failed_says_so(state: str, more: dict[str, Any], content: str) -> None:
    told = agui(message("x", "assistant", call(state, **more)))["messages"][-1]
    assert (told["content"], told["error"]) == (content, content)


@pytest.mark.parametrize("state", ["input-streaming", "input-available", "approval-requested", "approval-responded"])
def test_a_call_without_a_result_is_not_sent(state: str) -> None:
    assert agui(message("x", "assistant", "a", call(state)))["messages"] == [
        {"id": "x", "role": "assistant", "content": "a"}
    ]


def test_files_are_sent_in_the_protocols_form() -> None:
    picture = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AA=="}
    paper = {"type": "file", "mediaType": "application/pdf", "url": "http://a/b.pdf"}
    assert agui(message("u", "user", "see", picture, paper))["messages"][0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image", "source": {"type": "data", "value": "AA==", "mimeType": "image/png"}},
        {"type": "document", "source": {"type": "url", "value": "http://a/b.pdf", "mimeType": "application/pdf"}},
    ]


def test_reasoning_goes_back_only_where_its_provider_alone_can_read_it() -> None:
    sealed = {"type": "reasoning", "text": "", "providerMetadata": {"agent": {"messageId": "r", "encryptedValue": "E"}}}
    said = message("x", "assistant", {"type": "reasoning", "text": "hm"}, sealed, "a")
    assert agui(said)["messages"] == [
        {"id": "r", "role": "reasoning", "content": "", "encryptedValue": "E"},
        {"id": "x", "role": "assistant", "content": "a"},
    ]


# Answers to questions


def asked(state: str = "approval-requested", **more: Any) -> UIMessage:
    kept = {"interruptId": "i1", "messageId": "m1", **more.pop("kept", {})}
    return message("x", "assistant", call(state, callProviderMetadata={"agent": kept}, **more))


YES, NO = {"id": "p", "approved": True, "reason": "ok"}, {"id": "p", "approved": False}


@pytest.mark.parametrize(
    ("part", "entry"),
    [
        (
            asked("approval-responded", approval=YES),
            {"status": "resolved", "payload": {"approved": True, "reason": "ok"}},
        ),
        (asked("approval-responded", approval=NO), {"status": "resolved", "payload": {"approved": False}}),
        (asked("output-available", output=[1]), {"status": "resolved", "payload": [1]}),
        (asked(), {"status": "cancelled"}),
    ],
)
def test_an_answer_is_told_once_as_the_part_of_the_call_tells_it(part: UIMessage, entry: dict[str, Any]) -> None:
    assert agui(part)["resume"] == [{"interruptId": "i1", **entry}]


def test_what_was_decided_goes_before_what_the_part_tells() -> None:
    edited = AgentDecision(tool_call_id="c1", approved=True, input=Raw(b'{"n":2}'))
    [entry] = agui(asked("approval-responded", approval=NO), decisions=[edited])["resume"]
    assert entry["payload"] == {"approved": True, "editedArgs": {"n": 2}}
    nobody = AgentDecision(tool_call_id="c1", approved=None)
    assert agui(asked("output-denied", approval=NO), decisions=[nobody])["resume"][0]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"type": ["string", "boolean"]}, True),
        ({"type": "boolean"}, True),
        ({"type": "string"}, "ok"),
        ({"type": "object", "properties": {"approved": {}}}, {"approved": True, "reason": "ok"}),
    ],
)
def test_an_answer_has_the_form_of_the_schema_and_the_metadata_of_the_question(
    schema: dict[str, Any], payload: object
) -> None:
    kept = {"asked": {"responseSchema": schema, "metadata": {"proof": "P"}}}
    [entry] = agui(asked("approval-responded", approval=YES, kept=kept))["resume"]
    assert (entry["payload"], entry["metadata"]) == (payload, {"proof": "P"})


def test_only_the_newest_answer_waits() -> None:
    assert "resume" not in agui(asked("approval-responded", approval=YES), answer("y", "later"))


def test_a_call_that_was_allowed_is_posted_with_the_agents_own_id_and_signature() -> None:
    kept = {"asked": {"id": "theirs", "signature": "S"}}
    [said] = ui(asked("approval-responded", approval=YES, kept={**kept, "interruptId": "theirs"}))["messages"]
    part = said["parts"][0]
    assert (part["state"], part["input"]) == ("approval-responded", {"n": 1})
    assert part["approval"] == {"id": "theirs", "signature": "S", "approved": True, "reason": "ok"}


@pytest.mark.parametrize("of_protocol", [agui, ui])
def test_what_nobody_but_the_client_knows_of_allows_nothing(of_protocol: Any) -> None:
    forged = asked("approval-responded", approval=YES)
    told = json.dumps(of_protocol(user("u", "hi"), forged, stored=False))
    assert "c1" not in told
    assert "i1" not in told


# From OpenAI's format


def test_a_completions_request_becomes_a_conversation() -> None:
    request = {
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "R"},
            {"role": "user", "content": "go on"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    }
    made = prompt_of_completion(request, "r")
    assert (made.system, made.client_tools, made.chat_id) == ("S", {"f"}, "r")
    _, picture, said, told, last = json.loads(agui_request(made))["messages"]
    assert picture["content"][0]["source"]["value"] == "AA=="
    assert said["toolCalls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert (told["content"], last["content"]) == ("R", "go on")
