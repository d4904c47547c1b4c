"""A stream of an upstream turns its body into chunks."""

import asyncio
import json

import httpx2
import pytest

from gateway.chat.upstreams.answer_stream import REUSE_S
from gateway.chat.upstreams.chunks import AnswerChunk
from gateway.chat.upstreams.completion_stream import CompletionStream
from gateway.errors import UpstreamCut
from tests.support.completions import END, HELLO, chunk, frames, text_of
from tests.support.scripted_upstream import SECRET, ScriptedBody, ScriptedUpstream, generation
from tests.support.virtual_time import simulated


def made(body: ScriptedBody) -> tuple[CompletionStream, ScriptedUpstream]:
    upstream = ScriptedUpstream(body)
    return generation(body, upstream), upstream


@simulated
async def test_pieces_are_piped_until_the_stream_is_done_and_nothing_after() -> None:
    body, taken = ScriptedBody(HELLO), list[AnswerChunk]()
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
    body, taken = ScriptedBody(), list[AnswerChunk]()
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
