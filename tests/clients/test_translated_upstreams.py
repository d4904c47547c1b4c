"""A server that speaks Messages or Responses is an upstream like any other: a gateway is it, behind another one."""

from collections.abc import Iterator
from contextlib import closing

import httpx2
import openai
import pytest

from loadtests.upstream.shapes import words
from tests.clients.gateways_behind import TOOL, behind
from tests.clients.openai_sdk import Asker, SyncAsker
from tests.clients.test_openai_sdk import CALLS, THOUGHT
from tests.conftest import Gateway, UpstreamThread, eventually


@pytest.fixture(scope="module", params=["messages", "responses"])
def front(
    gateway: Gateway, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Gateway]:
    made = behind(tmp_path_factory.mktemp("front"), gateway, wire=request.param)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def through(front: Gateway) -> Iterator[Asker]:
    with closing(SyncAsker(front.url)) as asker:
        yield asker


def test_an_answer_arrives_with_its_figures(through: Asker) -> None:
    completion = through.whole("ok")
    [choice] = completion.choices
    assert (choice.message.content, choice.finish_reason, completion.model) == (words(20), "stop", "ok")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 20)
    answer = through.stream("reasoning")
    assert (answer.error, answer.reasoning, answer.text, answer.finish_reasons) == (None, THOUGHT, words(20), ["stop"])


def test_calls_of_tools_arrive(through: Asker) -> None:
    answer = through.stream("tools-2", tools=[TOOL])
    assert (answer.calls, answer.finish_reasons) == (CALLS, ["tool_calls"])
    assert through.stream("finish-length").finish_reasons == ["length"]


@pytest.mark.parametrize("model", ["cut", "cut-hard", "error-openai"])
def test_half_an_answer_is_never_a_success(model: str, through: Asker) -> None:
    assert isinstance(through.stream(model).error, openai.APIError)
    with pytest.raises(openai.InternalServerError):
        through.whole(model)


def test_a_refusal_keeps_its_meaning(through: Asker) -> None:
    with pytest.raises(openai.RateLimitError) as error:
        through.stream("e429")
    assert error.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.BadRequestError) as too_long:
        through.stream("e400")
    assert too_long.value.code == "context_length_exceeded"


def test_who_leaves_ends_the_upstreams_work(front: Gateway, upstream: UpstreamThread) -> None:
    body = {"model": "slow", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    with httpx2.stream("POST", f"{front.url}/v1/chat/completions", json=body, timeout=20) as answer:
        next(answer.iter_bytes())
    eventually(lambda: not upstream.open_requests)
