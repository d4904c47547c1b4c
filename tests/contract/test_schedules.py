"""On every engine that processes share, each occurrence of a schedule is started once, whichever of them dies."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import product
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from gateway.chat.ending import Failed
from gateway.chat.records.schedule_record import text_of
from gateway.chat.topics import DUE, RUNS, SCHEDULES, chat_topic, run_id_of
from gateway.core.usage import now_ms
from gateway.errors import TrilaneError
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.contract.engines import Engine, opened, whole
from tests.gateway.chat.test_recovery import Door
from tests.gateway.chat.test_schedules import DUE_MS, Clock, ScheduleStage, in_s, scheduling
from tests.support.followers import LOCAL
from tests.support.loop_failures import run_watched
from tests.support.sse_client import user_message
from tests.support.tool_stage import says

DEADLINE_S = 120.0
GONE = Failed(TrilaneError("gone", code="interrupted"))
PROCESSES = 3
SCHEDULES_AT_ONCE = 30
HASTY = ("-m", "tests.support.hasty_gateway")


class EngineDoor(Door):
    """A Door to any engine, which tells this process of commits."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(cast(MemoryLog, log))
        self.is_shut = asyncio.Event()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("listener", "interest", "on_written"):
            setattr(self._log, name, value)
        else:
            object.__setattr__(self, name, value)

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        answer = super().append(*appends, patient=patient)
        if self._left <= 0:
            self.is_shut.set()
        return answer


def played(test: Callable[[Engine], Coroutine[Any, Any, None]]) -> Callable[[Engine], None]:
    """Runs a test on its own event loop, under a deadline that a busy machine meets, too."""

    def run(shared_engine: Engine) -> None:
        async def play() -> None:
            async with asyncio.timeout(DEADLINE_S):
                await test(shared_engine)

        run_watched(asyncio.new_event_loop, play())

    run.__name__ = test.__name__
    return pytest.mark.timeout(DEADLINE_S + 10)(run)


async def told(log: EventLog, chat_id: str) -> list[tuple[str, Any]]:
    return [(name, json.loads(data)) for _, name, data in await whole(log, chat_topic(LOCAL.sub, chat_id))]


async def check_started_once(log: EventLog, chat_id: str) -> None:
    """Asserts that a chat has one message of a user and one answer to it."""
    events = await told(log, chat_id)
    sent = [data["id"] for name, data in events if name == "message" and data["role"] == "user"]
    started = [data["runId"] for name, data in events if name == "run-started"]
    assert (len(sent), len(started)) == (1, 1), f"{chat_id}: {sent} {started}"


async def left_of_schedules(log: EventLog) -> list[str]:
    return [name for name in await log.names("", 10_000) if name.startswith((DUE, SCHEDULES))]


@contextlib.asynccontextmanager
async def processes(engine: Engine, clock: Clock, count: int) -> AsyncIterator[list[ScheduleStage]]:
    async with contextlib.AsyncExitStack() as stack:
        answers = 10 * SCHEDULES_AT_ONCE  # one that comes second has asked, too
        yield [
            await stack.enter_async_context(
                scheduling(*[says("Here.") for _ in range(answers)], log=engine.make(), clock=clock)
            )
            for _ in range(count)
        ]


@played
async def test_wherever_a_process_dies_its_occurrence_is_started_once(shared_engine: Engine) -> None:
    clock, door = Clock(), EngineDoor(shared_engine.make())
    answers = [says("Here.") for _ in range(SCHEDULES_AT_ONCE)]
    async with (
        processes(shared_engine, clock, 1) as [other],
        scheduling(*answers, log=cast(EventLog, door), clock=clock) as dies,
    ):
        log = other.stage.core.log
        for stops_at, is_lost, every in product(range(1, 5), (False, True), (None, 60)):
            chat_id = f"{stops_at}-{is_lost}-{every}"
            when: dict[str, Any] = {"every": every} if every else {"at": in_s(clock, 60)}
            view = await other.add(message_id=chat_id, chat_id=chat_id, **when)
            clock.ms += 60_000 + DUE_MS
            door.is_shut.clear()
            door.stop(stops_at, is_lost=is_lost)
            sweeping = asyncio.ensure_future(dies.due.sweep())
            shut = asyncio.ensure_future(door.is_shut.wait())
            await asyncio.wait((sweeping, shut), return_when=asyncio.FIRST_COMPLETED)
            shut.cancel()
            await other.due.sweep()
            for info in await log.topics(RUNS, open_only=True):  # as the sweeper does after a while
                if other.lane.runs.get(run_id_of(info.topic)) is None:
                    await other.lane.runs.end_other(run_id_of(info.topic), GONE)
            await other.due.sweep()
            await check_started_once(log, chat_id)
            await door.wake()
            await asyncio.wait([sweeping])
            await check_started_once(log, chat_id)
            if every:
                await other.schedules.remove(LOCAL, chat_id, view.id)
        clock.ms += 2 * 60_000
        await other.due.sweep()
        assert await left_of_schedules(log) == []


@played
async def test_of_several_that_look_at_once_one_starts_each(shared_engine: Engine) -> None:
    clock = Clock()
    async with processes(shared_engine, clock, PROCESSES) as stages:
        first, chats = stages[0], [f"c{number}" for number in range(SCHEDULES_AT_ONCE)]
        for number, chat_id in enumerate(chats):
            await first.add(message_id=chat_id, chat_id=chat_id, at=in_s(clock, 60 + number / 10))
        clock.ms += 90_000
        await asyncio.gather(*[stage.due.sweep() for stage in stages])
        for stage in stages:
            await stage.lane.drain()
            stage.lane.runs.draining = False
        clock.ms += 60_000  # who came second, and found the chat busy, looks once more
        await first.due.sweep()
        for chat_id in chats:
            await check_started_once(first.stage.core.log, chat_id)
        assert await left_of_schedules(first.stage.core.log) == []


def add(client: httpx2.Client, chat_id: str, at_ms: int) -> None:
    body = {"message": user_message("T=2 I=1000", chat_id), "at": text_of(at_ms)}
    answer = client.post(f"/api/chat/{chat_id}/schedules", json=body)
    assert answer.status_code == 200, answer.text


async def check_all(url: str, chats: list[str]) -> bool:
    """Returns whether each chat has its answer, and asserts that none has two."""
    async with opened(url) as log:
        events = {chat_id: await told(log, chat_id) for chat_id in chats}
        for chat_id in chats:
            if events[chat_id]:
                await check_started_once(log, chat_id)
        is_over = all(any(name == "run-finished" for name, _ in one) for one in events.values())
        return is_over and await left_of_schedules(log) == []


@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_process_that_is_killed_while_it_starts_what_is_due_loses_and_repeats_nothing(
    shared_engine: Engine, upstream: UpstreamThread, tmp_path: Path
) -> None:
    gateways = [
        serving(tmp_path / f"g{number}", upstream.url, TRILANE_LOG=shared_engine.url) for number in range(PROCESSES)
    ]
    try:
        for gateway in gateways:
            gateway.program = HASTY
            gateway.start()
        chats, began_ms = [f"c{number}" for number in range(SCHEDULES_AT_ONCE)], now_ms()
        with httpx2.Client(base_url=gateways[0].url, timeout=60) as client:
            for number, chat_id in enumerate(chats):
                add(client, chat_id, began_ms + 1000 + number * 100)
        victims: list[Gateway] = []

        def someone_starts() -> bool:
            victims[:] = [gateway for gateway in gateways if gateway.gauge("trilane_chat_runs_total") > 3]
            return bool(victims)

        eventually(someone_starts, 60, "what is due is started")
        victims[0].process.kill()  # type: ignore[union-attr]
        eventually(lambda: asyncio.run(check_all(shared_engine.url, chats)), 60, "all have their answer", every_s=0.5)
        time.sleep(0.5)
        assert asyncio.run(check_all(shared_engine.url, chats))
    finally:
        for gateway in gateways:
            gateway.stop()
