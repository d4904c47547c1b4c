"""A request in OpenAI's format: what we read of it, and that all the rest reaches the upstream as it came."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.dialects.completion_request import CompletionRequest
from gateway.errors import BadRequest


def asked(**fields: Any) -> dict[str, object]:
    """Returns what an upstream is asked when a client sends these fields."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields})
    request = msgspec.json.decode(body, type=CompletionRequest)
    return request.for_upstream(msgspec.json.decode(body, type=dict[str, msgspec.Raw]), 10, 100)


def test_what_the_model_is_asked_is_passed_on_as_it_came() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    fields = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "n"}],
        "temperature": 0.5,
        "top_p": 1,
        "stop": ["a", "b"],
        "seed": 1,
        "tools": tools,
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "max_tokens": 5,
        "top_logprobs": 3,
        "logprobs": True,
        "prediction": {"type": "content", "content": "x"},
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "web_search_options": {},
        "chat_template_kwargs": {"enable_thinking": False},
        "guided_json": {"type": "object"},
        "functions": [{"name": "f"}],
        "function_call": "auto",
        "a_field_of_tomorrow": [1.5, None, {"b": "\U0001f600"}],
        "logit_bias": {"50256": -100},
        "top_k": 40,
        "metadata": {"a": "b"},
    }
    assert asked(**fields) == fields


def test_what_is_ours_to_say_is_left_out() -> None:
    ours = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert set(asked(**ours)) == {"messages"}


def test_a_field_that_is_null_is_not_there() -> None:
    assert set(asked(max_completion_tokens=None, n=None, x=None, temperature=None)) == {"messages"}


@pytest.mark.parametrize("count", [0, 11])
def test_too_few_and_too_many_messages_are_refused(count: int) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(messages=[{}] * count)
    assert refused.value.code == "too_many_messages"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_more_output_than_the_limit_is_refused(name: str) -> None:
    asked(**{name: 100})
    with pytest.raises(BadRequest, match=f"{name}=101"):
        asked(**{name: 101})


@pytest.mark.parametrize("field", [{"n": 17}, {"n": 0}, {"messages": None}, {"max_tokens": "5"}, {"stream": 7}])
def test_fields_that_we_read_must_be_what_we_can_serve(field: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        asked(**field)
