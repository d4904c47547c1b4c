"""A reader is told who is there and who types: what is, never a queue of what was, and bounded."""

import asyncio
import json
from typing import Any

import msgspec

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append
from events.log.topics import stored, stored_name
from gateway.access.memberships import new_shared_id
from gateway.chat.dialects.live import people_line
from gateway.chat.live_people import MAX_TYPING, LivePeople, PeopleReader
from gateway.core.presence import LIST_S, PEERS
from gateway.core.usage import now_ms
from tests.support.virtual_time import simulated

CHAT = new_shared_id()
TOPIC = f"chat/{CHAT}"


class Stage:
    """Several processes on one log, each with sockets on the chat."""

    def __init__(self, count: int = 2) -> None:
        self.log = MemoryLog()
        self.hub = Hub(self.log)
        self.processes = [LivePeople(self.log, self.hub) for _ in range(count)]

    async def __aenter__(self) -> "Stage":
        await self.log.open()
        for process in self.processes:
            await process.presence.open()
        await asyncio.sleep(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            await process.presence.close()
            assert not process._subs
        await self.log.close()

    async def come(self, sub: str, place: int = 0) -> PeopleReader:
        return await self.processes[place].join(sub, CHAT, people_line)

    async def types(self, sub: str, for_s: float = 5.0) -> None:
        name = stored_name("typing", for_s, now_ms())
        data = [msgspec.json.encode({"sub": sub})]
        await self.log.append(Append(topic=stored(f"presence/{TOPIC}"), data=data, name=name))


def told(reader: PeopleReader) -> list[tuple[str, Any]]:
    frames = [json.loads(line) for line in reader.poll()]
    assert all(frame.keys() == {"event", "data"} for frame in frames)
    return [(frame["event"], frame["data"].get("here") or frame["data"]["sub"]) for frame in frames]


@simulated
async def test_a_new_reader_is_told_who_is_there_in_every_process_and_then_what_changes() -> None:
    async with Stage() as stage:
        first = await stage.come("alice")
        assert told(first) == [], "the other processes have not answered yet"
        await asyncio.sleep(2 * LIST_S)
        assert told(first) == [("here", ["alice"])]
        second = await stage.come("bob", 1)
        await asyncio.sleep(2 * LIST_S)
        assert told(first) == [("join", "bob")]
        assert told(second) == [("here", ["alice", "bob"])]
        assert told(first) == []
        second.close()
        await asyncio.sleep(1)
        assert told(first) == [("leave", "bob")]
        first.close()


@simulated
async def test_a_slow_reader_is_told_what_is_and_nothing_of_what_was() -> None:
    async with Stage() as stage:
        slow = await stage.come("alice")
        await asyncio.sleep(1)
        told(slow)
        for _ in range(20):
            coming = await stage.come("bob", 1)
            await asyncio.sleep(1)
            coming.close()
            await asyncio.sleep(1)
        carol = await stage.come("carol", 1)
        await asyncio.sleep(1)
        assert told(slow) == [("join", "carol")]
        for reader in (slow, carol):
            reader.close()


@simulated
async def test_of_who_types_the_newest_wait_and_none_whose_time_is_over() -> None:
    async with Stage(1) as stage:
        reader = await stage.come("alice")
        await stage.types("early", -1)
        await asyncio.sleep(1)
        assert told(reader) == [("here", ["alice"])], "it is over that they typed"
        for number in range(MAX_TYPING + 5):
            await stage.types(f"u{number}")
        await stage.types("u7")
        await asyncio.sleep(1)
        typing = [sub for event, sub in told(reader) if event == "typing"]
        assert typing == [*(f"u{number}" for number in range(5, MAX_TYPING + 5) if number != 7), "u7"]
        reader.close()


@simulated
async def test_who_comes_late_is_not_told_who_typed_before() -> None:
    async with Stage(1) as stage:
        await stage.types("bob")
        reader = await stage.come("alice")
        await asyncio.sleep(1)
        assert told(reader) == [("here", ["alice"])]
        reader.close()


@simulated
async def test_what_is_closed_costs_nothing_more() -> None:
    async with Stage() as stage:
        for number in range(50):
            (await stage.come(f"u{number}")).close()
        await asyncio.sleep(60)
        before = (await stage.log.read(PEERS, 0, max_events=1)).head
        await asyncio.sleep(60)
        assert (await stage.log.read(PEERS, 0, max_events=1)).head - before <= 2 * 5, "only the processes' own beat"
        assert not [topic for topic in stage.hub._tails if topic != PEERS]
        assert not any(process.presence._topics for process in stage.processes)
