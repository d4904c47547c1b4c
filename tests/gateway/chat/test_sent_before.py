"""What a user asks of a chat waits for what they have sent to it and is still on its way into the log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Appended
from gateway.chat.steering import SteerRequest
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.errors import NotFound
from tests.support.chats import user
from tests.support.completions import HELLO
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, staged
from tests.support.virtual_time import simulated

LATE_S = 0.5


class LateLog(MemoryLog):
    """A log that takes its time before it has anything, one append after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._turn = asyncio.Lock()

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        keep = super().append

        async def late() -> list[Appended]:
            async with self._turn:
                await asyncio.sleep(LATE_S)
                return await keep(*appends, patient=patient)

        return asyncio.ensure_future(late())


@asynccontextmanager
async def sent() -> AsyncIterator[tuple[ToolStage, "asyncio.Task[list[dict[str, object]]]"]]:
    """Gives a chat whose first message is on its way, and the task that reads its answer."""
    async with staged(FakeToolbox(), ScriptedBody(HELLO), ScriptedBody(HELLO), log=LateLog()) as stage:
        sending = asyncio.create_task(stage.send(SendRequest(id="c", message=user("u1", "Hi"))))
        await asyncio.sleep(LATE_S / 10)
        yield stage, sending


@simulated
async def test_a_stop_stops_the_answer() -> None:
    async with sent() as (stage, sending):
        assert await stage.lane.chats.stop(LOCAL, "c", None)
        assert [record["type"] for record in await sending][-1] == "abort"


@simulated
async def test_a_message_for_the_answer_reaches_it() -> None:
    async with sent() as (stage, sending):
        result = await stage.lane.steering.steer(LOCAL, "c", SteerRequest(message=user("u2", "shorter")))
        assert result.run_id
        assert await stage.lane.chats.stop(LOCAL, "c", None)
        await sending


@simulated
async def test_a_deleted_chat_does_not_come_back() -> None:
    async with sent() as (stage, sending):
        await stage.lane.chats.delete(LOCAL, "c")
        await sending
        with pytest.raises(NotFound):
            await stage.snapshot()
