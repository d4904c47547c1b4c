"""OpenAI's Python SDK, unmodified, raises whatever is not whole from `/v1`, with the reason."""

from contextlib import closing
from pathlib import Path

import openai
import pytest

from loadtests.upstream.shapes import words
from tests.clients.openai_sdk import Asker, AsyncAsker, SyncAsker
from tests.conftest import Gateway, UpstreamThread, serving

HALVES = ["cut", "cut-hard", "cut-eof", "cut-midline", "badjson"]
TOLD_HALVES = ["error-openai", "error-vllm", "error-openrouter", "error-event"]
REFUSALS = {
    "e401": "upstream_auth",
    "e500": "upstream_unavailable",
    "e503": "upstream_unavailable",
    "html": "upstream_invalid",
    "cut-first": "upstream_cut",
    "error-openai-first": "upstream_error",
}


@pytest.mark.parametrize("model", HALVES + TOLD_HALVES)
def test_half_an_answer_is_never_a_success(model: str, asker: Asker) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        asker.whole(model)
    assert error.value.status_code == 502
    stream = asker.stream(model)
    assert type(stream.error) is openai.APIError
    assert stream.error.code == error.value.code
    assert (stream.text, stream.finish_reasons) == (words(10), [])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", REFUSALS)
def test_a_refusal_has_a_status_and_a_code(model: str, stream: bool, asker: Asker) -> None:
    with pytest.raises(openai.InternalServerError) as error:
        asker.stream(model) if stream else asker.whole(model)
    assert (error.value.status_code, error.value.code) == (502, REFUSALS[model])
    assert error.value.request_id


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_rate_limit_says_when_to_return(stream: bool, asker: Asker) -> None:
    with pytest.raises(openai.RateLimitError) as error:
        asker.stream("e429") if stream else asker.whole("e429")
    assert (error.value.code, error.value.type) == ("upstream_rate_limited", "requests")
    assert error.value.response.headers["retry-after"] == "7"


def test_the_text_of_an_error_is_the_upstreams(asker: Asker) -> None:
    with pytest.raises(openai.RateLimitError, match="Rate limit reached"):
        asker.whole("e429")


def test_a_bad_request_of_the_clients_own_is_a_400(asker: Asker) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        asker.whole("ok", n=17)
    assert error.value.code
    with pytest.raises(openai.BadRequestError):
        asker.whole("ok", max_tokens=10_000_000)


@pytest.mark.parametrize("how", [SyncAsker, AsyncAsker], ids=["sync", "async"])
def test_the_sdks_retries_get_over_a_passing_fault(
    how: type[Asker], gateway: Gateway, upstream: UpstreamThread
) -> None:
    before = len(upstream.fake.requests)
    upstream.fake.script("flaky", ["e503", "ok"])
    with closing(how(gateway.url, max_retries=1)) as asker:
        assert asker.stream("flaky").text == words(20)
    assert len(upstream.fake.requests) - before == 2


@pytest.mark.parametrize("model", ["e400", "e401", "e429-bare", "no-such-model"])
def test_what_cannot_succeed_is_asked_once(model: str, gateway: Gateway, upstream: UpstreamThread) -> None:
    before = len(upstream.fake.requests)
    with closing(SyncAsker(gateway.url, max_retries=1)) as asker, pytest.raises(openai.APIStatusError):
        asker.whole(model)
    assert len(upstream.fake.requests) - before == 1


def test_a_model_that_no_upstream_serves_is_a_404(tmp_path: Path, upstream: UpstreamThread) -> None:
    upstreams = tmp_path / "upstreams.toml"
    upstreams.write_text(
        f'[[upstream]]\nname = "one"\nbase_url = "{upstream.url}"\nmodels = ["ok", "fast"]\n'
        f'[[upstream]]\nname = "two"\nbase_url = "{upstream.url}"\nmodels = ["tools"]\n'
    )
    gateway = serving(tmp_path, upstream.url, TRILANE_UPSTREAMS=str(upstreams))
    try:
        with closing(SyncAsker(gateway.start().url)) as asker:
            assert asker.models() == ["ok", "fast", "tools"]
            assert asker.whole("tools").choices[0].finish_reason == "tool_calls"
            with pytest.raises(openai.NotFoundError) as error:
                asker.stream("gpt-99")
        assert error.value.code == "model_not_found"
    finally:
        gateway.stop()
