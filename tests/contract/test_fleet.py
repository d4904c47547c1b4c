"""Processes tell `trilane top` what they have open over every log that several of them can share."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from events.log.hub import Hub
from events.log.port import NO_EVENTS, EventLog, Position
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.topics import run_topic
from gateway.commands.top import Fleet
from gateway.core.fleet import FLEET, MAX_RUNS, FleetMember, WrittenRun
from gateway.serving.open_streams import OpenStreams
from tests.contract.engines import Engine, put, scenario

PLENTY = MAX_RUNS + 5


async def joined(log: EventLog, runs: int) -> FleetMember:
    """Returns a process with this many runs, of which the log knows whose they are."""
    member = FleetMember(log, Hub(log), OpenStreams())
    ids = [f"{member.name}-{number}" for number in range(runs)]
    for number, run_id in enumerate(ids[:MAX_RUNS]):
        info = RunInfo(run_id=run_id, sub="alice", message_id="m", model="m", started_ms=1000 + number)
        await put(log, run_topic(run_id), msgspec.json.encode(info), name="run")
    member.runs = lambda: runs
    member.oldest_runs = lambda: (WrittenRun(run_id, 7) for run_id in ids)
    await member.open()
    return member


@scenario
async def test_every_process_answers_whoever_asks(shared_engine: Engine) -> None:
    async with AsyncExitStack() as stack:
        here, there, outside = [await stack.enter_async_context(shared_engine.open()) for _ in range(3)]
        first, second = await joined(here, 1), await joined(there, PLENTY)
        assert not (await here.read(FLEET, NO_EVENTS, max_events=1)).epoch, "nothing is written while nobody asks"
        first.unit, second.state = "chat", "ready"
        hub = Hub(outside)
        fleet = Fleet(outside, hub, "")
        await fleet.open()
        view = await fleet.look()
        told = {shown.report.name: shown.report for shown in view.processes}
        assert told.keys() == {first.name, second.name}
        assert (told[first.name].unit, told[first.name].state, told[first.name].runs) == ("chat", "starting", 1)
        assert (told[second.name].state, told[second.name].runs) == ("ready", PLENTY)
        assert len(view.runs) == 1 + MAX_RUNS
        assert {(run.info.sub, run.tokens) for run in view.runs} == {("alice", 7)}
        starts = [run.info.started_ms for run in view.runs]
        assert starts == sorted(starts)
        async with asyncio.timeout(20):
            first.close()
            while len((await fleet.look()).processes) > 1:
                pass
        assert [shown.report.name for shown in fleet.view().processes] == [second.name]


@scenario
async def test_a_log_without_processes_has_none(shared_engine: Engine) -> None:
    async with shared_engine.open() as log:
        fleet = Fleet(log, Hub(log), "")
        await fleet.open()
        await put(log, FLEET, b'{"of": "another release"}', name="report")
        assert (await fleet.look()).processes == []


@pytest.mark.parametrize("writer", ["the watching process", "another process"])
@scenario
async def test_what_stands_for_as_long_as_its_process_outlives_its_topic(shared_engine: Engine, writer: str) -> None:
    """A log forgets a topic to which nobody has written for long; a watch that does not stand ends with it."""
    async with shared_engine.open() as here, shared_engine.open() as there:
        hub, heard, ended = Hub(here), list[bytes](), list[bytes]()
        hub.watch("t", Position("", 0), lambda block: heard.extend(block.data), is_standing=True)
        hub.watch("t", Position("", 0), lambda block: ended.extend(block.data))
        log = here if writer == "the watching process" else there
        await put(log, "t", b"1")
        await put(log, "t", b"2")
        async with asyncio.timeout(20):
            while min(len(heard), len(ended)) < 2:  # noqa: ASYNC110 - news of another process come when they come
                await asyncio.sleep(0.01)
            await log.delete("t")
            await put(log, "t", b"3")
            await put(log, "t", b"4")
            while len(heard) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert heard == [b"1", b"2", b"3", b"4"]
        assert ended == [b"1", b"2"]
        await hub.close()
