"""Clients raise against the gateway what they raise against the provider itself, and send nothing again in vain."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import openai
import pytest

from loadtests.upstream import shapes
from loadtests.upstream.answer import JSON, Answer
from loadtests.upstream.behaviours import Behaviour, half_then
from tests.clients.node import install, tool
from tests.clients.openai_sdk import Asker, SyncAsker
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import chat_body, send

INVALID = "invalid_request_error"
REFUSALS: dict[str, tuple[int, dict[str, object]]] = {
    "overflow": (400, {"type": INVALID, "param": "messages", "code": "context_length_exceeded"}),
    "schema": (400, {"type": INVALID, "param": "tools[0].function", "code": "invalid_function_parameters"}),
    "no-code": (400, {"type": INVALID, "param": "n", "code": None}),
    "filtered": (400, {"type": None, "param": "prompt", "code": "content_filter", "innererror": {"hate": True}}),
    "no-model": (404, {"type": INVALID, "param": "model", "code": "model_not_found"}),
    "conflict": (409, {"type": INVALID, "param": None, "code": "conversation_locked"}),
    "too-large": (413, {"type": "tokens", "param": None, "code": "rate_limit_exceeded"}),
    "media": (415, {"type": INVALID, "param": "messages[0]", "code": "unsupported_media"}),
    "unprocessable": (422, {"type": INVALID, "param": "seed", "code": "out_of_range"}),
    "quota": (429, {"type": "insufficient_quota", "param": None, "code": "insufficient_quota"}),
    "unpaid": (402, {"type": "billing_error", "param": None, "code": "payment_required"}),
}
"""What a provider says of requests that no client shall send again: its status, and its error object."""
CUT = {"message": "Half of it does not fit", "type": INVALID, "param": "messages", "code": "context_length_exceeded"}
CASES = [*REFUSALS, "cut-short"]
JS = ("openai5", "openai6", "openai7", "ai5", "ai6", "ai7", "langchain")


def refused(status: int, fields: dict[str, object]) -> Behaviour:
    async def behave(answer: Answer) -> None:
        await answer.whole(status, JSON, shapes.encode({"error": {"message": "This will not do", **fields}}))

    return behave


async def cut_short(answer: Answer) -> None:
    await answer.frame({"error": CUT})
    await answer.end()


@pytest.fixture(scope="module", autouse=True)
def provider(upstream: UpstreamThread) -> UpstreamThread:
    for model, (status, fields) in REFUSALS.items():
        upstream.fake.script(model, refused(status, fields))
    upstream.fake.script("cut-short", half_then(cut_short))
    return upstream


class Raised(NamedTuple):
    """What each client of a language raised, by client, way and model."""

    by_provider: dict[str, Any]
    by_gateway: dict[str, Any]
    asked: list[str]
    """The models that the provider was asked for, once a request."""


def ask(command: list[str], gateway: Gateway, provider: UpstreamThread) -> Raised:
    before = len(provider.fake.requests)
    order = msgspec.json.encode({"bases": [provider.url, f"{gateway.url}/v1"], "models": CASES}).decode()
    process = subprocess.run([*command, order], capture_output=True, timeout=240, check=False)
    assert process.returncode == 0, process.stderr.decode()
    asked = [record.body["model"] for record in provider.fake.requests[before:] if record.body]
    by_provider, by_gateway = msgspec.json.decode(process.stdout)
    return Raised(by_provider, by_gateway, asked)


@pytest.fixture(scope="module")
def javascript(gateway: Gateway, provider: UpstreamThread) -> Raised:
    return ask([tool("node"), str(install() / "errors.mjs")], gateway, provider)


@pytest.fixture(scope="module")
def python(gateway: Gateway, provider: UpstreamThread) -> Raised:
    return ask([sys.executable, str(Path(__file__).with_name("python_errors.py"))], gateway, provider)


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("client", JS)
def test_javascript_raises_what_the_provider_makes_it_raise(client: str, way: str, javascript: Raised) -> None:
    check(javascript, client, way)


@pytest.mark.timeout(300)  # LiteLLM takes 6 s of CPU to load
@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("client", ["langchain", "litellm"])
def test_what_stands_on_openais_sdk_raises_what_the_provider_makes_it_raise(
    client: str, way: str, python: Raised
) -> None:
    check(python, client, way)


def check(raised: Raised, client: str, way: str) -> None:
    for model in CASES if way == "streamed" else REFUSALS:
        name = f"{client} {way} {model}"
        assert raised.by_provider[name] is not None, model
        assert raised.by_gateway[name] == raised.by_provider[name], model


def test_nothing_is_sent_again_that_was_refused_for_good(javascript: Raised) -> None:
    bases, ways = 2, 2
    assert Counter(javascript.asked) == dict.fromkeys(CASES, bases * ways * len(JS))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_python_raises_what_the_provider_makes_it_raise(stream: bool, asker: Asker, provider: UpstreamThread) -> None:
    direct = SyncAsker(provider.url.removesuffix("/v1"))
    for model in REFUSALS:
        expected, ours = failure(direct, model, stream=stream), failure(asker, model, stream=stream)
        assert type(ours) is type(expected), model
        assert (ours.body, ours.code, ours.type, ours.param) == (
            expected.body,
            expected.code,
            expected.type,
            expected.param,
        )
        assert isinstance(ours, openai.APIStatusError)
        assert ours.response.headers["x-should-retry"] == "false"
    direct.close()


def failure(asker: Asker, model: str, *, stream: bool) -> openai.APIError:
    with pytest.raises(openai.APIError) as error:
        asker.stream(model) if stream else asker.whole(model)
    return error.value


def test_python_raises_what_the_provider_says_inside_a_stream(asker: Asker) -> None:
    error = asker.stream("cut-short").error
    assert error is not None
    assert (error.message, error.body) == (CUT["message"], CUT)


def test_a_chat_is_refused_as_the_provider_refuses(gateway: Gateway, provider: UpstreamThread) -> None:
    for model, (status, fields) in REFUSALS.items():
        response, _ = send(gateway.url, chat_body(f"refused-{model}", "T=4 I=0", model=model))
        document = response.json()
        assert (response.status_code, document["retryable"]) == (status, False), model
        assert (document["type"], document.get("param")) == (fields["type"] or "about:blank", fields["param"])
        assert document["code"] == (fields["code"] or "upstream_bad_request")
        assert "error" not in document


def test_a_chat_that_is_cut_short_says_what_the_provider_said(gateway: Gateway, provider: UpstreamThread) -> None:
    _, frames = send(gateway.url, chat_body("cut-short", "T=4 I=0", model="cut-short"))
    [end] = frames.terminals
    assert (end["type"], end["errorText"]) == ("error", CUT["message"])
    expected = {"code": CUT["code"], "retryable": False, "emitted": 2}
    assert frames.metadata | expected == frames.metadata
    assert frames.metadata["upstreamError"] == {name: CUT[name] for name in ("type", "param", "code")}
