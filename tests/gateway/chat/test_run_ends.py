"""The end of a run in the background stands in the log with the end itself: how it ended, and not what was said."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from events.log.memory import MemoryLog
from gateway.chat.abandoned import end_run
from gateway.chat.ending import Failed
from gateway.chat.records.run_end import RUN_ENDS
from gateway.chat.run_webhook import RunWebhook
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import run_id_of
from gateway.errors import TrilaneError
from tests.gateway.chat.test_approvals import CALL, toolbox
from tests.gateway.chat.test_when_busy import post
from tests.support.followers import LOCAL
from tests.support.steer_stage import begun, opening, rest
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

HOOKED = {"run_webhook_url": "http://127.0.0.1:9/hook", "run_webhook_secret": b"\1" * 32}


@asynccontextmanager
async def hooked(*answers: Any, tools: FakeToolbox | None = None, **settings: Any) -> AsyncIterator[ToolStage]:
    """Yields a stage whose runs tell their ends; nobody delivers them."""
    async with staged(tools or FakeToolbox(), *answers, **{**HOOKED, **settings}) as stage:
        for work in stage.lane._works:  # type: ignore[reportPrivateUsage]
            if isinstance(work, RunWebhook):
                await work.close()
        yield stage


async def ends(stage: ToolStage) -> list[dict[str, Any]]:
    part = await stage.core.log.read(f"{RUN_ENDS}local", 0)
    return [json.loads(data) for block in part.blocks for data in block.data]


@simulated
async def test_an_end_says_how_and_not_what_and_stands_there_with_the_end_itself() -> None:
    async with hooked(says("a secret"), says("another")) as stage:
        before = await stage.core.log.read(f"{RUN_ENDS}local", 0)
        await stage.say("secrets?", background=True)
        await stage.say("and in the open?")
        [end] = await ends(stage)
        started = [data for name, data in await stage.chat_events() if name == "run-started"]
        assert not before.head
        assert end == {
            "runId": started[0]["runId"],
            "chatId": "c",
            "messageId": started[0]["messageId"],
            "sub": "local",
            "outcome": "finish",
            "finishReason": "stop",
            "model": end["model"],
            "upstream": end["upstream"],
            "startedMs": end["startedMs"],
            "endedMs": end["endedMs"],
            "usage": end["usage"],
        }
        assert end["endedMs"] >= end["startedMs"] > 1_600_000_000_000
        assert end["usage"]["outputTokens"] == 1
        assert "secret" not in json.dumps(end)


@simulated
async def test_without_the_setting_nothing_is_kept() -> None:
    async with staged(FakeToolbox(), says("One")) as stage:
        await stage.say("Hi", background=True)
        assert not await stage.core.log.names(RUN_ENDS, 1) or (await stage.core.log.names(RUN_ENDS, 1))[0] > "i"
        assert not await ends(stage)


@simulated
async def test_a_run_that_asks_says_what_and_the_one_that_goes_on_has_an_end_of_its_own() -> None:
    async with hooked(calls(CALL), says("Refunded."), tools=toolbox()) as stage:
        await stage.say("refund 7", background=True)
        [ask] = (await stage.snapshot()).pending
        await stage.approve(ask.approval_id)
        await stage.lane.drain()
        first, second = await ends(stage)
        assert (first["finishReason"], first["asks"]) == ("tool-calls", [ask.approval_id])
        assert (second["outcome"], second["finishReason"], "asks" in second) == ("finish", "stop", False)
        assert first["messageId"] == second["messageId"]


@simulated
async def test_what_waited_and_was_left_to_another_process_tells_its_end_too() -> None:
    log, body = MemoryLog(), opening("One")
    async with hooked(body, log=log) as leaving, hooked(says("Two"), log=log) as stage:
        told = await begun(leaving)
        await post(leaving, "u2", "queue", background=True)
        drain = asyncio.ensure_future(leaving.lane.runs.drain())
        await asyncio.sleep(1)
        rest(body)
        await told
        await drain
        await asyncio.sleep(2)
        started = [data["runId"] for name, data in await stage.chat_events() if name == "run-started"]
        assert [(end["runId"], end["outcome"]) for end in await ends(stage)] == [(started[1], "finish")]


@pytest.mark.parametrize("how", ["stopped", "dead"])
@simulated
async def test_any_other_end_is_told_too_whoever_writes_it(how: str) -> None:
    async with hooked(opening("One")) as stage:
        saying = asyncio.ensure_future(stage.say("Hi", background=True))
        await asyncio.sleep(1)
        if how == "stopped":
            await stage.lane.chats.stop(LOCAL, "c", None)
        else:
            [info] = await stage.core.log.topics("run/", open_only=True)
            await end_run(stage.core.log, run_id_of(info.topic), Failed(TrilaneError("gone", code="interrupted")))
        await stage.lane.drain()
        await saying
        [end] = await ends(stage)
        assert (end["outcome"], end.get("code")) == (("abort", None) if how == "stopped" else ("error", "interrupted"))
