"""A run with tools whose process dies is gone on with by another, and no tool acts twice that must not."""

import asyncio
from typing import Any

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Appended
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.chat.tools.toolbox import Effect
from gateway.errors import LogError
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

CALL = ("k1", "crm__refund", {"order": 7})
RECOVERED_S = 40.0
EFFECTS: list[Effect] = ["read", "idempotent", "once"]


class Door:
    """A log as one process sees it, which is stopped at one of its appends, before that counts or after."""

    def __init__(self, log: MemoryLog, stops_at: int = 1 << 30, *, is_lost: bool = False) -> None:
        """Stops at append `stops_at`; `is_lost` says that this one never comes to the log while it is stopped."""
        self._log = log
        self._left = stops_at
        self._is_lost = is_lost
        self._waiting: list[tuple[tuple[Append, ...], asyncio.Future[list[Appended]]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        self._left -= 1
        if self._left > 0:
            return self._log.append(*appends, patient=patient)
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        if self._left == 0 and not self._is_lost:
            self._log.append(*appends)  # the answer is what is lost
        else:
            self._waiting.append((appends, answer))
        return answer

    async def wake(self) -> None:
        """Lets the process go on as if it had been stopped: what it wrote comes to the log only now."""
        self._left = 1 << 30
        for appends, answer in self._waiting:
            try:
                answer.set_result(await self._log.append(*appends))
            except LogError as err:
                answer.set_exception(err)
            await asyncio.sleep(0)


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("is_lost", [False, True], ids=["written", "lost"])
@pytest.mark.parametrize("stops_at", range(1, 9))
def test_wherever_a_process_stops_no_call_acts_twice_and_the_chat_is_never_stuck(
    effect: Effect, stops_at: int, *, is_lost: bool
) -> None:
    acted: list[str] = []

    async def refund(call: FakeCall) -> object:
        call.act()
        acted.append(call.key)
        await asyncio.sleep(0.1)
        return {"ok": True}

    @simulated
    async def play() -> None:
        toolbox = FakeToolbox((fake_tool("crm__refund", approve="auto", effect=effect), refund))
        log = MemoryLog()
        door = Door(log, stops_at, is_lost=is_lost)
        async with staged(toolbox, calls(CALL), says("Done."), says("Again."), log=door) as stopped:  # type: ignore[arg-type]
            async with staged(toolbox, log=log) as stage:
                stage.upstream.answers = stopped.upstream.answers
                sending = asyncio.ensure_future(stopped.say("refund 7"))
                await asyncio.sleep(RECOVERED_S)
                await check(stage, toolbox)
                await door.wake()
                await stopped.lane.drain()
                await check(stage, toolbox)
                sending.cancel()

    async def check(stage: ToolStage, toolbox: FakeToolbox) -> None:
        events = [data for name, data in await stage.chat_events() if name == "run-finished"]
        if not events and is_lost and stops_at == 1:
            return  # nothing was begun
        snapshot = await stage.snapshot()
        assert snapshot.active_run is None, "the chat is stuck"
        assert len(events) == 1, "a run ends once"
        assert len(acted) <= 1 or effect != "once"
        assert len(set(acted)) <= 1, "a call that is made again has its key"
        assert all(count == 1 for count in toolbox.effects.values())
        if events[0]["outcome"] == "finish":
            [part] = await stage.parts()
            assert part["state"] == ("approval-requested" if snapshot.pending else "output-available")
            assert [ask.kind for ask in snapshot.pending] in ([], ["doubt"])
        else:
            assert events[0]["code"] == "interrupted"

    play()
