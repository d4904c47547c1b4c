"""A server that speaks Anthropic's Messages is an upstream like any other, of every dialect.

The server is a gateway too, which speaks them: so what is asked and answered has gone through both translations.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import anthropic
import httpx2
import pytest

from loadtests.upstream.shapes import words
from tests.clients.gateways_behind import TOOL, behind
from tests.clients.openai_sdk import Asker, SyncAsker
from tests.clients.test_openai_sdk import THOUGHT
from tests.conftest import Gateway, UpstreamThread


@pytest.fixture(scope="module")
def front(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = behind(tmp_path_factory.mktemp("front"), gateway)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def through(front: Gateway) -> Iterator[Asker]:
    with closing(SyncAsker(front.url)) as asker:
        yield asker


def test_a_conversation_reaches_the_model_as_it_was_meant(front: Gateway, upstream: UpstreamThread) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "I look.", "tool_calls": [call, {**call, "id": "call_1"}]},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/gif;base64,AA"}}]},
    ]
    body = {
        **{"model": "ok", "messages": messages, "tools": [TOOL], "tool_choice": "required", "temperature": 0.5},
        **{"parallel_tool_calls": False, "stop": "END", "max_tokens": 77, "user": "u1"},
    }
    answer = httpx2.post(f"{front.url}/v1/chat/completions", json=body, timeout=20)
    assert answer.status_code == 200, answer.text
    got = upstream.fake.requests[-1].body
    said = [{**message, "tool_calls": None} for message in got["messages"]]
    assert said == [{**message, "tool_calls": None} for message in messages]
    assert [one["id"] for one in got["messages"][2]["tool_calls"]] == ["call_0", "call_1"]
    assert json.loads(got["messages"][2]["tool_calls"][0]["function"]["arguments"]) == {"city": "Zürich"}
    for name in ("tools", "tool_choice", "temperature", "parallel_tool_calls", "max_tokens", "user"):
        assert got[name] == body[name], name
    assert got["stop"] == ["END"]


def test_a_chat_goes_on_with_what_the_model_has_thought(front: Gateway, upstream: UpstreamThread) -> None:
    for text in ("one", "two"):
        message = {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}
        body = {"id": "c", "model": "reasoning", "message": message}
        assert '"finish"' in httpx2.post(f"{front.url}/api/chat", json=body, timeout=20).text
    answered = upstream.fake.requests[-1].body["messages"][1]
    assert (answered["content"], answered["reasoning_content"]) == (words(20), THOUGHT)


def test_anthropics_own_clients_are_served_by_it(front: Gateway) -> None:
    with anthropic.Anthropic(base_url=front.url, api_key="none", max_retries=0) as client:
        turns: Any = [{"role": "user", "content": "Hi"}]
        message = client.messages.create(model="reasoning", max_tokens=9, messages=turns)
    assert [block.type for block in message.content] == ["thinking", "text"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seed": 7}, "seed"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools"),
    ],
)
def test_what_the_format_cannot_say_is_refused_by_its_name(fields: dict[str, Any], param: str, front: Gateway) -> None:
    body = {"model": "ok", "messages": [{"role": "user", "content": "Hi"}], **fields}
    answer = httpx2.post(f"{front.url}/v1/chat/completions", json=body, timeout=20)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"].startswith(f"{param}: ")
