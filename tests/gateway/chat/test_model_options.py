"""A client gives a model a system prompt, tools and sampling; they leave in the words of OpenAI's completions."""

import json
from typing import Any

import msgspec
import pytest

from gateway.chat.model_options import ModelOptions
from gateway.errors import BadRequest

HI = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": SCHEMA}}
BARE = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


def sent(**body: Any) -> dict[str, Any]:
    """Returns what an upstream is sent for a body with these fields, without the messages."""
    fields = options(**body).upstream_fields([HI], 1000)
    assert fields.pop("messages") == [HI]
    return json.loads(msgspec.json.encode(fields))


def options(**body: Any) -> ModelOptions:
    return msgspec.json.decode(json.dumps(body).encode(), type=ModelOptions)


TOOLS: dict[str, tuple[Any, list[Any]]] = {
    "OpenAI's list": ([WEATHER], [WEATHER]),
    "a map, as assistant-ui sends it": ({"weather": {"description": "of a city", "parameters": SCHEMA}}, [WEATHER]),
    "a map with the AI SDK's own name": ({"weather": {"description": "of a city", "inputSchema": SCHEMA}}, [WEATHER]),
    "a map of the AI SDK's tools, as they are in JSON": (
        {"weather": {"description": "of a city", "inputSchema": {"jsonSchema": SCHEMA}}},
        [WEATHER],
    ),
    "a flat list": (
        [{"type": "function", "name": "weather", "description": "of a city", "parameters": SCHEMA}],
        [WEATHER],
    ),
    "a flat list without types": ([{"name": "weather", "description": "of a city", "input_schema": SCHEMA}], [WEATHER]),
    "a map of OpenAI's": ({"weather": WEATHER}, [WEATHER]),
    "without a schema": ({"now": {}}, [BARE]),
    "with nulls": ({"now": {"description": None, "parameters": None}}, [BARE]),
    "several": ({"weather": {"description": "of a city", "parameters": SCHEMA}, "now": {}}, [WEATHER, BARE]),
    "a kind that is not known": (
        [{"type": "custom", "custom": {"name": "x"}}],
        [{"type": "custom", "custom": {"name": "x"}}],
    ),
}


@pytest.mark.parametrize(("tools", "upstream"), TOOLS.values(), ids=TOOLS.keys())
def test_tools_in_every_form_reach_the_upstream(tools: Any, upstream: list[Any]) -> None:
    assert sent(tools=tools) == {"tools": upstream}


@pytest.mark.parametrize("tools", [None, {}, []])
def test_no_tools_are_no_field(tools: Any) -> None:
    assert sent(tools=tools, toolChoice="auto") == {}


NAMED = {"type": "function", "function": {"name": "now"}}


@pytest.mark.parametrize(
    ("choice", "upstream"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "tool", "toolName": "now"}, NAMED),
        ({"type": "function", "name": "now"}, NAMED),
        ({"type": "any"}, "required"),
        (NAMED, NAMED),
    ],
)
def test_the_choice_of_a_tool_reaches_the_upstream(choice: Any, upstream: Any) -> None:
    assert sent(tools={"now": {}}, toolChoice=choice) == {"tools": [BARE], "tool_choice": upstream}


def test_sampling_reaches_the_upstream() -> None:
    body = {
        "temperature": 0.5,
        "topP": 1,
        "maxOutputTokens": 100.0,
        "seed": 2**60,
        "stopSequences": ["END"],
        "reasoningEffort": "low",
    }
    upstream = {
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 100,
        "seed": 2**60,
        "stop": ["END"],
        "reasoning_effort": "low",
    }
    assert sent(**body) == upstream
    assert sent(**dict.fromkeys(body), system=None, tools=None, toolChoice=None) == {}
    assert sent(temperature=0) == {"temperature": 0.0}


def test_the_settings_of_assistant_ui_reach_the_upstream_unless_something_stands_beside_them() -> None:
    settings = {
        "maxTokens": 50,
        "temperature": 0.1,
        "topP": 0.9,
        "presencePenalty": 1,
        "frequencyPenalty": 0,
        "seed": 3,
    }
    upstream = {
        "max_tokens": 50,
        "temperature": 0.1,
        "top_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": 0.0,
        "seed": 3,
    }
    assert sent(callSettings={**settings, "headers": {"x": "y"}}) == upstream
    assert sent(callSettings=settings, temperature=0, seed=4) == {**upstream, "temperature": 0.0, "seed": 4}
    assert sent(callSettings=None) == {}


def test_the_system_prompt_comes_first() -> None:
    assert options(system="Be brief.").upstream_fields([HI], 1)["messages"] == [
        {"role": "system", "content": "Be brief."},
        HI,
    ]
    posted = [{"role": "system", "content": "Of the chat."}, HI]
    assert options(system="Be brief.").upstream_fields(posted, 1)["messages"] == [
        {"role": "system", "content": "Be brief.\n\nOf the chat."},
        HI,
    ]
    assert options(system="").upstream_fields([HI], 1)["messages"] == [HI]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "too many tokens": ({"maxOutputTokens": 1001}, "maxOutputTokens=1001: 1 to 1000"),
    "no tokens": ({"maxOutputTokens": 0}, "maxOutputTokens=0: 1 to 1000"),
    "half a token": ({"maxOutputTokens": 1.5}, "maxOutputTokens=1.5"),
    "half a seed": ({"seed": 0.5}, "seed=0.5"),
    "tools as text": ({"tools": "weather"}, "tools: want"),
    "a tool as text": ({"tools": {"weather": "x"}}, "tools.weather: want an object"),
    "a listed tool as text": ({"tools": ["x"]}, r"tools\[0\]: want an object"),
    "a tool without a name": ({"tools": [{"description": "x"}]}, "needs a name"),
    "a choice that is none": ({"tools": {"now": {}}, "toolChoice": "maybe"}, "toolChoice='maybe'"),
    "a choice as number": ({"tools": {"now": {}}, "toolChoice": 1}, "toolChoice: want an object"),
    "a choice without tools": ({"toolChoice": "required"}, "toolChoice needs `tools`"),
}


@pytest.mark.parametrize(("body", "error"), BAD.values(), ids=BAD.keys())
def test_what_is_not_valid_is_refused_with_its_name(body: dict[str, Any], error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        sent(**body)


@pytest.mark.parametrize(
    "body", [{"temperature": "hot"}, {"system": 1}, {"stopSequences": [1]}, {"seed": "x"}, {"reasoningEffort": {}}]
)
def test_a_field_of_another_type_is_named(body: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(body))):
        options(**body)
