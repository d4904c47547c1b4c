"""Failover decides which upstream is asked, and when the next one is."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway.chat.upstreams.failover import Upstreams
from gateway.chat.upstreams.refusals import refusal
from gateway.errors import NotFound, Overloaded, UpstreamRefused, UpstreamTimeout
from tests.support.completions import END, HELLO, chunk, frames, text_of
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream
from tests.support.virtual_time import simulated

ROLE = frames(chunk({"role": "assistant", "content": ""}))
FIRST_TOKEN_S = 60.0


def all_of(*upstreams: ScriptedUpstream) -> Upstreams:
    return Upstreams(list(upstreams), FIRST_TOKEN_S)


def refused(code: str = "upstream_unavailable") -> UpstreamRefused:
    return UpstreamRefused(code, code=code)


# Which upstream is asked


@simulated
async def test_the_first_upstream_that_gives_a_token_answers() -> None:
    first, second = ScriptedUpstream(refused()), ScriptedUpstream(ScriptedBody(HELLO), name="second")
    started = await all_of(first, second).open({"messages": []}, "")
    assert (started.generation.upstream, text_of(started.chunks)) == ("second", "Hello")
    assert first.requests == second.requests == [({"messages": []}, "")]


@simulated
async def test_a_busy_upstream_is_passed_over_and_when_all_are_the_request_is_refused() -> None:
    busy, free = ScriptedUpstream(ScriptedBody(HELLO)), ScriptedUpstream(ScriptedBody(HELLO), name="free")
    busy.busy = True
    assert (await all_of(busy, free).open({}, "")).generation.upstream == "free"
    free.busy = True
    with pytest.raises(Overloaded):
        await all_of(busy, free).open({}, "")
    assert not busy.requests


@simulated
async def test_only_upstreams_that_serve_the_model_are_asked() -> None:
    other = ScriptedUpstream(ScriptedBody(HELLO), name="other", models=["b"])
    serving = ScriptedUpstream(ScriptedBody(HELLO), name="serving", models=["a", "b"])
    assert (await all_of(other, serving).open({}, "a")).generation.upstream == "serving"
    with pytest.raises(NotFound):
        await all_of(other).open({}, "a")
    anything = ScriptedUpstream(ScriptedBody(HELLO), name="anything")
    assert (await all_of(other, anything).open({}, "a")).generation.upstream == "anything"


@simulated
async def test_what_the_last_upstream_failed_with_is_told() -> None:
    upstreams = all_of(ScriptedUpstream(refused("upstream_auth")), ScriptedUpstream(refused("upstream_x")))
    with pytest.raises(UpstreamRefused, match="upstream_x"):
        await upstreams.open({}, "")


@simulated
async def test_a_request_that_is_not_valid_is_asked_of_no_other() -> None:
    for status in (400, 409, 415, 422):
        second = ScriptedUpstream(ScriptedBody(HELLO))
        with pytest.raises(UpstreamRefused, match="no such field"):
            await all_of(ScriptedUpstream(refusal(status, "no such field")), second).open({}, "")
        assert not second.requests


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "no such model"),
        (413, "request too large"),
        (400, "the maximum context length is 512 tokens"),
        (400, "your credit balance is too low"),
        (400, "API key not valid"),
        (402, "pay first"),
        (429, "slow down"),
        (401, "who are you"),
    ],
)
@simulated
async def test_what_another_upstream_may_do_better_is_asked_of_the_next(status: int, text: str) -> None:
    second = ScriptedUpstream(ScriptedBody(HELLO), name="second")
    started = await all_of(ScriptedUpstream(refusal(status, text)), second).open({}, "")
    assert started.generation.upstream == "second"


FAILING_FIRST: dict[str, tuple[tuple[bytes, ...], httpx2.TransportError | None]] = {
    "a cut before anything": ((), None),
    "a reset before anything": ((), httpx2.ReadError("reset")),
    "a cut before a visible token": ((ROLE,), None),
    "an error in band": ((ROLE + frames(b'{"error": {"message": "no"}}'),), None),
}


@pytest.mark.parametrize(("pieces", "error"), FAILING_FIRST.values(), ids=FAILING_FIRST)
@simulated
async def test_a_stream_that_fails_before_a_visible_token_fails_over_and_is_closed(
    pieces: tuple[bytes, ...], error: httpx2.TransportError | None
) -> None:
    body = ScriptedBody(*pieces)
    body.end(error)
    first, second = ScriptedUpstream(body), ScriptedUpstream(ScriptedBody(HELLO), name="second")
    assert (await all_of(first, second).open({}, "")).generation.upstream == "second"
    assert (body.aborted, first.released, second.released) == (True, 1, 0)


@simulated
async def test_a_stream_that_fails_after_a_visible_token_is_kept() -> None:
    body, second = ScriptedBody(HELLO + frames(b'{"error": {"message": "no"}}')), ScriptedUpstream()
    started = await all_of(ScriptedUpstream(body), second).open({}, "")
    assert started.generation.ended
    assert started.generation.error is not None
    assert not second.requests


VISIBLE: dict[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, False),
    "a role": ({"role": "assistant", "content": ""}, False),
    "text": ({"content": "x"}, True),
    "reasoning": ({"reasoning": "x"}, True),
    "DeepSeek's reasoning": ({"reasoning_content": "x"}, True),
    "a refusal": ({"refusal": "x"}, True),
    "a tool call": ({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f"}}]}, True),
}


@pytest.mark.parametrize(("delta", "is_visible"), VISIBLE.values(), ids=VISIBLE)
@simulated
async def test_a_token_is_what_a_user_could_see(delta: dict[str, Any], is_visible: bool) -> None:
    starting = asyncio.ensure_future(all_of(ScriptedUpstream(ScriptedBody(frames(chunk(delta))))).open({}, ""))
    await asyncio.sleep(1)
    assert starting.done() is is_visible
    starting.cancel()


@pytest.mark.parametrize(("own_s", "limit_s"), [(None, FIRST_TOKEN_S), (5.0, 5.0)])
@simulated
async def test_an_upstream_without_a_token_in_time_fails_over(own_s: float | None, limit_s: float) -> None:
    loop, body = asyncio.get_running_loop(), ScriptedBody(ROLE)
    first = ScriptedUpstream(body, first_token_s=own_s)
    began = loop.time()
    started = await all_of(first, ScriptedUpstream(ScriptedBody(HELLO), name="second")).open({}, "")
    assert (loop.time() - began, started.generation.upstream) == (limit_s, "second")
    assert body.aborted
    with pytest.raises(UpstreamTimeout):
        await all_of(ScriptedUpstream(ScriptedBody())).open({}, "")


@simulated
async def test_an_answer_without_anything_visible_is_an_answer() -> None:
    started = await all_of(ScriptedUpstream(ScriptedBody(ROLE + END))).open({}, "")
    assert started.generation.ended
    assert started.generation.error is None


@simulated
async def test_a_request_that_is_given_up_closes_its_stream() -> None:
    body = ScriptedBody(ROLE)
    upstream = ScriptedUpstream(body)
    starting = asyncio.ensure_future(all_of(upstream).open({}, ""))
    await asyncio.sleep(1)
    starting.cancel()
    await asyncio.wait((starting,))
    assert (body.aborted, upstream.released) == (True, 1)


@simulated
async def test_models_are_those_of_every_upstream_that_answers() -> None:
    one, two = ScriptedUpstream(name="one", models=["a", "b"]), ScriptedUpstream(name="two", models=["a"])
    silent = ScriptedUpstream(refused())
    assert await all_of(one, silent, two).models() == [("a", "one"), ("b", "one"), ("a", "two")]
    await all_of(one, two).aclose()
    assert (one.closed, two.closed) == (True, True)
