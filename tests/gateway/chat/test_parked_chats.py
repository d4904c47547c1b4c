"""A chat that waits for people owns no task, no timer and next to no memory: its log has all of it.

LONG_TESTS=1 makes it 10,000 chats instead of 1,000.
"""

import asyncio
import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

from events.log.port import Retention
from events.log.sqlite.engine import SqliteLog
from gateway.chat.run_start import AttachedReader
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from tests.support.chats import user
from tests.support.followers import LOCAL
from tests.support.tool_stage import ToolStage, calls, staged

CHATS = 10_000 if os.environ.get("LONG_TESTS") else 1_000
WARM_UP = 100
AT_ONCE = 20
OWN = 3
"""Tasks and timers by which the lane's own may differ from one moment to the next."""
MAX_BYTES = 1024
"""Bytes that one parked chat may take of the process's memory."""


async def refund(call: FakeCall) -> object:
    return "refunded"


async def park(stage: ToolStage, first: int, count: int) -> None:
    """Has chats ask something: half of them whether the gateway may make a call, half for the result of a client's."""

    async def ask(chat_id: str, tool: str) -> None:
        stage.upstream.answers.append(calls(("k1", tool, {"order": 7})))
        request = SendRequest(id=chat_id, message=user("u1", "refund 7"))
        attached = await stage.lane.sending.send(LOCAL, request, "", {}, silent)
        assert isinstance(attached, AttachedReader)
        attached.reader.close()
        if attached.run is not None:
            await attached.run.over()

    for start in range(first, first + count, AT_ONCE):
        tools = ("refund", "where")
        await asyncio.gather(*(ask(f"c{number}", tools[number % 2]) for number in range(start, start + AT_ONCE)))
    stage.upstream.requests.clear()


def silent(run_id: str) -> Any:
    return _nothing


def _nothing(epoch: str, block: Any) -> list[bytes]:
    return [b""] * len(block.data)


def held() -> tuple[int, int, int]:
    """Returns the bytes, tasks and timers of this process."""
    gc.collect()
    loop: Any = asyncio.get_running_loop()
    timers = [timer for timer in loop._scheduled if not timer.cancelled()]
    return tracemalloc.get_traced_memory()[0], len(asyncio.all_tasks()), len(timers)


async def held_by_parked_chats(folder: Path) -> tuple[float, int, int]:
    """Returns the bytes of each of many parked chats, and the tasks and timers of all of them."""
    tools = FakeToolbox((fake_tool("refund", approve="ask", effect="once"), refund))
    log = SqliteLog(str(folder / "trilane.db"), lambda topic: Retention())
    async with staged(tools, log=log) as stage:
        await park(stage, 0, WARM_UP)
        size_before, tasks_before, timers_before = held()
        await park(stage, WARM_UP, CHATS)
        size, tasks, timers = held()
        assert not len(stage.lane.runs)
        chat_id = f"c{WARM_UP + CHATS - 2}"
        with stage.lane.chats.in_memory.hold() as held_body:
            [ask] = (await stage.lane.chats.snapshot(LOCAL, chat_id, held_body)).pending
        assert ask.tool_name in ("refund", "where")  # those sent at once may have got each other's answer
        return (size - size_before) / CHATS, tasks - tasks_before, timers - timers_before


def test_a_parked_chat_is_in_the_log_alone(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        size, tasks, timers = asyncio.run(held_by_parked_chats(tmp_path))
    finally:
        tracemalloc.stop()
    assert max(tasks, timers) <= OWN, f"{CHATS} parked chats have {tasks} tasks and {timers} timers"
    assert size <= MAX_BYTES, f"a parked chat takes {size:.0f} bytes"
    print(f"a parked chat takes {size:.0f} bytes")
