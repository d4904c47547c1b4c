"""The life of one run by itself: a log in memory, an upstream that does what a test says, and virtual time."""

import asyncio
import json

import httpx2
import msgspec
import pytest

from events.log.port import Appended
from gateway.chat.ending import Aborted, Failed, Finished
from gateway.chat.journal import HEARTBEAT_S, MAX_UNACKNOWLEDGED
from gateway.chat.topics import chat_topic
from gateway.errors import LogConflict, LogUnavailable, TrilaneError, UpstreamRefused
from tests.contract.engines import put
from tests.support.completions import END, HELLO, USAGE, chunk, frames
from tests.support.readers import settle
from tests.support.run_stage import Stage, running
from tests.support.virtual_time import simulated

TOKEN = frames(chunk({"content": "x"}))
STOP = frames(chunk(finish="stop"))
ERROR = frames(b'{"error": {"message": "no"}}')
LINGER_S = 2.0
"""How long whoever reads a complete answer may have to wait for its end."""


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
        assert (row["runId"], row["outcome"], row["upstream"]) == ("r", "finish", "scripted")
        assert [name for name, _ in await stage.events(chat_topic("me", "c"))] == ["run-finished"]


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


# Ended from outside


@simulated
async def test_a_stopped_run_has_closed_its_request_at_once_and_the_first_reason_counts() -> None:
    async with running(HELLO) as stage:
        stage.run.stop(Aborted("stopped"))
        assert stage.body.aborted
        stage.run.stop(Failed(TrilaneError("too late")))
        finished = await stage.over()
        assert (finished.outcome, finished.text) == ("abort", "stopped")
        stage.run.stop(Aborted("again"))
        assert stage.run.outcome == Aborted("stopped")


@simulated
async def test_a_run_stopped_before_its_first_token_ends_as_stopped() -> None:
    async with running() as stage:
        stage.run.stop(Aborted("stopped"))
        finished = await stage.over()
        assert (finished.outcome, finished.message) == ("abort", None)
        await stage.run.verdict


@simulated
async def test_a_stop_on_the_chats_topic_is_obeyed_by_the_run_it_names() -> None:
    async with running(HELLO) as stage:
        for run_id, name in (("other", "stop"), ("r", "message")):
            await put(stage.log, chat_topic("me", "c"), json.dumps({"runId": run_id}).encode(), name=name, owner="me")
            await settle()
            assert not stage.body.aborted
        await put(stage.log, chat_topic("me", "c"), b'{"runId":"r"}', name="stop")
        assert (await stage.over()).text == "stopped"


@simulated
async def test_a_cancelled_task_ends_its_run_as_interrupted() -> None:
    async with running(HELLO) as stage:
        assert stage.task is not None
        stage.task.cancel()
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "interrupted")


@simulated
async def test_a_fault_of_our_own_ends_the_run_as_a_failure() -> None:
    stage = Stage()
    stage.upstream.answers.clear()
    await stage.start()
    finished = await stage.over()
    assert (finished.outcome, finished.code, finished.text) == ("error", "internal", "the gateway failed: IndexError")


# A log that fails


@simulated
async def test_a_run_that_another_process_has_ended_adds_nothing() -> None:
    async with running(HELLO) as stage:
        await put(stage.log, "run/r", b'{"type":"error"}', close=True)
        before = await stage.events()
        stage.body.send(TOKEN)
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        assert await stage.over() is None
        assert loop.time() == sent_at, "there is nothing to try again"
        assert await stage.events() == before
        assert await stage.events("usage/me") == []


@simulated
async def test_a_run_that_another_writes_to_ends_with_a_conflict_behind_what_that_one_wrote() -> None:
    async with running(HELLO) as stage:
        await put(stage.log, "run/r", b'{"type":"x"}')
        stage.body.send(TOKEN)
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "conflict")
        assert isinstance(stage.run.outcome, Failed)
        assert isinstance(stage.run.outcome.error, LogConflict)
        kinds = [data["type"] for _, data in await stage.events() if "type" in data]
        assert kinds.index("x") < kinds.index("error") == len(kinds) - 1


@simulated
async def test_a_log_that_cannot_be_written_for_a_while_gets_the_end_later() -> None:
    async with running(HELLO) as stage:
        stage.log.failure = LogUnavailable("disk full")
        stage.body.send(TOKEN)
        await asyncio.sleep(3)
        assert not stage.run.finished.done()
        stage.log.failure = None
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "log_unavailable")
        assert (await stage.log.read("run/r", 0)).closed
        assert len(await stage.events("usage/me")) == 1


@simulated
async def test_a_log_that_is_never_written_again_is_given_up() -> None:
    async with running(HELLO) as stage:
        stage.log.failure = LogUnavailable("disk full")
        stage.body.send(TOKEN)
        assert await stage.over() is None
