"""An upstream's silence is limited from its last token, by its own limit before the one for all."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from loadtests.upstream import Answer
from loadtests.upstream.behaviours import ok
from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.sse_client import Frames, chat_body, send

HASTY_S = 0.5
OTHERS_S = 1.5
MAX_LATE_S = 0.9
"""Seconds granted to a busy machine; the two limits can still be told apart."""


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway with one upstream that has a limit of its own, and one that has none."""
    folder = tmp_path_factory.mktemp("deadlines")
    upstreams = folder / "upstreams.toml"
    upstreams.write_text(
        f'[[upstream]]\nname = "hasty"\nbase_url = "{upstream.url}"\nmodels = ["hasty", "late"]\n'
        f"between_tokens_s = {HASTY_S}\n"
        f'[[upstream]]\nname = "other"\nbase_url = "{upstream.url}"\nmodels = ["other"]\n'
    )
    settings = {"TRILANE_UPSTREAMS": str(upstreams), "TRILANE_BETWEEN_TOKENS_S": str(OTHERS_S)}
    server = serving(folder, upstream.url, **settings)
    try:
        yield server.start()
    finally:
        server.stop()


def answer_of(gateway: Gateway, model: str) -> tuple[Frames, float]:
    """Returns a model's answer to a short question, and the seconds it took."""
    began = time.monotonic()
    _, frames = send(gateway.url, chat_body(model, "T=8 I=1000", model=model))
    return frames, time.monotonic() - began


@pytest.mark.quiet
@pytest.mark.parametrize(("model", "limit_s"), [("hasty", HASTY_S), ("other", OTHERS_S)])
def test_silence_after_a_token_ends_an_answer_at_the_limit_of_its_upstream(
    gateway: Gateway, upstream: UpstreamThread, model: str, limit_s: float
) -> None:
    upstream.fake.script(model, "stall-mid")
    frames, took_s = answer_of(gateway, model)
    [last] = frames.terminals
    assert (last["type"], frames.metadata["code"]) == ("error", "upstream_timeout")
    assert f"within {limit_s:g} s" in last["errorText"]
    assert limit_s <= took_s < limit_s + MAX_LATE_S


@pytest.mark.quiet
def test_the_wait_for_a_first_token_is_not_silence_between_tokens(gateway: Gateway, upstream: UpstreamThread) -> None:
    async def late(answer: Answer) -> None:
        await asyncio.sleep(2 * HASTY_S)
        await ok(answer)

    upstream.fake.script("late", late)
    frames, took_s = answer_of(gateway, "late")
    assert [chunk["type"] for chunk in frames.terminals] == ["finish"]
    assert took_s > 2 * HASTY_S
