"""Upstreams by themselves: which one is asked, and what a generation makes of its body."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from gateway.chat.upstreams.completion import Chunk
from gateway.chat.upstreams.upstream import REUSE_S, Generation, Upstreams
from gateway.errors import NotFound, Overloaded, UpstreamCut, UpstreamRefused, UpstreamTimeout
from tests.support.completions import END, HELLO, chunk, frames
from tests.support.scripted_upstream import SECRET, ScriptedBody, ScriptedUpstream, generation
from tests.support.virtual_time import simulated

ROLE = frames(chunk({"role": "assistant", "content": ""}))
FIRST_TOKEN_S = 60.0


def all_of(*upstreams: ScriptedUpstream) -> Upstreams:
    return Upstreams(list(upstreams), FIRST_TOKEN_S)


def refused(code: str = "upstream_unavailable") -> UpstreamRefused:
    return UpstreamRefused(code, code=code)


def text_of(chunks: list[Chunk]) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices and c.choices[0].delta)


# Which upstream is asked


@simulated
async def test_the_first_upstream_that_gives_a_token_answers() -> None:
    first, second = ScriptedUpstream(refused()), ScriptedUpstream(ScriptedBody(HELLO), name="second")
    started = await all_of(first, second).start({"messages": []}, "")
    assert (started.generation.settings.name, text_of(started.chunks)) == ("second", "Hello")
    assert first.requests == second.requests == [({"messages": []}, "")]


@simulated
async def test_a_busy_upstream_is_passed_over_and_when_all_are_the_request_is_refused() -> None:
    busy, free = ScriptedUpstream(ScriptedBody(HELLO)), ScriptedUpstream(ScriptedBody(HELLO), name="free")
    busy.busy = True
    assert (await all_of(busy, free).start({}, "")).generation.settings.name == "free"
    free.busy = True
    with pytest.raises(Overloaded):
        await all_of(busy, free).start({}, "")
    assert not busy.requests


@simulated
async def test_only_upstreams_that_serve_the_model_are_asked() -> None:
    other = ScriptedUpstream(ScriptedBody(HELLO), name="other", models=["b"])
    serving = ScriptedUpstream(ScriptedBody(HELLO), name="serving", models=["a", "b"])
    assert (await all_of(other, serving).start({}, "a")).generation.settings.name == "serving"
    with pytest.raises(NotFound):
        await all_of(other).start({}, "a")
    anything = ScriptedUpstream(ScriptedBody(HELLO), name="anything")
    assert (await all_of(other, anything).start({}, "a")).generation.settings.name == "anything"


@simulated
async def test_what_the_last_upstream_failed_with_is_told() -> None:
    upstreams = all_of(ScriptedUpstream(refused("upstream_unauthorized")), ScriptedUpstream(refused("upstream_x")))
    with pytest.raises(UpstreamRefused, match="upstream_x"):
        await upstreams.start({}, "")


@simulated
async def test_a_request_that_is_not_valid_is_asked_of_no_other() -> None:
    second = ScriptedUpstream(ScriptedBody(HELLO))
    with pytest.raises(UpstreamRefused, match="bad_request"):
        await all_of(ScriptedUpstream(refused("upstream_bad_request")), second).start({}, "")
    assert not second.requests


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
    assert (await all_of(first, second).start({}, "")).generation.settings.name == "second"
    assert (body.aborted, first.released, second.released) == (True, 1, 0)


@simulated
async def test_a_stream_that_fails_after_a_visible_token_is_kept() -> None:
    body, second = ScriptedBody(HELLO + frames(b'{"error": {"message": "no"}}')), ScriptedUpstream()
    started = await all_of(ScriptedUpstream(body), second).start({}, "")
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
    starting = asyncio.ensure_future(all_of(ScriptedUpstream(ScriptedBody(frames(chunk(delta))))).start({}, ""))
    await asyncio.sleep(1)
    assert starting.done() is is_visible
    starting.cancel()


@pytest.mark.parametrize(("own_s", "limit_s"), [(None, FIRST_TOKEN_S), (5.0, 5.0)])
@simulated
async def test_an_upstream_without_a_token_in_time_fails_over(own_s: float | None, limit_s: float) -> None:
    loop, body = asyncio.get_running_loop(), ScriptedBody(ROLE)
    first = ScriptedUpstream(body, first_token_s=own_s)
    began = loop.time()
    started = await all_of(first, ScriptedUpstream(ScriptedBody(HELLO), name="second")).start({}, "")
    assert (loop.time() - began, started.generation.settings.name) == (limit_s, "second")
    assert body.aborted
    with pytest.raises(UpstreamTimeout):
        await all_of(ScriptedUpstream(ScriptedBody())).start({}, "")


@simulated
async def test_an_answer_without_anything_visible_is_an_answer() -> None:
    started = await all_of(ScriptedUpstream(ScriptedBody(ROLE + END))).start({}, "")
    assert started.generation.ended
    assert started.generation.error is None


@simulated
async def test_a_request_that_is_given_up_closes_its_stream() -> None:
    body = ScriptedBody(ROLE)
    upstream = ScriptedUpstream(body)
    starting = asyncio.ensure_future(all_of(upstream).start({}, ""))
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


# A generation


def made(body: ScriptedBody) -> tuple[Generation, ScriptedUpstream]:
    upstream = ScriptedUpstream(body)
    return generation(body, upstream), upstream


@simulated
async def test_pieces_are_piped_until_the_stream_is_done_and_nothing_after() -> None:
    body, taken = ScriptedBody(HELLO), list[Chunk]()
    one, _ = made(body)
    over = one.pipe(taken.extend)
    body.send(frames(chunk({"content": "!"})))
    assert (text_of(taken), over.done()) == ("Hello!", False)
    body.send(END)
    body.send(frames(chunk({"content": "?"})))
    await over
    assert (text_of(taken), one.ended, one.error) == ("Hello!", True, None)


@simulated
async def test_a_piped_stream_that_is_cut_is_over_and_says_so() -> None:
    body = ScriptedBody(HELLO)
    one, _ = made(body)
    over = one.pipe(lambda _: None)
    body.end(httpx2.ReadError("reset"))
    await over
    assert isinstance(one.error, UpstreamCut)


@simulated
async def test_a_complete_stream_that_is_cut_is_complete() -> None:
    body = ScriptedBody(HELLO + frames(chunk(finish="stop")))
    one, _ = made(body)
    over = one.pipe(lambda _: None)
    body.end(httpx2.ReadError("reset"))
    await over
    assert one.error is None


@simulated
async def test_an_aborted_generation_takes_nothing_more_and_is_released_once() -> None:
    body, taken = ScriptedBody(), list[Chunk]()
    one, upstream = made(body)
    one.pipe(taken.extend)
    one.abort()
    one.data(HELLO)
    one.abort()
    await one.aclose()
    assert (taken, body.aborted, upstream.released) == ([], True, 1)


REUSED: dict[str, tuple[float | None, bool]] = {"at once": (0.0, True), "soon": (0.05, True), "never": (None, False)}


@pytest.mark.parametrize(("after_s", "is_reused"), REUSED.values(), ids=REUSED)
@simulated
async def test_a_done_stream_is_read_on_for_a_moment_so_that_its_connection_is_used_again(
    after_s: float | None, is_reused: bool
) -> None:
    loop, body = asyncio.get_running_loop(), ScriptedBody(HELLO + END)
    one, upstream = made(body)
    await one.next()
    if after_s is not None:
        loop.call_later(after_s, body.end)
    began = loop.time()
    await one.aclose()
    assert loop.time() - began == (REUSE_S if after_s is None else after_s)
    assert (body.read_to_end, body.closed, upstream.released) == (is_reused, True, 1)


@simulated
async def test_a_stream_that_is_not_done_is_not_read_on() -> None:
    body = ScriptedBody(HELLO)
    one, _ = made(body)
    await one.next()
    body.end()
    await one.aclose()
    assert (body.read_to_end, body.closed) == (False, True)


@simulated
async def test_our_own_key_is_cut_out_of_what_an_upstream_says() -> None:
    body = ScriptedBody(frames(json.dumps({"error": {"message": f"bad key {SECRET}!"}}).encode()))
    one, _ = made(body)
    await one.next()
    assert one.error is not None
    assert one.error.detail == "bad key …!"
