"""Anthropic's Python SDK, unmodified, speaks with any model through `/v1/messages`."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest

from loadtests.upstream.shapes import words
from tests.clients.test_openai_sdk import ODD_BYTES, THOUGHT
from tests.conftest import Gateway, UpstreamThread, eventually, serving

SAID: list[Any] = [{"role": "user", "content": "Hello!"}]
WEATHER: Any = {
    "name": "get_weather",
    "description": "What the weather is",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALLS = [(f"call_{day}", "get_weather", {"city": "Zürich", "day": day}) for day in range(2)]
PIXEL = "R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with closing(anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0)) as made:
        yield made


def asked(client: anthropic.Anthropic, model: str, *, stream: bool, **more: Any) -> Any:
    """Returns the message that a model answers with, which is a stream's when it is put together by the SDK."""
    fields = {"model": model, "max_tokens": 100, "messages": SAID, **more}
    if not stream:
        return client.messages.create(**fields)
    with client.messages.stream(**fields) as events:
        return events.get_final_message()


def both(test: Any) -> Any:
    return pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])(test)


@both
def test_an_answer_arrives_whole_with_its_figures(stream: bool, client: anthropic.Anthropic) -> None:
    message = asked(client, "ok", stream=stream)
    assert [(block.type, block.text) for block in message.content] == [("text", words(20))]
    assert (message.model, message.role, message.stop_reason, message.stop_sequence) == (
        "ok",
        "assistant",
        "end_turn",
        None,
    )
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 20)
    assert message.id.startswith("msg_")


@both
@pytest.mark.parametrize("model", ODD_BYTES)
def test_an_answer_in_any_allowed_bytes_arrives_whole(model: str, stream: bool, client: anthropic.Anthropic) -> None:
    assert asked(client, model, stream=stream).content[0].text == words(20)


@both
def test_thoughts_are_a_block_before_the_answer(stream: bool, client: anthropic.Anthropic) -> None:
    thinking, text = asked(client, "reasoning", stream=stream).content
    assert (thinking.type, thinking.thinking, text.text) == ("thinking", THOUGHT, words(20))


@both
def test_calls_of_tools_side_by_side_are_blocks_one_after_the_other(stream: bool, client: anthropic.Anthropic) -> None:
    message = asked(client, "tools-2", stream=stream, tools=[WEATHER])
    assert [(block.id, block.name, block.input) for block in message.content] == CALLS
    assert message.stop_reason == "tool_use"


@both
@pytest.mark.parametrize(("model", "reason"), [("finish-length", "max_tokens"), ("finish-filter", "refusal")])
def test_it_is_told_why_an_answer_ended(model: str, reason: str, stream: bool, client: anthropic.Anthropic) -> None:
    assert asked(client, model, stream=stream).stop_reason == reason


def test_the_events_come_in_their_order(client: anthropic.Anthropic) -> None:
    with client.messages.create(model="reasoning", max_tokens=9, messages=SAID, stream=True) as events:
        kinds = [event.type for event in events]
    plain = [kind for n, kind in enumerate(kinds) if n == 0 or kinds[n - 1] != kind]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert plain == ["message_start", *block, *block, "message_delta", "message_stop"]


def test_a_conversation_with_a_tool_reaches_the_upstream_as_it_was_meant(
    client: anthropic.Anthropic, upstream: UpstreamThread
) -> None:
    first = asked(client, "tools", stream=True, tools=[WEATHER], tool_choice={"type": "any"})
    [call] = first.content
    turns = [
        *SAID,
        {"role": "assistant", "content": first.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    second = asked(client, "ok", stream=True, tools=[WEATHER], messages=turns, system="Be brief.")
    assert second.content[0].text == words(20)
    body = upstream.fake.requests[-1].body
    system, user, assistant, result, last = body["messages"]
    assert (system, user) == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"})
    [told] = assistant["tool_calls"]
    assert (told["id"], told["function"]["name"], json.loads(told["function"]["arguments"])) == CALLS[0]
    assert result == {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    assert last == {"role": "user", "content": "So?"}
    assert body["tools"] == [
        {
            "type": "function",
            "function": {**{k: WEATHER[k] for k in ("name", "description")}, "parameters": WEATHER["input_schema"]},
        }
    ]
    assert upstream.fake.requests[-2].body["tool_choice"] == "required"


def test_options_pictures_and_documents_reach_the_upstream(
    client: anthropic.Anthropic, upstream: UpstreamThread
) -> None:
    marker = {"type": "ephemeral"}
    content = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "document",
            "title": "a.pdf",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"},
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a note"}},
        {"type": "text", "text": "Look.", "cache_control": marker},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    asked(
        client,
        "ok",
        stream=False,
        messages=[{"role": "user", "content": content}],
        system=[{"type": "text", "text": "Be brief.", "cache_control": marker}],
        stop_sequences=["END"],
        thinking={"type": "enabled", "budget_tokens": 4096},
        metadata={"user_id": "u1"},
        extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 40},
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    body = upstream.fake.requests[-1].body
    assert body["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief.", "cache_control": marker}]},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}},
                {"type": "text", "text": "a note"},
                {"type": "text", "text": "Look.", "cache_control": marker},
            ],
        },
    ]
    expected = {"max_tokens": 100, "stop": ["END"], "temperature": 0.5, "top_p": 0.9, "top_k": 40, "user": "u1"}
    expected |= {"reasoning_effort": "medium"}
    assert {name: body[name] for name in expected} == expected
    assert body["response_format"]["json_schema"]["schema"] == schema


def test_a_long_id_of_a_user_is_told_as_a_short_one(client: anthropic.Anthropic, upstream: UpstreamThread) -> None:
    """OpenAI refuses one of more than 64 characters, and Claude Code sends one of 150."""
    asked(client, "ok", stream=False, metadata={"user_id": "u" * 150})
    assert len(upstream.fake.requests[-1].body["user"]) == 64


HALVES = ["cut", "cut-hard", "cut-eof", "cut-midline", "badjson", "error-openai", "error-vllm", "error-event"]


@both
@pytest.mark.parametrize("model", HALVES)
def test_half_an_answer_is_never_a_success(model: str, stream: bool, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as error:
        asked(client, model, stream=stream)
    body: Any = error.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] in ("api_error", "overloaded_error")


REFUSALS: dict[str, tuple[type[anthropic.APIStatusError], str]] = {
    "e401": (anthropic.InternalServerError, "api_error"),
    "e429": (anthropic.RateLimitError, "rate_limit_error"),
    "e503": (anthropic.InternalServerError, "api_error"),
    "e400": (anthropic.BadRequestError, "invalid_request_error"),
    "no-such-model": (anthropic.NotFoundError, "not_found_error"),
}


@both
@pytest.mark.parametrize("model", REFUSALS)
def test_a_refusal_has_the_formats_own_form(model: str, stream: bool, client: anthropic.Anthropic) -> None:
    kind, word = REFUSALS[model]
    with pytest.raises(kind) as error:
        asked(client, model, stream=stream)
    body: Any = error.value.body
    assert (body["type"], body["error"]["type"]) == ("error", word)
    lead = "prompt is too long: " if model == "e400" else ""  # at which Claude Code makes a conversation shorter
    assert body["error"]["message"] == lead + body["detail"]
    assert body["request_id"] == error.value.request_id


def test_who_leaves_ends_the_upstreams_work(client: anthropic.Anthropic, upstream: UpstreamThread) -> None:
    with client.messages.stream(model="slow", max_tokens=9, messages=SAID) as events:
        next(iter(events.text_stream))
    eventually(lambda: not upstream.open_requests)


def test_tokens_are_counted_before_they_are_paid_for(client: anthropic.Anthropic) -> None:
    short = client.messages.count_tokens(model="ok", messages=SAID).input_tokens
    more = [{"role": "user", "content": "Hello! " * 100}]
    assert 5 <= short < client.messages.count_tokens(model="ok", messages=more).input_tokens < 250  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 10_000_000}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages.0.content.0.tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]}, "messages.0.content.0.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [{"name": "a"}]}, "tools.0.input_schema"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"container": "c1"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"model": 7}, "model"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(fields: dict[str, Any], param: str, gateway: Gateway) -> None:
    body = {"model": "ok", "max_tokens": 9, "messages": SAID, **fields}
    answer = httpx2.post(f"{gateway.url}/v1/messages", json=body)
    assert answer.status_code == 400
    assert param in answer.json()["error"]["message"]


def test_the_key_may_come_as_anthropics_clients_send_it(upstream: UpstreamThread, tmp_path: Path) -> None:
    made = serving(tmp_path, upstream.url, TRILANE_API_KEYS="alice:sk-right-key").start()
    try:
        body = {"model": "ok", "max_tokens": 9, "messages": SAID}
        for key, status in (("sk-right-key", 200), ("sk-wrong-key", 401), ("", 401)):
            answer = httpx2.post(f"{made.url}/v1/messages", json=body, headers={"x-api-key": key} if key else {})
            assert answer.status_code == status, key
            assert status == 200 or answer.json()["error"]["type"] == "authentication_error"
        assert len(made.usage("alice")) == 1
    finally:
        made.stop()
