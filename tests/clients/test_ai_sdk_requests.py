"""The AI SDK's client posts what its application shows and wants: that, and nothing else, reaches the model."""

from typing import Any

import httpx2
import pytest

from gateway.chat.records.messages import ALLOWED, NOT_ALLOWED
from loadtests.upstream.shapes import words
from tests.clients.ai_sdk import AISDK, ChatClient, Message
from tests.clients.conftest import Open, last_conversation
from tests.conftest import Gateway, UpstreamThread

FIRST, SECOND, THIRD = "my password is hunter2 T=2", "second T=3", "third T=4"
ANSWERS = {FIRST: words(2), SECOND: words(3), THIRD: words(4)}


def talk(phone: ChatClient) -> list[Message]:
    """Has two exchanges, and returns what is shown then."""
    phone.send(FIRST)
    return phone.send(SECOND).messages


def turns(*texts: str) -> list[tuple[str, str]]:
    """Returns a conversation of these questions, each answered but for the last."""
    said = [turn for text in texts for turn in (("user", text), ("assistant", ANSWERS[text]))]
    return said[:-1]


# What was removed on screen


def test_an_exchange_that_was_removed_on_screen_does_not_reach_the_model(
    device: Open, upstream: UpstreamThread, gateway: Gateway, chat_id: str
) -> None:
    phone = device()
    shown = talk(phone)
    phone.show([message.id for message in shown[2:]])
    phone.send(THIRD)
    assert last_conversation(upstream) == turns(SECOND, THIRD)
    stored = httpx2.get(f"{gateway.url}/api/chat/{chat_id}").json()["messages"]
    assert FIRST in str(stored[0])
    assert len(stored) == 6


def test_a_screen_that_was_emptied_begins_anew(device: Open, upstream: UpstreamThread) -> None:
    phone = device()
    talk(phone)
    phone.show([])
    phone.send(THIRD)
    assert last_conversation(upstream) == turns(THIRD)
    phone.send(SECOND)
    assert last_conversation(upstream) == turns(THIRD, SECOND)


def test_a_message_that_was_blackened_on_screen_is_sent_as_it_is_shown(device: Open, upstream: UpstreamThread) -> None:
    phone = device()
    shown = talk(phone)
    phone.show([message.id for message in shown], **{shown[0].id: "my password is ***"})
    phone.send(THIRD)
    assert last_conversation(upstream)[0] == ("user", "my password is ***")
    assert last_conversation(upstream)[1:] == turns(FIRST, SECOND, THIRD)[1:]


def test_a_device_that_is_behind_asks_with_what_it_has_not_seen(device: Open, upstream: UpstreamThread) -> None:
    phone = device()
    first = phone.send(FIRST).messages
    tablet = device(first)
    phone.send(SECOND)
    tablet.send(THIRD)
    assert last_conversation(upstream) == turns(FIRST, SECOND, THIRD)


def test_an_edit_as_assistant_ui_makes_it_is_asked_alone(device: Open, upstream: UpstreamThread) -> None:
    """It cuts the screen to before the message, and sends a new one without an id to edit."""
    phone = device()
    talk(phone)
    phone.show([])
    phone.send("edited T=2")
    assert last_conversation(upstream) == [("user", "edited T=2")]


def test_what_shall_be_gone_is_gone_for_every_device(
    device: Open, upstream: UpstreamThread, gateway: Gateway, chat_id: str
) -> None:
    phone = device()
    shown = talk(phone)
    tablet = device(shown)
    phone.show([message.id for message in shown[2:]])
    phone.send(THIRD, truncate=True)
    assert last_conversation(upstream) == turns(SECOND, THIRD)
    url = f"{gateway.url}/api/chat/{chat_id}"
    assert len(httpx2.get(url).json()["messages"]) == 4
    tablet.send("fourth T=1")
    assert "hunter2" not in str(last_conversation(upstream))
    assert httpx2.delete(f"{url}/messages/{shown[2].id}").status_code == 204
    assert httpx2.delete(f"{url}/messages/{shown[2].id}").status_code == 204
    assert httpx2.delete(f"{url}/messages/nobody").status_code == 404
    device(lastOnly=True).send("fifth T=1")
    assert SECOND not in str(last_conversation(upstream))
    assert SECOND not in httpx2.get(url).text


# What an application adds

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "now", "parameters": SCHEMA}}
ASSISTANT_UI = {
    "callSettings": {"temperature": 0.5, "maxTokens": 50},
    "system": "Be brief.",
    "config": {"modelName": "ignored"},
    "tools": {"get_weather": {"description": "now", "parameters": SCHEMA}},
    "metadata": {"custom": 1},
}
APPLICATION = {"system": "Be brief.", "tools": [WEATHER], "temperature": 0.5, "maxOutputTokens": 50}
AI_SDK = {**APPLICATION, "tools": {"get_weather": {"description": "now", "inputSchema": {"jsonSchema": SCHEMA}}}}
"""What `JSON.stringify` makes of a `tool` of the AI SDK with its `jsonSchema`."""


BODIES = {"assistant-ui": ASSISTANT_UI, "an application": APPLICATION, "the AI SDK's tools": AI_SDK}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_tools_system_and_sampling_reach_the_model_on_every_step(
    body: dict[str, Any], device: Open, upstream: UpstreamThread
) -> None:
    """The tool's result is posted by `sendAutomaticallyWhen`, and asks with the same tools."""
    phone = device(body={**body, "model": "tools"})
    phone.send("weather? T=8 I=200")
    phone.call("toolOutput", tool="get_weather", toolCallId="call_0", output={"sun": True})
    phone.until(chars=len(words(8)))
    phone.until(status="ready")
    for record in upstream.fake.requests[-2:]:
        sent = record.body
        assert sent is not None
        assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (sent["tools"], sent["temperature"], sent["max_tokens"]) == ([WEATHER], 0.5, 50)
    assert last_conversation(upstream)[-1] == ("tool", '{"sun":true}')


# Two tabs


def test_a_call_that_another_tab_has_answered_leads_to_its_run(device: Open, upstream: UpstreamThread) -> None:
    first = device(body={"model": "tools"})
    shown = first.send("weather? T=40 I=2000").messages
    second = device(shown, body={"model": "tools"})
    asked = len(upstream.fake.requests)
    first.call("toolOutput", tool="get_weather", toolCallId="call_0", output="sun")
    first.until(chars=1)
    second.call("toolOutput", tool="get_weather", toolCallId="call_0", output="rain")
    views = []
    for tab in (first, second):
        tab.until(chars=len(words(40)))
        views.append(tab.until(status="ready"))
    assert len(upstream.fake.requests) == asked + 1
    for view in views:
        assert (view.error, view.answer.text) == (None, words(40))
        assert [part["output"] for part in view.answer.tools] == ["sun"]


# Approvals


@pytest.mark.parametrize(("is_approved", "verdict"), [(True, ALLOWED), (False, NOT_ALLOWED)])
def test_the_model_is_told_whether_a_call_was_allowed(
    is_approved: bool, verdict: str, sdk: AISDK, device: Open, upstream: UpstreamThread
) -> None:
    """A chat from elsewhere is gone on with, in which a call is to be allowed; version 5 knows no approvals."""
    call = {"type": "tool-send", "toolCallId": "c1", "state": "approval-requested", "input": {"to": "bob"}}
    answered = {"id": "ap1", "approved": is_approved, "reason": "as ever"}
    if sdk.version == "ai5":
        call |= {"state": "approval-responded", "approval": answered}
    else:
        call |= {"approval": {"id": "ap1"}}
    question = Message(id="q1", role="user", parts=[{"type": "text", "text": "send it T=3"}])
    phone = device([question, Message(id="a1", role="assistant", parts=[call])])
    if sdk.version == "ai5":
        phone.send_again()
    else:
        phone.call("approve", answer=answered)
    phone.until(chars=len(words(3)))
    view = phone.until(status="ready")
    assert (view.error, view.answer.text) == (None, words(3))
    assert last_conversation(upstream)[-1] == ("tool", f"{verdict}: as ever")
