"""What an upstream sends beside its text reaches clients: of `/v1` at its place, of `/api/chat` as metadata."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from gateway.chat.upstreams.completion_parser import CompletionParser
from tests.conftest import Gateway, serving
from tests.support.completions import frames
from tests.upstreams.answers import asked
from tests.upstreams.cases_upstream import CasesUpstream

HEAD = {"id": "up-1", "object": "chat.completion.chunk", "created": 5, "model": "asked-2025-01-01"}
FACTS = {"system_fingerprint": "fp_1", "service_tier": "flex"}
USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "cost": 0.25,
    "completion_tokens_details": {"audio_tokens": 3, "reasoning_tokens": 2},
}


def piece(delta: dict[str, Any], finish: str | None = None, choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, **(choice or {})}]
    return json.dumps({**HEAD, **FACTS, "choices": choices, **more}).encode()


def logprobs(token: str) -> dict[str, Any]:
    return {
        "logprobs": {"content": [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}], "refusal": None}
    }


def of_choice(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    return piece(delta, finish, {"index": index})


STOP = piece({}, "stop")
SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}, **SIGNED}
ANSWERS: dict[str, list[bytes]] = {
    "facts": [piece({"content": "Hi"}), STOP, json.dumps({**HEAD, "choices": [], "usage": USAGE}).encode()],
    "late": [piece({"content": "Hi"}), piece({}, "stop", citations=["http://a"], service_tier="default")],
    "logprobs": [piece({"content": "a"}, choice=logprobs("a")), piece({"content": "b"}, choice=logprobs("b")), STOP],
    "refusal": [piece({"refusal": "I ca"}), piece({"refusal": "n't"}), STOP],
    "refusal-after-text": [piece({"content": "Well. "}), piece({"refusal": "No."}), STOP],
    "text-after-refusal": [piece({"refusal": "No."}), piece({"content": "Well."}), STOP],
    "signed-call": [piece({"tool_calls": [CALL]}), piece({}, "tool_calls")],
    "custom-call": [
        piece(
            {"tool_calls": [{"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT "}}]}
        ),
        piece({"tool_calls": [{"index": 0, "custom": {"input": '"1"'}}]}),
        piece({}, "tool_calls"),
    ],
    "function": [
        piece({"function_call": {"name": "f", "arguments": '{"a"'}}),
        piece({"function_call": {"arguments": ":1}"}}),
        piece({}, "function_call"),
    ],
    "images": [piece({"content": "", "images": [{"image_url": {"url": "data:image/png;base64,AA"}}]}), STOP],
    "annotations": [
        piece({"content": "Hi"}),
        piece({"annotations": [{"url": "a"}]}),
        piece({"annotations": [{"url": "b"}]}),
        STOP,
    ],
    "audio": [
        piece({"audio": {"id": "au", "data": "AA", "transcript": "Hi"}}),
        piece({"audio": {"data": "BB", "transcript": "!"}}),
        STOP,
    ],
    "details": [
        piece({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}),
        piece({"content": "a"}),
        STOP,
    ],
    "two": [
        of_choice(1, {"role": "assistant", "content": "B"}),
        of_choice(0, {"content": "A"}),
        of_choice(0, {}, "stop"),
        of_choice(1, {"content": "b", "tool_calls": [CALL | {"index": 0}]}),
        of_choice(1, {}, "tool_calls"),
    ],
    "two-at-once": [
        json.dumps(
            {
                **HEAD,
                "choices": [
                    {"index": n, "message": {"content": text}, "finish_reason": "stop"} for n, text in enumerate("AB")
                ],
            }
        ).encode()
    ],
    "bored": [piece({"content": "Hi"}), piece({}, "bored")],
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[CasesUpstream]:
    bodies = {name: frames(*chunks, b"[DONE]") for name, chunks in ANSWERS.items()}
    with CasesUpstream(Path(__file__).parent / "cases", bodies) as made:
        yield made


@pytest.fixture(scope="module")
def gateway(upstream: CasesUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    made = serving(tmp_path_factory.mktemp("relay"), upstream.url, TRILANE_MODEL="")
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"{gateway.url}/v1", max_retries=0) as made:
        yield made


def streamed(client: openai.OpenAI, model: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the chunks of an answer, and its deltas."""
    messages: Any = [{"role": "user", "content": "hi"}]
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk.to_dict() for chunk in stream]
    return chunks, [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def whole(client: openai.OpenAI, model: str) -> dict[str, Any]:
    messages: Any = [{"role": "user", "content": "hi"}]
    return client.chat.completions.create(model=model, messages=messages).to_dict()


def test_model_fingerprint_and_tier_are_the_upstreams(client: openai.OpenAI) -> None:
    chunks, _ = streamed(client, "facts")
    for answer in (*chunks, whole(client, "facts")):
        assert (answer["model"], answer["system_fingerprint"], answer["service_tier"]) == (
            HEAD["model"],
            "fp_1",
            "flex",
        )
        assert answer["id"].startswith("chatcmpl-")


def test_figures_that_we_do_not_know_are_passed_on(client: openai.OpenAI) -> None:
    chunks, _ = streamed(client, "facts")
    for usage in (chunks[-1]["usage"], whole(client, "facts")["usage"]):
        assert (usage["prompt_tokens"], usage["total_tokens"], usage["cost"]) == (11, 18, 0.25)
        details = usage["completion_tokens_details"]
        assert (details["audio_tokens"], details["reasoning_tokens"]) == (3, 2)


def test_what_comes_late_is_passed_on_once(client: openai.OpenAI) -> None:
    chunks, _ = streamed(client, "late")
    assert [chunk["citations"] for chunk in chunks if "citations" in chunk] == [["http://a"]]
    assert chunks[-1]["service_tier"] == "default"
    assert whole(client, "late")["citations"] == ["http://a"]


def test_log_probabilities_are_those_of_their_tokens(client: openai.OpenAI) -> None:
    chunks, _ = streamed(client, "logprobs")
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    tokens = [(c["delta"]["content"], c["logprobs"]["content"][0]["token"]) for c in choices if c.get("logprobs")]
    assert tokens == [("a", "a"), ("b", "b")]
    content = whole(client, "logprobs")["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["a", "b"]


@pytest.mark.parametrize(
    ("model", "content", "refusal"),
    [("refusal", "", "I can't"), ("refusal-after-text", "Well. ", "No."), ("text-after-refusal", "Well.", "No.")],
)
def test_a_refusal_is_one(client: openai.OpenAI, model: str, content: str, refusal: str) -> None:
    _, deltas = streamed(client, model)
    assert "".join(delta.get("content") or "" for delta in deltas) == content
    assert "".join(delta.get("refusal") or "" for delta in deltas) == refusal
    message = whole(client, model)["choices"][0]["message"]
    assert (message["content"] or "", message["refusal"]) == (content, refusal)


def test_the_signature_of_a_call_is_passed_on_and_comes_back_to_the_upstream(
    client: openai.OpenAI, gateway: Gateway, upstream: CasesUpstream
) -> None:
    _, deltas = streamed(client, "signed-call")
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    assert [call["extra_content"] for call in calls if call.get("extra_content")] == [SIGNED["extra_content"]]
    [call] = whole(client, "signed-call")["choices"][0]["message"]["tool_calls"]
    assert call["extra_content"] == SIGNED["extra_content"]

    question = {"id": "q", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    body = {"id": "signed", "model": "signed-call", "message": question}
    assert (
        SIGNED["extra_content"]["google"]["thought_signature"] in httpx2.post(f"{gateway.url}/api/chat", json=body).text
    )
    answer = httpx2.get(f"{gateway.url}/api/chat/signed").json()["messages"][-1]
    part = next(part for part in answer["parts"] if part["type"] == "tool-f")
    part |= {"state": "output-available", "output": 1}
    httpx2.post(f"{gateway.url}/api/chat", json={**body, "message": answer})
    sent = next(m for m in upstream.requests[-1]["messages"] if m.get("tool_calls"))
    assert sent["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


def test_a_custom_tool_takes_any_text(client: openai.OpenAI, gateway: Gateway) -> None:
    _, deltas = streamed(client, "custom-call")
    calls = [call for delta in deltas for call in delta.get("tool_calls") or []]
    assert (calls[0]["type"], calls[0]["custom"]["name"]) == ("custom", "sql")
    assert "".join(call["custom"]["input"] for call in calls) == 'SELECT "1"'
    [call] = whole(client, "custom-call")["choices"][0]["message"]["tool_calls"]
    assert (call["type"], call["custom"]) == ("custom", {"name": "sql", "input": 'SELECT "1"'})
    assert asked(gateway, "custom-call")["tools"] == [["sql", 'SELECT "1"']]


WHOLE: dict[str, tuple[str, object]] = {
    "images": ("images", [{"image_url": {"url": "data:image/png;base64,AA"}}]),
    "annotations": ("annotations", [{"url": "a"}, {"url": "b"}]),
    "audio": ("audio", {"id": "au", "data": "AABB", "transcript": "Hi!"}),
    "details": ("reasoning_details", [{"type": "reasoning.encrypted", "data": "x"}]),
}


@pytest.mark.parametrize(("model", "field"), WHOLE.items(), ids=WHOLE)
def test_a_field_of_the_message_is_passed_on(client: openai.OpenAI, gateway: Gateway, model: str, field: Any) -> None:
    name, value = field
    _, deltas = streamed(client, model)
    assert [delta[name] for delta in deltas if delta.get(name)] == [
        choice["delta"][name]
        for sent in map(json.loads, ANSWERS[model])
        for choice in sent["choices"]
        if name in choice["delta"]
    ]
    message = whole(client, model)["choices"][0]["message"]
    got = message[name]
    assert {key: got[key] for key in value} == value if isinstance(value, dict) else got == value
    assert asked(gateway, model)["ends"] == ["finish"]


def test_a_word_for_the_end_that_nobody_knows_is_passed_on(client: openai.OpenAI, gateway: Gateway) -> None:
    chunks, _ = streamed(client, "bored")
    assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]] == ["bored"]
    assert whole(client, "bored")["choices"][0]["finish_reason"] == "bored"
    held = asked(gateway, "bored")
    assert (held["reason"], held["metadata"]["rawFinishReason"]) == ("other", "bored")


@pytest.mark.parametrize(("model", "texts"), [("two", ["A", "Bb"]), ("two-at-once", ["A", "B"])])
def test_every_one_of_several_answers_arrives(
    client: openai.OpenAI, upstream: CasesUpstream, model: str, texts: list[str]
) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    choices = client.chat.completions.create(model=model, messages=messages, n=2).choices
    assert upstream.requests[-1]["n"] == 2
    assert [(choice.index, choice.message.content) for choice in choices] == list(enumerate(texts))
    said, ends = ["", ""], {}
    for chunk in client.chat.completions.create(model=model, messages=messages, n=2, stream=True):
        for choice in chunk.choices:
            said[choice.index] += choice.delta.content or ""
            ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    assert said == texts
    assert ends == {0: "stop", 1: choices[1].finish_reason}
    assert [call.id for call in choices[1].message.tool_calls or []] == (["c1"] if model == "two" else [])


def test_an_answer_of_which_one_choice_does_not_end_was_cut() -> None:
    chunks = frames(*ANSWERS["two"][:3])
    for answers, is_complete in ((1, True), (2, False)):
        parser = CompletionParser(answers)
        parser.feed(chunks)
        assert parser.complete == is_complete


def test_facts_are_metadata_of_the_message(gateway: Gateway) -> None:
    metadata = asked(gateway, "facts")["metadata"]
    [facts] = metadata["providerMetadata"].values()
    assert (metadata["model"], facts["system_fingerprint"], facts["id"]) == (HEAD["model"], "fp_1", "up-1")


def test_every_field_of_a_request_reaches_the_upstream(client: openai.OpenAI, upstream: CasesUpstream) -> None:
    fields: dict[str, Any] = {
        "top_logprobs": 2,
        "prediction": {"type": "content", "content": "x"},
        "chat_template_kwargs": {"enable_thinking": False},
        "guided_json": {"type": "object"},
        "functions": [{"name": "f"}],
        "of_tomorrow": [1, {"a": None}],
    }
    messages: Any = [{"role": "user", "content": "hi", "of_tomorrow": 1}]
    client.chat.completions.create(model="facts", messages=messages, extra_body=fields)
    sent = upstream.requests[-1]
    assert {name: sent[name] for name in fields} == fields
    assert sent["messages"] == messages


@pytest.mark.parametrize("model", ["function", "signed-call"])
def test_a_client_that_asks_with_functions_is_answered_in_their_form(client: openai.OpenAI, model: str) -> None:
    question: Any = {"model": model, "messages": [{"role": "user", "content": "hi"}], "functions": [{"name": "f"}]}
    [choice] = client.chat.completions.create(**question).choices
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("f", '{"a":1}')
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "function_call")
    choices = [choice for chunk in client.chat.completions.create(**question, stream=True) for choice in chunk.choices]
    calls = [choice.delta.function_call for choice in choices if choice.delta.function_call]
    assert "".join(call.name or "" for call in calls) == "f"
    assert "".join(call.arguments or "" for call in calls) == '{"a":1}'
    assert choices[-1].finish_reason == "function_call"


def test_what_a_provider_added_goes_back_to_it_with_the_next_turn(gateway: Gateway, upstream: CasesUpstream) -> None:
    for text in ("first", "second"):
        message = {"id": text, "role": "user", "parts": [{"type": "text", "text": text}]}
        body = {"id": "told-back", "model": "details", "message": message}
        assert httpx2.post(f"{gateway.url}/api/chat", json=body, timeout=30).status_code == 200
    [_, answer, _] = upstream.requests[-1]["messages"]
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    assert answer == {"role": "assistant", "content": "a", "reasoning_details": details}
