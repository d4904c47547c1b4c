"""OpenAI's Python SDK, unmodified, is answered by `/v1/responses`: whole, streamed, and gone on from."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from loadtests.upstream.shapes import words
from tests.conftest import Gateway, UpstreamThread

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CALLS = [(f"call_{day}", "get_weather", f'{{"city":"Zürich","day":{day}}}') for day in range(2)]
THOUGHT = "r0 r1 r2 r3 r4 "
OPENING = ["response.created", "response.in_progress"]
MESSAGE = [
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
CALL = [
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
]
HALVES = ["cut", "cut-eof", "badjson", "error-openai"]


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="local", max_retries=0, timeout=30) as new:
        yield new


def once(events: list[ResponseStreamEvent]) -> list[str]:
    """Returns the types of events, each run of one type once."""
    types = [event.type for event in events]
    return [kind for place, kind in enumerate(types) if place == 0 or types[place - 1] != kind]


def streamed(client: openai.OpenAI, model: str, text: str = "T=20 I=200", **more: Any) -> list[ResponseStreamEvent]:
    return list(client.responses.create(model=model, input=text, stream=True, **more))


def last_body(upstream: UpstreamThread) -> dict[str, Any]:
    body = upstream.fake.requests[-1].body
    assert body is not None
    return body


# Whole and streamed


def test_a_whole_response_arrives_with_its_figures(client: openai.OpenAI) -> None:
    response = client.responses.create(model="ok", input="T=20 I=200", metadata={"a": "b"}, temperature=0.5)
    assert (response.output_text, response.status, response.model) == (words(20), "completed", "ok")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (7, 20, 27)
    assert (response.metadata, response.temperature, response.error) == ({"a": "b"}, 0.5, None)


def test_a_stream_has_every_event_in_order_with_its_number(client: openai.OpenAI) -> None:
    events = streamed(client, "ok")
    assert once(events) == [*OPENING, *MESSAGE, "response.completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == words(20)
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == words(20)
    assert {event.item_id for event in events if event.type == "response.output_text.delta"} == {
        last.response.output[0].id
    }


def test_the_sdk_assembles_a_stream_by_itself(client: openai.OpenAI) -> None:
    with client.responses.stream(model="ok", input="T=9 I=200") as stream:
        assert stream.get_final_response().output_text == words(9)
    with client.responses.stream(model="tools-2", input="weather? I=200", tools=[TOOL]) as stream:
        calls = [item for item in stream.get_final_response().output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == CALLS


def test_calls_are_told_as_they_come(client: openai.OpenAI) -> None:
    events = streamed(client, "tools-2", tools=[TOOL])
    added = [event.item for event in events if event.type == "response.output_item.added"]
    done = [event.item for event in events if event.type == "response.output_item.done"]
    assert [item.id for item in added] == [item.id for item in done]
    assert [(item.call_id, item.name, item.arguments) for item in done if item.type == "function_call"] == CALLS
    assert set(once(events)) == {*OPENING, *CALL, "response.completed"}
    for item in done:
        own = [event for event in events if getattr(event, "item_id", "") == item.id]
        pieces = [event.delta for event in own if event.type == "response.function_call_arguments.delta"]
        assert item.type == "function_call"
        assert "".join(pieces) == item.arguments


def test_thoughts_are_told_as_they_are_or_as_a_summary(client: openai.OpenAI) -> None:
    events = streamed(client, "reasoning")
    assert "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == THOUGHT
    last = events[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["reasoning", "message"]
    assert last.response.output_text == words(20)
    response = client.responses.create(model="reasoning", input="T=20 I=200", reasoning={"summary": "auto"})
    [thought] = [item for item in response.output if item.type == "reasoning"]
    assert [part.text for part in thought.summary] == [THOUGHT]


@pytest.mark.parametrize(
    ("model", "reason"), [("finish-length", "max_output_tokens"), ("finish-filter", "content_filter")]
)
def test_a_response_that_is_not_complete_says_why(model: str, reason: str, client: openai.OpenAI) -> None:
    last = streamed(client, model)[-1]
    assert last.type == "response.incomplete"
    whole = client.responses.create(model=model, input="T=20 I=200")
    for response in (last.response, whole):
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == reason
        assert {item.status for item in response.output if item.type == "message"} <= {"incomplete"}


def test_an_object_is_parsed_by_the_sdk(gateway: Gateway, upstream: UpstreamThread, client: openai.OpenAI) -> None:
    class Weather(BaseModel):
        city: str
        day: int

    with pytest.raises(ValueError, match="Weather"):  # the words of this upstream are no such object
        client.responses.parse(model="ok", input="T=3 I=0", text_format=Weather)
    form = last_body(upstream)["response_format"]
    assert (form["type"], form["json_schema"]["name"]) == ("json_schema", "Weather")
    assert set(form["json_schema"]["schema"]["properties"]) == {"city", "day"}


# Errors


@pytest.mark.parametrize("model", HALVES)
def test_half_a_response_is_never_a_success(model: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        client.responses.create(model=model, input="T=20 I=200")
    assert error.value.status_code == 502
    events: list[ResponseStreamEvent] = []
    with pytest.raises(openai.APIError) as told:
        events.extend(client.responses.create(model=model, input="T=20 I=200", stream=True))
    assert told.value.code == error.value.code


def test_a_cut_is_told_as_a_failed_response_first(client: openai.OpenAI) -> None:
    events: list[ResponseStreamEvent] = []
    stream = client.responses.create(model="cut", input="T=20 I=200", stream=True)
    with pytest.raises(openai.APIError):
        events.extend(stream)
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert last.response.error.code == "upstream_cut"
    assert last.response.output_text == words(10)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [
        ("e400", openai.BadRequestError, "context_length_exceeded"),
        ("e401", openai.InternalServerError, "upstream_auth"),
        ("e429", openai.RateLimitError, "upstream_rate_limited"),
        ("no-such-model", openai.NotFoundError, "model_not_found"),
    ],
)
def test_a_refusal_has_a_status_and_a_code(
    model: str, kind: type[openai.APIStatusError], code: str, stream: bool, client: openai.OpenAI
) -> None:
    with pytest.raises(kind) as error:
        client.responses.create(model=model, input="T=20 I=200", stream=stream)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("param", "more"),
    [
        ("tools[0].type", {"tools": [{"type": "web_search"}]}),
        ("tools[1].type", {"tools": [TOOL, {"type": "file_search", "vector_store_ids": ["v"]}]}),
        ("tools[0].type", {"tools": [{"type": "computer_use_preview"}]}),
        ("tools[0].name", {"tools": [{"type": "function"}]}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "web_search"}}),
        ("input[0].type", {"input": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]}),
        ("input[0].role", {"input": [{"role": "tool", "content": "x"}]}),
        ("input[0].content[0].type", {"input": [{"role": "user", "content": [{"type": "input_video"}]}]}),
        (
            "input[0].content[0].file_id",
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        ),
        ("input[0].call_id", {"input": [{"type": "function_call_output", "output": "x"}]}),
        ("input[0].id", {"input": [{"type": "item_reference", "id": "msg_0123456789abcdef0123_0"}]}),
        ("input", {"input": []}),
        ("input", {"input": 7}),
        ("text.format.type", {"text": {"format": {"type": "grammar"}}}),
        ("truncation", {"truncation": "auto"}),
        ("include[0]", {"include": ["web_search_call.action.sources"]}),
        ("top_logprobs", {"top_logprobs": 3}),
        ("background", {"background": True, "store": False}),
        ("max_output_tokens", {"max_output_tokens": 10_000_000}),
        ("conversation", {"conversation": "conv_1"}),
        ("prompt", {"prompt": {"id": "pmpt_1"}}),
        ("previous_response_id", {"previous_response_id": "resp_0123456789abcdef0123"}),
        ("previous_response_id", {"previous_response_id": "nonsense"}),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(param: str, more: dict[str, Any], client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        client.responses.create(**{"model": "ok", "input": "hi", **more})
    is_missing = param in ("previous_response_id", "input[0].id")
    assert (error.value.status_code, error.value.param) == (404 if is_missing else 400, param)


# What the upstream is sent


def test_items_become_the_messages_of_a_completion(client: openai.OpenAI, upstream: UpstreamThread) -> None:
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "T=3 I=0"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "low"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "rain"}]},
    ]
    client.responses.create(
        model="ok",
        input=items,
        instructions="You help.",
        tools=[TOOL],
        tool_choice={"type": "function", "name": "get_weather"},
        reasoning={"effort": "low"},
        max_output_tokens=50,
        parallel_tool_calls=False,
        extra_body={"seed": 7},
    )
    body = last_body(upstream)
    call = {"type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
    assert body["messages"] == [
        {"role": "system", "content": "You help."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "T=3 I=0"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", **call}, {"id": "c2", **call}]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "tool", "tool_call_id": "c2", "content": "rain"},
    ]
    function = {name: value for name, value in TOOL.items() if name != "type"}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    told = [body[name] for name in ("reasoning_effort", "max_tokens", "parallel_tool_calls", "seed")]
    assert told == ["low", 50, False, 7]


def test_a_tools_result_goes_back_to_the_model(client: openai.OpenAI, upstream: UpstreamThread) -> None:
    first = client.responses.create(model="tools", input="weather? T=5 I=200", tools=[TOOL])
    [call] = [item for item in first.output if item.type == "function_call"]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}
    by_id = client.responses.create(model="tools", input=[result], previous_response_id=first.id, tools=[TOOL])
    assert by_id.output_text == words(5)
    chained = last_body(upstream)["messages"]
    posted: Any = [
        {"role": "user", "content": "weather? T=5 I=200"},
        *[item.to_dict() for item in first.output],
        result,
    ]
    by_items = client.responses.create(model="tools", input=posted, tools=[TOOL], store=False)
    assert by_items.output_text == words(5)
    assert last_body(upstream)["messages"] == chained
    referring: Any = [posted[0], {"type": "item_reference", "id": call.id}, result]
    client.responses.create(model="tools", input=referring, tools=[TOOL])
    assert last_body(upstream)["messages"] == chained
    assert [message["role"] for message in chained] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_of_a_group_is_called_by_both_names(
    stream: bool, client: openai.OpenAI, upstream: UpstreamThread
) -> None:
    """As Codex has its tools: a completion knows no groups, so the model sees one name."""
    group: Any = {"type": "namespace", "name": "sky", "description": "d", "tools": [TOOL]}
    text = "C=sky__get_weather I=0"
    asked: Any = {"model": "tools", "input": text, "tools": [group, {**TOOL, "name": "other"}]}
    if stream:
        done = [event for event in client.responses.create(**asked, stream=True) if event.type == "response.completed"]
        response: Any = done[0].response
    else:
        response = client.responses.create(**asked)
    names = [tool["function"]["name"] for tool in last_body(upstream)["tools"]]
    assert names == ["sky__get_weather", "other"]
    [call] = [item.to_dict() for item in response.output]
    assert (call["type"], call["namespace"], call["name"]) == ("function_call", "sky", "get_weather")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
    client.responses.create(**{**asked, "input": [{"role": "user", "content": text}, call, result]})
    [told] = last_body(upstream)["messages"][1]["tool_calls"]
    assert told["function"]["name"] == "sky__get_weather"
    with pytest.raises(openai.BadRequestError, match="sky__get_weather"):
        client.responses.create(**{**asked, "tools": [group, {**TOOL, "name": "sky__get_weather"}]})
