"""The life of one run by itself: a log in memory, an upstream that does what a test says, and virtual time."""

import asyncio
import gc
import weakref

import httpx2
import msgspec
import pytest

from events.log.port import Appended
from gateway.chat.ending import Failed, Finished
from gateway.chat.journal import HEARTBEAT_S, MAX_UNACKNOWLEDGED
from gateway.chat.topics import chat_topic
from gateway.errors import LogUnavailable, UpstreamRefused
from tests.support.completions import END, HELLO, TOKEN, USAGE, chunk, frames
from tests.support.readers import settle
from tests.support.run_stage import Stage, running
from tests.support.virtual_time import simulated

STOP = frames(chunk(finish="stop"))
ERROR = frames(b'{"error": {"message": "no"}}')
LINGER_S = 2.0
"""Seconds that whoever reads a complete answer may have to wait for its end."""


# A whole life


@simulated
async def test_an_answer_is_in_the_log_from_its_opening_to_its_end() -> None:
    async with running(HELLO, frames(chunk({"content": "!"}, usage=USAGE)), END) as stage:
        finished = await stage.over()
        events = await stage.events()
        assert events[0] == ("run", msgspec.to_builtins(stage.run.info))
        assert [data["type"] for _, data in events[1:3]] == ["start", "start-step"]
        assert await stage.text() == "Hello!"
        assert events[-1][1]["type"] == "finish"
        assert (await stage.log.read("run/r", 0)).closed
        assert (finished.outcome, finished.finish_reason, finished.usage.total_tokens) == ("finish", "stop", 5)
        assert stage.run.outcome == Finished("stop")
        [(_, row)] = await stage.events("usage/me")
        assert (row["id"], row["outcome"], row["upstream"]) == ("r", "finish", "scripted")
        assert [name for name, _ in await stage.events(chat_topic("me", "c"))] == ["run-finished"]


@simulated
async def test_nothing_of_a_run_that_ended_waits_for_the_garbage_collector() -> None:
    """A collection costs a busy process more than the runs that it would find."""
    stage = Stage(HELLO, END)
    await stage.start()
    await stage.over()
    run = weakref.ref(stage.run)
    gc.disable()
    try:
        del stage.run, stage.task
        await settle()
        assert run() is None
    finally:
        gc.enable()


@simulated
async def test_a_connection_that_was_read_to_its_end_is_let_go_of_and_not_cut() -> None:
    async with running(HELLO, END) as stage:
        stage.body.end()
        await stage.over()
        assert (stage.body.read_to_end, stage.body.closed, stage.body.aborted) == (True, True, False)


@simulated
async def test_the_verdict_is_known_with_the_first_visible_token() -> None:
    async with running() as stage:
        stage.body.send(frames(chunk({"role": "assistant", "content": ""})))
        await asyncio.sleep(3)
        assert not stage.run.verdict.done()
        stage.body.send(TOKEN)
        await settle()
        assert stage.run.verdict.done()
        assert not stage.run.finished.done()
        assert stage.run.first_token_s == 3
        stage.body.send(END)
        await stage.over()


@simulated
async def test_a_refusal_before_the_first_token_is_the_verdict_and_the_runs_end() -> None:
    stage = Stage(refusal=UpstreamRefused("too many", code="upstream_rate_limited", status=429))
    await stage.start()
    with pytest.raises(UpstreamRefused, match="too many"):
        await stage.run.verdict
    finished = await stage.over()
    assert (finished.outcome, finished.code, finished.message) == ("error", "upstream_rate_limited", None)
    assert finished.usage.input_tokens == 0, "no upstream has read the prompt"


@simulated
async def test_an_opening_that_fails_leaves_no_run() -> None:
    stage = Stage()
    await stage.log.open()
    opened: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
    stage.run.opening()
    task = stage.run.start(opened)
    await settle()
    opened.set_exception(LogUnavailable("disk full"))
    await task
    assert stage.body.aborted
    assert stage.run.finished.cancelled()
    assert stage.run.verdict.cancelled()
    assert await stage.events() == await stage.events("usage/me") == []


ENDINGS: dict[str, tuple[bytes, httpx2.TransportError | None, tuple[str, str, str]]] = {
    "cut": (TOKEN, None, ("error", "", "upstream_cut")),
    "reset": (TOKEN, httpx2.ReadError("reset"), ("error", "", "upstream_cut")),
    "reset when complete": (TOKEN + STOP, httpx2.ReadError("reset"), ("finish", "stop", "")),
    "ended without [DONE]": (TOKEN + STOP, None, ("finish", "stop", "")),
    "[DONE] alone": (TOKEN + frames(b"[DONE]"), None, ("finish", "other", "")),
    "length": (TOKEN + frames(chunk(finish="length")), None, ("finish", "length", "")),
    "an unknown reason": (TOKEN + frames(chunk(finish="bored")), None, ("finish", "other", "")),
    "an error in place of [DONE]": (TOKEN + STOP + ERROR, None, ("finish", "stop", "")),
    "an error": (TOKEN + ERROR, None, ("error", "", "upstream_error")),
}


@pytest.mark.parametrize(("last", "error", "outcome"), ENDINGS.values(), ids=ENDINGS)
@simulated
async def test_how_a_stream_ends_is_how_its_run_ends(
    last: bytes, error: httpx2.TransportError | None, outcome: tuple[str, str, str]
) -> None:
    async with running(HELLO) as stage:
        stage.body.send(last)
        stage.body.end(error)
        finished = await stage.over()
        assert (finished.outcome, finished.finish_reason, finished.code) == outcome
        assert finished.message is not None, "what was visible is kept"


# Back-pressure


@simulated
async def test_an_upstream_is_read_no_further_while_too_much_is_unacknowledged_and_then_read_on() -> None:
    async with running(HELLO) as stage:
        await settle()
        stage.log.is_slow = True
        stage.body.send(*[TOKEN] * MAX_UNACKNOWLEDGED)
        await settle()
        assert not stage.body.paused
        stage.body.send(*[TOKEN] * 100)
        await settle()
        assert stage.body.paused
        assert len(stage.log.waiting) == MAX_UNACKNOWLEDGED + 1
        await stage.log.acknowledge(MAX_UNACKNOWLEDGED // 2 + 1)
        assert stage.body.paused, "half of them are still on their way"
        stage.log.is_slow = False
        await stage.log.acknowledge(1)
        assert not stage.body.paused
        await stage.log.acknowledge(MAX_UNACKNOWLEDGED)
        stage.body.send(END)
        await stage.over()
        assert await stage.text() == "Hello" + "x" * (MAX_UNACKNOWLEDGED + 100)


@simulated
async def test_an_upstream_that_is_not_read_is_not_late() -> None:
    """While the log is away it may send nothing for longer than the limit; that counts from when it is read again."""
    async with running(HELLO, between_tokens_s=3.0) as stage:
        await settle()
        stage.log.is_slow = True
        stage.body.send(*[TOKEN] * (MAX_UNACKNOWLEDGED + 1))
        await settle()
        assert stage.body.paused
        await asyncio.sleep(20.0)
        assert stage.run.outcome is None
        stage.log.is_slow = False
        await stage.log.acknowledge(len(stage.log.waiting))
        assert not stage.body.paused
        await asyncio.sleep(2.9)
        assert stage.run.outcome is None
        await stage.over()
        assert isinstance(stage.run.outcome, Failed)
        assert stage.run.outcome.error.code == "upstream_timeout"


# Time


@simulated
async def test_a_silent_run_says_every_few_seconds_that_it_lives() -> None:
    async with running(HELLO) as stage:
        await asyncio.sleep(HEARTBEAT_S - 0.1)
        assert await stage.heartbeats() == 0
        await asyncio.sleep(0.2)
        assert await stage.heartbeats() == 1
        await asyncio.sleep(HEARTBEAT_S)
        assert await stage.heartbeats() == 2
        stage.body.send(END)
        await stage.over()


@simulated
async def test_a_run_that_waits_for_its_first_token_says_that_it_lives() -> None:
    async with running() as stage:
        await asyncio.sleep(2 * HEARTBEAT_S + 0.1)
        assert await stage.heartbeats() == 2
        stage.body.send(HELLO, END)
        await stage.over()


@simulated
async def test_tokens_are_sign_of_life_enough() -> None:
    async with running(HELLO) as stage:
        for _ in range(10):
            await asyncio.sleep(HEARTBEAT_S - 1)
            stage.body.send(TOKEN)
        await settle()
        assert await stage.heartbeats() == 0
        stage.body.send(END)
        await stage.over()


@simulated
async def test_silence_between_tokens_ends_the_run_and_a_token_restarts_the_wait() -> None:
    async with running(HELLO, between_tokens_s=8.0) as stage:
        await asyncio.sleep(7.9)
        stage.body.send(TOKEN)
        await asyncio.sleep(7.9)
        assert not stage.run.finished.done()
        await asyncio.sleep(0.2)
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "upstream_timeout")
        assert stage.body.aborted


@simulated
async def test_a_silence_shorter_than_a_heartbeat_can_be_too_long() -> None:
    async with running(HELLO, between_tokens_s=1.0) as stage:
        await asyncio.sleep(1.1)
        assert (await stage.over()).code == "upstream_timeout"


@simulated
async def test_a_run_ends_when_its_time_is_up_though_tokens_come() -> None:
    async with running(HELLO, run_s=20.0) as stage:
        for _ in range(19):
            await asyncio.sleep(1)
            stage.body.send(TOKEN)
        assert not stage.run.finished.done()
        await asyncio.sleep(1.1)
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "run_timeout")
        assert finished.text == "the answer took longer than 20 s, which is the limit (TRILANE_RUN_S)"


@simulated
async def test_a_complete_answer_is_read_on_for_its_usage_figures_and_then_finished() -> None:
    async with running(HELLO, STOP) as stage:
        await asyncio.sleep(LINGER_S - 0.1)
        assert not stage.run.finished.done()
        await asyncio.sleep(0.2)
        assert stage.run.finished.done()
        finished = await stage.over()
        assert (finished.outcome, finished.finish_reason, finished.usage.estimated) == ("finish", "stop", True)
        assert stage.body.aborted


@pytest.mark.parametrize("after_s", [0.0, 1.0, 6.0])
@simulated
async def test_an_answer_lingers_no_longer_whenever_it_is_complete(after_s: float) -> None:
    async with running(HELLO) as stage:
        await asyncio.sleep(after_s)
        stage.body.send(TOKEN + STOP)
        await asyncio.sleep(LINGER_S + 0.1)
        assert stage.run.finished.done()
        assert (await stage.over()).outcome == "finish"


@simulated
async def test_figures_that_come_while_a_complete_answer_lingers_count() -> None:
    async with running(HELLO, STOP) as stage:
        await asyncio.sleep(LINGER_S - 0.1)
        stage.body.send(frames(chunk(usage=USAGE), b"[DONE]"))
        finished = await stage.over()
        assert (finished.usage.input_tokens, finished.usage.estimated) == (3, False)
