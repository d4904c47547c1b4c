"""Which upstreams are asked for a model, under which name, and what ends a try; their order is the router's."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway.chat.upstreams.failover import OpenedGeneration, Upstreams
from gateway.chat.upstreams.refusals import refusal
from gateway.chat.upstreams.upstream import Request
from gateway.errors import NotFound, Overloaded, UpstreamRefused, UpstreamTimeout
from tests.support.completions import END, HELLO, chunk, frames, text_of
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream
from tests.support.virtual_time import simulated

ROLE = frames(chunk({"role": "assistant", "content": ""}))
FIRST_TOKEN_S = 60.0


def all_of(*upstreams: ScriptedUpstream) -> Upstreams:
    return Upstreams(list(upstreams), FIRST_TOKEN_S)


async def opened(upstreams: Upstreams, request: Request, model: str = "") -> OpenedGeneration:
    """Returns what is opened; its answer is not read."""
    started, trial = await upstreams.open(request, model)
    trial.forget()
    return started


def refused(code: str = "upstream_unavailable") -> UpstreamRefused:
    return UpstreamRefused(code, code=code)


# Which upstream is asked


@simulated
async def test_the_first_upstream_that_gives_a_token_answers() -> None:
    first, second = ScriptedUpstream(refused()), ScriptedUpstream(ScriptedBody(HELLO), name="second")
    started = await opened(all_of(first, second), {"messages": []}, "")
    assert (started.generation.upstream, text_of(started.chunks)) == ("second", "Hello")
    assert first.requests == second.requests == [({"messages": []}, "")]


@simulated
async def test_a_busy_upstream_is_passed_over_and_when_all_are_the_request_is_refused() -> None:
    busy, free = ScriptedUpstream(ScriptedBody(HELLO)), ScriptedUpstream(ScriptedBody(HELLO), name="free")
    busy.busy = True
    assert (await opened(all_of(busy, free), {}, "")).generation.upstream == "free"
    free.busy = True
    with pytest.raises(Overloaded):
        await opened(all_of(busy, free), {}, "")
    assert not busy.requests


@simulated
async def test_only_upstreams_that_serve_the_model_are_asked() -> None:
    other = ScriptedUpstream(ScriptedBody(HELLO), name="other", models=["b"])
    serving = ScriptedUpstream(ScriptedBody(HELLO), name="serving", models=["a", "b"])
    assert (await opened(all_of(other, serving), {}, "a")).generation.upstream == "serving"
    with pytest.raises(NotFound):
        await opened(all_of(other), {}, "a")
    anything = ScriptedUpstream(ScriptedBody(HELLO), name="anything")
    assert (await opened(all_of(other, anything), {}, "a")).generation.upstream == "anything"


@simulated
async def test_what_the_last_upstream_failed_with_is_told() -> None:
    upstreams = all_of(ScriptedUpstream(refused("upstream_auth")), ScriptedUpstream(refused("upstream_x")))
    with pytest.raises(UpstreamRefused, match="upstream_x"):
        await opened(upstreams, {}, "")


@simulated
async def test_a_request_that_is_not_valid_is_asked_of_no_other() -> None:
    for status in (400, 409, 415, 422):
        second = ScriptedUpstream(ScriptedBody(HELLO))
        with pytest.raises(UpstreamRefused, match="no such field"):
            await opened(all_of(ScriptedUpstream(refusal(status, "no such field")), second), {}, "")
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
    started = await opened(all_of(ScriptedUpstream(refusal(status, text)), second), {}, "")
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
    assert (await opened(all_of(first, second), {}, "")).generation.upstream == "second"
    assert (body.aborted, first.released, second.released) == (True, 1, 0)


@simulated
async def test_a_stream_that_fails_after_a_visible_token_is_kept() -> None:
    body, second = ScriptedBody(HELLO + frames(b'{"error": {"message": "no"}}')), ScriptedUpstream()
    started = await opened(all_of(ScriptedUpstream(body), second), {}, "")
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
    starting = asyncio.ensure_future(opened(all_of(ScriptedUpstream(ScriptedBody(frames(chunk(delta))))), {}))
    await asyncio.sleep(1)
    assert starting.done() is is_visible
    starting.cancel()


@pytest.mark.parametrize(("own_s", "limit_s"), [(None, FIRST_TOKEN_S), (5.0, 5.0)])
@simulated
async def test_an_upstream_without_a_token_in_time_fails_over(own_s: float | None, limit_s: float) -> None:
    loop, body = asyncio.get_running_loop(), ScriptedBody(ROLE)
    first = ScriptedUpstream(body, first_token_s=own_s)
    began = loop.time()
    started = await opened(all_of(first, ScriptedUpstream(ScriptedBody(HELLO), name="second")), {}, "")
    assert (loop.time() - began, started.generation.upstream) == (limit_s, "second")
    assert body.aborted
    with pytest.raises(UpstreamTimeout):
        await opened(all_of(ScriptedUpstream(ScriptedBody())), {}, "")


@simulated
async def test_an_answer_without_anything_visible_is_an_answer() -> None:
    started = await opened(all_of(ScriptedUpstream(ScriptedBody(ROLE + END))), {}, "")
    assert started.generation.ended
    assert started.generation.error is None


@simulated
async def test_a_request_that_is_given_up_closes_its_stream() -> None:
    body = ScriptedBody(ROLE)
    upstream = ScriptedUpstream(body)
    starting = asyncio.ensure_future(opened(all_of(upstream), {}))
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


# Aliases


@simulated
async def test_an_alias_stands_for_another_model_at_each_upstream() -> None:
    first = ScriptedUpstream(refused(), name="first", models=["gpt"], aliases={"fast": "gpt"})
    second = ScriptedUpstream(ScriptedBody(HELLO), name="second", models=["llama"], aliases={"fast": "llama"})
    started = await opened(all_of(first, second), {}, "fast")
    assert started.generation.upstream == "second"
    assert (first.requests, second.requests) == ([({}, "gpt")], [({}, "llama")])
    with pytest.raises(NotFound):
        await opened(all_of(first, second), {}, "slow")


@simulated
async def test_aliases_are_listed_among_the_models() -> None:
    one = ScriptedUpstream(name="one", models=["a"], aliases={"fast": "a", "slow": "b"})
    assert await all_of(one).models() == [("a", "one"), ("fast", "one"), ("slow", "one")]


@simulated
async def test_what_is_passed_on_names_the_model_of_the_alias_and_is_otherwise_as_it_came() -> None:
    one = ScriptedUpstream(name="one", models=["a"], aliases={"fast": "a"})
    upstreams = all_of(one)
    for model, content in (("fast", b'{"model":"fast","input":[1.50,"x"]}'), ("a", b'{"input": 1 ,"model":"a"}')):
        with pytest.raises(UpstreamRefused, match="no route"):
            await upstreams.pass_on("/embeddings", {"model": model}, content, model, "embeddings")
    assert one.passed == [b'{"model":"a","input":[1.50,"x"]}', b'{"input": 1 ,"model":"a"}']


# New settings


@simulated
async def test_new_upstreams_answer_new_requests_and_old_ones_end_what_they_have_begun() -> None:
    old, new = ScriptedUpstream(ScriptedBody(HELLO)), ScriptedUpstream(ScriptedBody(HELLO), api_key="sk-new")
    upstreams = all_of(old)
    began_with = upstreams.all
    await opened(upstreams, {})
    old.in_flight = 1
    upstreams.replace([new])
    await opened(upstreams, {})
    await asyncio.sleep(60)
    assert (len(new.requests), old.closed, upstreams.in_flight()) == (1, False, {"scripted": 1})
    old.answers.append(ScriptedBody(HELLO))
    started, _ = await upstreams.open({}, "", among=began_with)
    assert started.generation.upstream == "scripted"
    assert len(old.requests) == 2
    old.in_flight = 0
    await asyncio.sleep(1)
    assert (old.closed, upstreams.in_flight()) == (True, {"scripted": 0})
    await upstreams.aclose()
    assert new.closed


@simulated
async def test_an_upstream_that_is_as_it_was_stays_with_its_health_unless_it_has_certificates() -> None:
    kept, twin = ScriptedUpstream(name="kept"), ScriptedUpstream(name="kept")
    guarded, guarded_twin = ScriptedUpstream(name="guarded", ca="ca.pem"), ScriptedUpstream(name="guarded", ca="ca.pem")
    upstreams = all_of(kept, guarded)
    circuits = upstreams.circuits()
    upstreams.replace([guarded_twin, twin])
    assert upstreams.all == (guarded_twin, kept)
    assert upstreams.circuits()["kept"] is circuits["kept"]
    assert upstreams.circuits()["guarded"] is not circuits["guarded"]
    await upstreams.aclose()
    assert (guarded.closed, guarded_twin.closed, kept.closed, twin.closed) == (True, True, True, False)
