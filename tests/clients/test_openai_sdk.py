"""OpenAI's Python SDK, unmodified, gets every complete answer whole from `/v1`, with its figures and reasons."""

import openai
import pytest

from loadtests.upstream.behaviours import UTF8_TAIL
from loadtests.upstream.shapes import word, words
from tests.clients.openai_sdk import Asker, messages
from tests.conftest import Gateway, UpstreamThread, eventually

CALLS = [(f"call_{day}", "get_weather", f'{{"city":"Zürich","day":{day}}}') for day in range(2)]
THOUGHT = "r0 r1 r2 r3 r4 "
ODD_BYTES = ["crlf", "cr", "comments", "multiline-data", "unknown-fields", "no-done", "double-done"]


def test_a_whole_answer_arrives_with_its_figures(asker: Asker) -> None:
    completion = asker.whole("ok")
    [choice] = completion.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", words(20), "stop")
    assert (completion.model, completion.object) == ("ok", "chat.completion")
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 20, 27)


def test_a_streamed_answer_arrives_whole(asker: Asker) -> None:
    answer = asker.stream("ok")
    assert (answer.error, answer.text, answer.finish_reasons) == (None, words(20), ["stop"])
    assert {(chunk.model, chunk.object) for chunk in answer.chunks} == {("ok", "chat.completion.chunk")}
    assert len({(chunk.id, chunk.created) for chunk in answer.chunks}) == 1
    assert answer.deltas[0].role == "assistant"
    assert all(chunk.choices and chunk.usage is None for chunk in answer.chunks)


def test_the_usage_of_a_stream_is_the_upstreams_and_comes_last(asker: Asker) -> None:
    answer = asker.stream("ok", "T=33 I=200", stream_options={"include_usage": True})
    *chunks, last = answer.chunks
    assert answer.text == words(33)
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens, last.usage.total_tokens) == (7, 33, 40)
    assert all(chunk.usage is None for chunk in chunks)


def test_usage_sent_with_every_chunk_arrives_once(asker: Asker) -> None:
    answer = asker.stream("usage-every", "T=11 I=200", stream_options={"include_usage": True})
    assert [chunk.usage.completion_tokens for chunk in answer.chunks if chunk.usage] == [11]


@pytest.mark.parametrize("model", ODD_BYTES)
def test_an_answer_in_any_allowed_bytes_arrives_whole(model: str, asker: Asker) -> None:
    assert asker.whole(model).choices[0].message.content == words(20)
    answer = asker.stream(model)
    assert (answer.error, answer.text, answer.finish_reasons) == (None, words(20), ["stop"])


def test_characters_split_over_writes_arrive_whole(asker: Asker) -> None:
    text = "".join(word(n) + UTF8_TAIL for n in range(20))
    assert asker.whole("utf8-split").choices[0].message.content == text
    assert asker.stream("utf8-split").text == text


def test_tool_calls_are_assembled(asker: Asker) -> None:
    [choice] = asker.whole("tools-2").choices
    calls = choice.message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls if c.type == "function"] == CALLS
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    answer = asker.stream("tools-2")
    assert (answer.calls, answer.finish_reasons, answer.text) == (CALLS, ["tool_calls"], "")


def test_reasoning_is_kept_apart(asker: Asker) -> None:
    message = asker.whole("reasoning").choices[0].message
    assert message.content == words(20)
    assert message.model_extra is not None
    assert message.model_extra["reasoning_content"] == THOUGHT
    answer = asker.stream("reasoning")
    assert (answer.reasoning, answer.text) == (THOUGHT, words(20))


@pytest.mark.parametrize(
    ("model", "reason"), [("finish-length", "length"), ("finish-filter", "content_filter"), ("empty", "stop")]
)
def test_the_finish_reason_is_kept(model: str, reason: str, asker: Asker) -> None:
    assert asker.whole(model).choices[0].finish_reason == reason
    assert asker.stream(model).finish_reasons == [reason]


def test_the_models_are_listed(asker: Asker) -> None:
    assert asker.models() == ["ok"]


def test_the_model_of_the_server_is_used_for_an_empty_name(asker: Asker) -> None:
    completion = asker.whole("")
    assert (completion.model, completion.choices[0].message.content) == ("ok", words(20))


def test_the_sdk_assembles_a_stream_by_itself(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="local") as client:
        with client.chat.completions.stream(model="tools-2", messages=messages("weather? I=200")) as stream:
            [choice] = stream.get_final_completion().choices
        calls = choice.message.tool_calls or []
        assert [(call.id, call.function.name, call.function.arguments) for call in calls] == CALLS
        with client.chat.completions.stream(model="ok", messages=messages("T=9 I=200")) as stream:
            assert stream.get_final_completion().choices[0].message.content == words(9)


def test_a_tools_result_goes_back_to_the_model(gateway: Gateway, upstream: UpstreamThread) -> None:
    question = messages("weather? T=5 I=200")
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="local") as client:
        call_message = client.chat.completions.create(model="tools", messages=question).choices[0].message
        assert call_message.tool_calls is not None
        result = {"role": "tool", "tool_call_id": call_message.tool_calls[0].id, "content": "sun"}
        answer = client.chat.completions.create(model="tools", messages=[*question, call_message, result])
    assert answer.choices[0].message.content == words(5)
    body = upstream.fake.requests[-1].body
    assert body is not None
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool"]
    assert body["messages"][1]["tool_calls"] == [call.model_dump() for call in call_message.tool_calls]


def test_settings_of_the_request_reach_the_upstream(asker: Asker, upstream: UpstreamThread) -> None:
    settings = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 50,
        "stop": ["END"],
        "seed": 7,
        "user": "u-1",
    }
    asker.whole("ok", **settings)
    body = upstream.fake.requests[-1].body
    assert body is not None
    assert {name: body.get(name) for name in settings} == settings


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_client_that_leaves_ends_the_generation(stream: bool, gateway: Gateway, upstream: UpstreamThread) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="local", max_retries=0) as client:
        text = messages("T=400 I=10000")
        if stream:
            chunks = client.chat.completions.create(model="ok", messages=text, stream=True)
            next(iter(chunks))
            chunks.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(model="ok", messages=text, timeout=0.2)
    eventually(lambda: not upstream.open_requests, 1, "the upstream request is closed")
    assert upstream.fake.requests[-1].left_at is not None
