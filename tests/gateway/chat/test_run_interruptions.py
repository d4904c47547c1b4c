"""A run is stopped, cancelled or fails before its answer is complete; the log in memory, the time virtual."""

import asyncio
import json

import pytest

from gateway.chat.ending import Aborted, Failed
from gateway.chat.journal import SETTLE_MAX_DELAY_S, SETTLE_TRIES
from gateway.chat.topics import chat_topic
from gateway.errors import LogConflict, LogUnavailable, TrilaneError
from tests.contract.engines import put
from tests.support.completions import HELLO, TOKEN
from tests.support.readers import settle
from tests.support.run_stage import Stage, running
from tests.support.virtual_time import simulated

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


@pytest.mark.parametrize("away_s", [3, 60, 240])
@simulated
async def test_a_log_that_cannot_be_written_for_a_while_gets_the_end_later(away_s: float) -> None:
    async with running(HELLO) as stage:
        stage.log.append_failure = LogUnavailable("disk full")
        stage.body.send(TOKEN)
        await asyncio.sleep(away_s)
        assert not stage.run.finished.done()
        stage.log.append_failure = None
        finished = await stage.over()
        assert (finished.outcome, finished.code) == ("error", "log_unavailable")
        assert (await stage.log.read("run/r", 0)).closed
        assert len(await stage.events("usage/me")) == 1


@simulated
async def test_a_log_that_is_never_written_again_is_given_up() -> None:
    async with running(HELLO) as stage:
        stage.log.append_failure = LogUnavailable("disk full")
        stage.body.send(TOKEN)
        assert await stage.over(within_s=SETTLE_TRIES * SETTLE_MAX_DELAY_S) is None
