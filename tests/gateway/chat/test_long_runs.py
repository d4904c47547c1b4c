"""A run may take hours: nothing that has a bound of its own ends it, or makes it one that nobody can end."""

import asyncio
from typing import Any, cast

import msgspec
import pytest

from events.log.memory import MemoryLog
from events.log.port import EventLog
from gateway.chat.journal import RETELL_S
from gateway.chat.records.chat_record import RunFinished
from gateway.chat.silence import SILENCE_S
from gateway.chat.tools.fake import FakeToolbox
from gateway.core.engines import retention_policy
from gateway.settings import Settings
from tests.gateway.chat.test_recovery import Door
from tests.support.completions import chunk, frames
from tests.support.scripted_upstream import ScriptedBody, ScriptedUpstream
from tests.support.tool_stage import ToolStage, says, staged
from tests.support.virtual_time import simulated

HOUR_S = 3600.0
DAY_S = 86_400.0
START = frames(chunk({"role": "assistant", "content": "It takes"}))
STOP = frames(chunk(finish="stop"), b"[DONE]")
SWEPT_S = SILENCE_S + 10


@pytest.fixture(autouse=True)
def few_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the hours of a test pass without a look at the log four times a second."""
    monkeypatch.setattr("gateway.core.process.FAILURE_S", 60.0)
    monkeypatch.setattr("gateway.core.memory.LOOK_S", 60.0)


def word(text: str) -> bytes:
    return frames(chunk({"content": text}))


def kept_log(**settings: Any) -> MemoryLog:
    """Returns a log that forgets as a gateway's does, by the loop's time."""
    loop = asyncio.get_running_loop()
    return MemoryLog(retention_policy(Settings(**settings)), clock=lambda: 1_700_000_000 + loop.time())


def bounded(stage: ToolStage, **bounds: Any) -> ScriptedUpstream:
    """Gives the only upstream of a stage bounds of its own."""
    stage.upstream.settings = msgspec.structs.replace(stage.upstream.settings, **bounds)
    return stage.upstream


async def begun(stage: ToolStage) -> "asyncio.Task[list[dict[str, Any]]]":
    task = asyncio.create_task(stage.say("take your time", background=True))
    await asyncio.sleep(0.1)
    assert stage.upstream.requests
    return task


async def finished_run(stage: ToolStage) -> dict[str, Any]:
    [data] = [data for name, data in await stage.chat_events() if name == RunFinished.event]
    return data


@simulated
async def test_a_run_of_an_hour_ends_as_any_other_and_no_other_process_ends_it() -> None:
    body, log = ScriptedBody(START), kept_log(retention_s=HOUR_S / 8)
    async with (
        staged(FakeToolbox(), body, log=log, retention_chats_s=HOUR_S / 8) as stage,
        staged(FakeToolbox(), log=log, retention_chats_s=HOUR_S / 8),
    ):
        bounded(stage, run_s=12 * HOUR_S, between_tokens_s=HOUR_S)
        saying = await begun(stage)
        for number in range(8):
            await asyncio.sleep(HOUR_S / 8)
            if number % 2:
                body.send(word(f" {number}"))
        body.send(STOP)
        body.end()
        await saying
        assert (await finished_run(stage))["outcome"] == "finish"
        assert [part["text"] for part in await stage.parts("text")] == ["It takes 1 3 5 7"]
        assert (await stage.core.log.read("usage/local", 0)).head == 2


@pytest.mark.parametrize(
    ("bounds", "seconds", "setting"),
    [({}, 600, "TRILANE_RUN_S"), ({"run_s": 1200.0}, 1200, "run_s of the upstream 'scripted'")],
)
def test_what_takes_too_long_names_the_limit_and_its_setting(
    bounds: dict[str, float], seconds: float, setting: str
) -> None:
    @simulated
    async def play() -> None:
        async with staged(FakeToolbox(), ScriptedBody(START)) as stage:
            bounded(stage, between_tokens_s=DAY_S, **bounds)
            began = asyncio.get_running_loop().time()
            await (await begun(stage))
            assert asyncio.get_running_loop().time() - began == pytest.approx(seconds, abs=1)
            finished = await finished_run(stage)
            assert finished["code"] == "run_timeout"
            assert finished["text"] == f"the answer took longer than {seconds:g} s, which is the limit ({setting})"

    play()


@simulated
async def test_of_those_who_may_answer_the_longest_limit_holds() -> None:
    async with staged(FakeToolbox()) as stage:
        names = {"slow": {"run_s": 50.0}, "slower": {"run_s": 900.0}, "usual": {}}
        answering = [
            ScriptedUpstream(ScriptedBody(START), name=name, models=models, between_tokens_s=DAY_S, **more)
            for (name, more), models in zip(names.items(), [["a"], ["a", "b"], ["b", "c"]], strict=True)
        ]
        stage.lane.upstreams.replace(answering)
        loop = asyncio.get_running_loop()
        for model, seconds in (("a", 900), ("b", 900), ("c", 600)):
            began = loop.time()
            assert (await stage.say("go", model=model))[-1]["type"] == "error"
            assert loop.time() - began == pytest.approx(seconds, abs=1), model


@pytest.mark.parametrize("minutes", [0, 5], ids=["at once", "after minutes"])
@simulated
async def test_a_run_of_which_the_log_has_dropped_the_start_can_be_ended_by_others(minutes: int) -> None:
    """What it had said is lost then, but not that it was there: its chat goes on, and its usage is settled."""
    body, log = ScriptedBody(START), kept_log(retention_bytes=40_000)
    door = Door(log)
    async with (
        staged(FakeToolbox(), body, log=cast(EventLog, door)) as stage,
        staged(FakeToolbox(), says("Again."), log=log) as another,
    ):
        bounded(stage, run_s=12 * HOUR_S, between_tokens_s=HOUR_S)
        saying = await begun(stage)
        for _ in range(100 * max(4, minutes)):
            body.send(word(" word" * 20))
            await asyncio.sleep(RETELL_S / 100 if minutes else 0.01)
        active = (await stage.snapshot()).active_run
        assert active is not None
        assert (await log.read(f"run/{active.run_id}", 0)).oldest > 1, "the log has dropped its beginning"
        door.stop(1, is_lost=True)
        await asyncio.sleep(SWEPT_S)
        assert (await another.snapshot()).active_run is None
        if minutes:
            assert (await finished_run(another))["code"] == "interrupted"
            assert (await log.read("usage/local", 0)).head == 2
        assert (await another.say("once more"))[-1]["type"] == "finish"
        saying.cancel()
        await door.wake()
