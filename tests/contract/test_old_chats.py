"""Chats that nobody writes to are deleted whole, on every engine; none that is being written, none by a wrong clock."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from events.log.port import NO_EVENTS, Append, EventLog
from gateway.chat.old_chats import TOLERANCE_S, OldChats
from gateway.chat.records.chat_record import ChatCreated, RunFinished, RunStarted, encode_event
from gateway.chat.topics import CHATS, chat_topic, run_topic
from gateway.core.quota_client import QuotaClient
from gateway.core.usage import Usage, reserved, usage_topic
from gateway.errors import LogConflict
from tests.contract.engines import Clock, Engine, put, scenario
from tests.support.chats import user

RETENTION_S = 86_400.0
TRUST_S = 3600.0


async def write(log: EventLog, chat_id: str, *, is_over: bool = True) -> None:
    """Leaves a chat with one run, which is over or not."""
    started = RunStarted(run_id=f"r-{chat_id}", message_id="a")
    finished = RunFinished(
        run_id=started.run_id, outcome="abort", usage=Usage(input_tokens=0, output_tokens=0, total_tokens=0)
    )
    events = [ChatCreated(id=chat_id), user("m1", "hello"), started, *([finished] if is_over else [])]
    for name, data in map(encode_event, events):
        await put(log, chat_topic("ann", chat_id), data, name=name, owner="ann")
    run = Append(topic=run_topic(started.run_id), owner="ann", data=[b"{}"], name="x", close=is_over)
    await log.append(run, reserved("ann", started.run_id))


async def chats(log: EventLog) -> set[str]:
    return {info.topic for info in await log.topics(CHATS)}


def topics_of(*chat_ids: str) -> set[str]:
    return {chat_topic("ann", chat_id) for chat_id in chat_ids}


@contextlib.asynccontextmanager
async def swept(log: EventLog) -> AsyncGenerator[OldChats]:
    client = QuotaClient(log)
    try:
        yield OldChats(log, client, RETENTION_S)
    finally:
        await client.close()


@scenario
async def test_an_old_chat_goes_whole_and_all_else_stays(engine: Engine) -> None:
    clock = engine.clock
    async with engine.open() as log, swept(log) as sweeper:
        await write(log, "old")
        await write(log, "running", is_over=False)
        await write(log, "touched")
        assert await sweeper.sweep(clock) == 0
        clock.now_s += RETENTION_S - 10
        await put(log, chat_topic("ann", "touched"), encode_event(user("m2", "again"))[1], name="message", owner="ann")
        await write(log, "new")
        assert await sweeper.sweep(clock) == 0, "not yet"
        clock.now_s += 20
        assert await sweeper.sweep(clock) == 1
        assert await chats(log) == topics_of("running", "touched", "new")
        assert not (await log.read(run_topic("r-old"), NO_EVENTS)).epoch
        assert (await log.read(usage_topic("ann"), NO_EVENTS)).head == 4, "usage stays"
        await log.append(Append(topic=run_topic("r-running"), data=[], close=True))
        assert await sweeper.sweep(clock) == 1
        assert await chats(log) == topics_of("touched", "new")


@scenario
async def test_no_chat_goes_before_the_clocks_have_agreed_for_a_while(engine: Engine) -> None:
    clock, own = engine.clock, Clock(0.0)
    async with engine.open() as log, swept(log) as sweeper:
        await write(log, "old")
        clock.now_s += 10 * RETENTION_S  # as a machine that begins with a wrong clock
        for _ in range(3):
            assert await sweeper.sweep(own) == 0
            clock.now_s += TRUST_S / 3 - 1
            own.now_s += TRUST_S / 3 - 1
        clock.now_s += 3 * TOLERANCE_S  # a jump
        own.now_s += TOLERANCE_S
        assert await sweeper.sweep(own) == 0
        clock.now_s -= 10 * RETENTION_S  # it is set right
        assert await sweeper.sweep(own) == 0
        clock.now_s += TRUST_S
        own.now_s += TRUST_S
        assert await sweeper.sweep(own) == 0
        assert await chats(log) == topics_of("old")
        clock.now_s += RETENTION_S
        own.now_s += RETENTION_S
        assert await sweeper.sweep(own) == 1


@scenario
async def test_what_a_sweeper_that_died_had_closed_goes_at_once(engine: Engine) -> None:
    async with engine.open() as log, swept(log) as sweeper:
        await write(log, "old")
        await log.append(Append(topic=chat_topic("ann", "old"), data=[], close=True))
        engine.clock.now_s += RETENTION_S + 10
        assert await sweeper.sweep(engine.clock) == 1
        assert await chats(log) == set()


@scenario
async def test_whoever_writes_to_a_chat_that_is_about_to_go_keeps_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine.open() as log, swept(log) as sweeper:
        await write(log, "old")
        assert await sweeper.sweep(engine.clock) == 0
        engine.clock.now_s += RETENTION_S + 10
        listed = await log.topics(CHATS)
        await put(log, chat_topic("ann", "old"), encode_event(user("m2", "wait"))[1], name="message", owner="ann")

        async def topics(prefix: str, **_: object) -> list[object]:
            return [*listed] if prefix == CHATS else [*await EVERY(prefix, limit=1)]

        EVERY = log.topics
        monkeypatch.setattr(log, "topics", topics)
        assert await sweeper.sweep(engine.clock) == 0
        monkeypatch.undo()
        assert await chats(log) == topics_of("old")
        with pytest.raises(LogConflict):
            await log.append(Append(topic=chat_topic("ann", "old"), data=[b"1"], expect=1))


@scenario
async def test_one_process_sweeps_and_another_when_it_has_ended(shared_engine: Engine) -> None:
    async with shared_engine.open() as one, shared_engine.open() as two:
        first, second = QuotaClient(one), QuotaClient(two)
        sweepers = [OldChats(one, first, 0.4), OldChats(two, second, 0.4)]
        assert [await sweeper.turn.take() for sweeper in sweepers * 2] == [True, False, True, False]
        await sweepers[0].close()
        await first.close()
        assert await sweepers[1].turn.take()
        await sweepers[1].close()
        await second.close()


@scenario
async def test_without_the_setting_nothing_is_done(engine: Engine) -> None:
    async with engine.open() as log:
        sweeper = OldChats(log, QuotaClient(log), 0.0)
        sweeper.start()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "delete old chats"]
        await sweeper.close()
