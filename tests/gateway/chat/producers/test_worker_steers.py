"""A message for an answer that a worker's agent writes is told, and taken once or left, whoever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from trilane_agent import Context
from trilane_agent.context import Message

from events.log.memory import MemoryLog
from events.log.port import Append
from gateway.chat.producers.worker_steers import HoldingSink
from gateway.chat.records.recorder import Recorder
from tests.support.followers import LOCAL
from tests.support.steer_stage import events, shown, steer, until
from tests.support.virtual_time import simulated
from tests.support.work_stage import WorkStage, work_staged


def texts(messages: Sequence[Message]) -> list[str]:
    return ["".join(part["text"] for part in message["parts"]) for message in messages]


async def steered(ctx: Context) -> list[str]:
    """Waits until the user has sent something, and takes it."""
    while not (taken := ctx.steers()):  # noqa: ASYNC110 - the package has no event for it
        await asyncio.sleep(0.1)
    return texts(taken)


async def taken(stage: WorkStage) -> list[tuple[str, list[str]]]:
    return [(data["runId"], data["ids"]) for data in await events(stage.tools, "taken")]


@pytest.mark.parametrize("at", ["step", "now"])
@simulated
async def test_a_steer_is_told_and_what_is_taken_stands_at_its_place(at: Any) -> None:
    async def helper(ctx: Context) -> AsyncIterator[str]:
        yield "It is 70 °F."
        await ctx.step("look", len, effect="read")
        for text in await steered(ctx):
            yield f"{text} 21 °C."

    async with work_staged() as stage:
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        await asyncio.sleep(1)
        assert (await steer(stage.tools, "u7", "In Celsius?", at=at)).state == "accepted"
        records = await saying
        assert records[-1]["type"] == "finish"
        assert await shown(stage.tools) == [
            ("user", ["Hi"]),
            ("assistant", ["It is 70 °F.", "dynamic-tool", "u7", "In Celsius? 21 °C."]),
        ]
        [(_, ids)] = await taken(stage)
        [finished] = await events(stage.tools, "run-finished")
        assert (ids, finished["took"]) == (["u7"], ["u7"])
        assert (await stage.tools.snapshot()).queue == []


@simulated
async def test_what_is_not_taken_waits_for_the_next_run_and_turn_is_told_to_nobody() -> None:
    told: list[list[str]] = []
    goes_on = asyncio.Event()

    async def helper(ctx: Context) -> AsyncIterator[str]:
        if ctx.text != "Hi":
            yield f"To {ctx.text}"
            return
        yield "A"
        await goes_on.wait()
        told.append([name for name, _ in ctx._steered])  # pyright: ignore - what it would be given

    async with work_staged() as stage:
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        await asyncio.sleep(1)
        for number, at in enumerate(("step", "turn", "step")):
            await steer(stage.tools, f"u{number + 2}", f"word {number}", at=at)
        await asyncio.sleep(1)
        goes_on.set()
        await saying
        await until(lambda: not len(stage.tools.lane.runs))
        await asyncio.sleep(1)
        assert told == [["u2", "u4"]]
        assert await taken(stage) == []
        assert [texts for role, texts in await shown(stage.tools) if role == "assistant"] == [
            *(["A"], ["To word 0"], ["To word 1"], ["To word 2"]),
        ]


@simulated
async def test_one_that_is_removed_is_given_to_the_agent_no_more() -> None:
    given: list[list[str]] = []
    goes_on = asyncio.Event()

    async def helper(ctx: Context) -> AsyncIterator[str]:
        yield "A"
        await goes_on.wait()
        given.append(texts(ctx.steers()))

    async with work_staged() as stage:
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        await asyncio.sleep(1)
        await steer(stage.tools, "u2", "removed")
        await steer(stage.tools, "u3", "stays")
        await asyncio.sleep(1)
        await stage.tools.lane.steering.remove(LOCAL, "c", "u2")
        await asyncio.sleep(1)
        goes_on.set()
        await saying
        assert given == [["stays"]]
        assert [ids for _, ids in await taken(stage)] == [["u3"]]


@simulated
async def test_while_others_write_to_the_chat_each_is_taken_once() -> None:
    """Twenty come one after the other, while a step of the agent's runs beside."""

    async def slow(key: str) -> str:
        await asyncio.sleep(3)
        return "done"

    async def helper(ctx: Context) -> AsyncIterator[str]:
        beside = asyncio.ensure_future(ctx.step("beside", slow, effect="read"))
        count = 0
        while count < 18:
            for text in await steered(ctx):
                count += 1
                yield f"{text};"
        await beside

    async with work_staged() as stage:
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        for number in range(18):
            await asyncio.sleep(0.07)
            await steer(stage.tools, f"s{number}", f"w{number}")
        records = await saying
        assert records[-1]["type"] == "finish"
        ids = [one for _, some in await taken(stage) for one in some]
        assert ids == [f"s{number}" for number in range(18)]
        [(_, parts)] = [one for one in await shown(stage.tools) if one[0] == "assistant"]
        assert "".join(part for part in parts if ";" in part) == "".join(f"w{number};" for number in range(18))
        assert [part for part in parts if part.startswith("s")] == ids


@pytest.mark.parametrize("killed", ["the worker", "the gateway"])
@pytest.mark.parametrize("is_first", [True, False])
@simulated
async def test_what_was_taken_is_given_once_more_at_its_place_to_who_is_entered_again(
    killed: str, *, is_first: bool
) -> None:
    """What came while nobody worked on it is told once the agent has come past what the log has."""
    entries: list[list[str]] = []
    hangs = asyncio.Event()

    async def helper(ctx: Context) -> AsyncIterator[str]:
        seen: list[str] = []
        entries.append(seen)
        yield "A "
        if is_first:
            seen += await steered(ctx)
        await ctx.step("look", len, effect="read")
        if not is_first:
            seen += texts(ctx.steers()) if len(entries) > 1 else await steered(ctx)
        await ctx.step(f"order {seen}", len, effect="read")
        if len(entries) == 1:
            hangs.set()
            await asyncio.get_running_loop().create_future()
        seen += await steered(ctx)
        yield f"{seen}"

    log = MemoryLog()
    async with AsyncExitStack() as stages:
        stage = survivor = await stages.enter_async_context(work_staged(log=log))
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        await asyncio.sleep(1)
        await steer(stage.tools, "u7", "one")
        await hangs.wait()
        await asyncio.sleep(1)
        if killed == "the worker":
            stage.kill()
        else:
            [run] = stage.tools.lane.runs._runs.values()  # pyright: ignore - as if its process were gone
            run.journal.beat = lambda now: now + 5.0
            stage.wires[0].is_cut = True
            saying.cancel()
            survivor = await stages.enter_async_context(work_staged(log=log))
        await steer(survivor.tools, "u8", "two")
        survivor.work(helper)
        await asyncio.sleep(60)
        assert entries[1] == ["one", "two"]
        assert [ids for _, ids in await taken(survivor)] == [["u7"], ["u8"]]
        [(_, parts)] = [one for one in await shown(survivor.tools) if one[0] == "assistant"]
        first = ["u7", "dynamic-tool"] if is_first else ["dynamic-tool", "u7"]
        assert parts == ["A ", *first, "dynamic-tool", "u8", "['one', 'two']"]


@simulated
async def test_a_stop_while_one_is_taken_leaves_no_doubt_about_it() -> None:
    async def helper(ctx: Context) -> AsyncIterator[str]:
        yield "A"
        await steered(ctx)
        await asyncio.sleep(100)

    async with work_staged() as stage:
        stage.work(helper)
        saying = asyncio.ensure_future(stage.say())
        await until(lambda: len(stage.tools.lane.runs) > 0)
        await asyncio.sleep(1)
        stage.work(helper)
        await steer(stage.tools, "u7", "one")
        for _ in range(200):
            await asyncio.sleep(0.001)
            if stage.tools.lane.runs._runs and await taken(stage):  # pyright: ignore
                break
        await stage.tools.lane.chats.stop(LOCAL, "c", None)
        await saying
        ended = await stage.ended()
        assert ended["outcome"] == "abort"
        assert ended["took"] == [one for _, ids in await taken(stage) for one in ids]


@simulated
async def test_what_others_write_while_messages_are_taken_follows_in_order() -> None:
    class SlowSink:
        def __init__(self) -> None:
            self.recorder = Recorder()
            self.written: list[bytes] = []
            self.write = self.written.extend
            self.is_durable = asyncio.Event()

        def begin(self, records: list[bytes]) -> None:
            self.written += records

        async def note(self, name: str, data: bytes) -> None:
            self.written.append(data)

        async def take(self, records: list[bytes], told: Append) -> bool:
            await self.is_durable.wait()
            self.written += records
            return True

        def deadline_moved(self) -> None: ...

    slow = SlowSink()
    sink = HoldingSink(slow)
    sink.write([b"1"])
    taking = asyncio.ensure_future(sink.take([b"2"], Append(topic="chat/x", data=[])))
    await asyncio.sleep(0)
    sink.write([b"3"])
    noting = asyncio.ensure_future(sink.note("n", b"4"))
    await asyncio.sleep(1)
    assert slow.written == [b"1"]
    slow.is_durable.set()
    await asyncio.gather(taking, noting)
    sink.write([b"5"])
    assert slow.written == [b"1", b"2", b"3", b"4", b"5"]
