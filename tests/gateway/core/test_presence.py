"""Several processes know from each other who follows a topic; here they share a hub, and time is virtual."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Slice
from events.log.topics import stored
from gateway.core.presence import ANSWER_S, BEAT_S, FRESH_S, MAX_LISTED, PEERS, SETTLE_S, Presence
from gateway.errors import LogDamaged
from tests.support.virtual_time import simulated


class Process:
    """A Process stands for one process, whose readers a test sets."""

    def __init__(self, log: MemoryLog, hub: Hub) -> None:
        self.readers: list[tuple[str, str]] = []
        self.presence = Presence(log, hub, lambda topic: [sub for name, sub in self.readers if name == topic])

    def come(self, topic: str, sub: str) -> None:
        self.readers.append((topic, sub))
        self.presence.stream_opened([topic])
        self.presence.readers_changed([topic])

    def go(self, topic: str, sub: str) -> None:
        self.readers.remove((topic, sub))
        self.presence.stream_closed([topic])
        self.presence.readers_changed([topic])

    async def die(self) -> None:
        """Ends as if killed: it sends nothing more."""
        self.presence._unwatch()
        assert self.presence._beats is not None
        self.presence._beats.cancel()
        if self.presence._report_timer is not None:
            self.presence._report_timer.cancel()
        await asyncio.sleep(0)


async def with_processes(count: int, work: Callable[[MemoryLog, list[Process]], Awaitable[None]]) -> None:
    log = MemoryLog()
    await log.open()
    hub = Hub(log)
    processes = [Process(log, hub) for _ in range(count)]
    for process in processes:
        await process.presence.open()
    await asyncio.sleep(1)
    await work(log, processes)
    for process in processes:
        await process.presence.close()
    await log.close()


async def presence_events(log: MemoryLog, topic: str) -> list[tuple[str, Any]]:
    """Returns (name, users) of each event of `presence/<topic>`."""
    part = await log.read(stored(f"presence/{topic}"), 0)
    events = [(block.name, json.loads(line)) for block in part.blocks for line in block.data]
    return [(name, data["here"] if name == "here" else data["sub"]) for name, data in events]


@simulated
async def test_readers_of_all_processes_are_counted() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        one.come("room", "alice")
        two.come("room", "bob")
        two.come("room", "bob")
        two.come("other", "bob")
        assert await one.presence.count("room") == 3
        assert await two.presence.count("other") == 1
        assert await one.presence.count("nothing") == 0
        two.go("room", "bob")
        await asyncio.sleep(2 * SETTLE_S)
        assert await one.presence.count("room") == 2

    await with_processes(2, work)


@simulated
async def test_a_process_alone_waits_for_nobody() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        before = asyncio.get_running_loop().time()
        assert await processes[0].presence.count("room") == 0
        assert asyncio.get_running_loop().time() - before < ANSWER_S / 2

    await with_processes(1, work)


@simulated
async def test_coming_and_going_is_published_once_however_many_processes_watch() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two, three = processes
        one.come("presence/room", "watcher")
        await asyncio.sleep(1)
        two.come("presence/room", "watcher")
        await asyncio.sleep(1)
        lists = len(await presence_events(log, "room"))
        assert [name for name, _ in await presence_events(log, "room")] == ["here"] * lists
        three.come("room", "alice")
        two.come("room", "alice")
        await asyncio.sleep(1)
        three.go("room", "alice")
        await asyncio.sleep(1)
        two.go("room", "alice")
        await asyncio.sleep(1)
        assert (await presence_events(log, "room"))[lists:] == [("join", "alice"), ("leave", "alice")]

    await with_processes(3, work)


@simulated
async def test_a_watcher_that_comes_gets_the_list_of_who_is_there() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        for number in range(3):
            two.come("room", f"user{number}")
        one.come("presence/room", "watcher")
        await asyncio.sleep(1)
        assert (await presence_events(log, "room"))[-1] == ("here", ["user0", "user1", "user2"])

    await with_processes(2, work)


@simulated
async def test_readers_of_a_process_that_was_killed_are_gone_within_a_minute() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        one.come("presence/room", "watcher")
        two.come("room", "alice")
        await asyncio.sleep(100)
        assert await one.presence.count("room") == 1
        await two.die()
        await asyncio.sleep(60)
        assert await one.presence.count("room") == 0
        assert (await presence_events(log, "room"))[-1] == ("leave", "alice")

    assert FRESH_S + BEAT_S <= 60
    await with_processes(2, work)


@simulated
async def test_another_goes_on_writing_when_the_one_that_wrote_is_killed() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        first, second = sorted(processes, key=lambda process: process.presence.name)
        first.come("presence/room", "watcher")
        second.come("presence/room", "watcher")
        await asyncio.sleep(1)
        await first.die()
        await asyncio.sleep(60)
        second.come("room", "alice")
        await asyncio.sleep(1)
        assert (await presence_events(log, "room"))[-1][0] in ("join", "here")
        assert "alice" in (await presence_events(log, "room"))[-1][1]

    await with_processes(2, work)


@simulated
async def test_a_process_that_leaves_takes_its_readers_along_at_once() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        two.come("room", "alice")
        assert await one.presence.count("room") == 1
        await two.presence.close()
        await asyncio.sleep(0.1)
        assert await one.presence.count("room") == 0

    await with_processes(2, work)


@simulated
async def test_a_topic_that_nobody_requests_is_forgotten() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        two.come("room", "alice")
        assert await one.presence.count("room") == 1
        await asyncio.sleep(FRESH_S + 2 * BEAT_S)
        assert not one.presence._topics
        assert not two.presence._topics
        before = (await log.read("peers", 0, max_events=10_000)).head
        two.go("room", "alice")
        await asyncio.sleep(1)
        assert (await log.read("peers", 0, max_events=10_000)).head <= before + 2

    await with_processes(2, work)


@simulated
async def test_a_crowd_is_listed_up_to_a_bound() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one = processes[0]
        for number in range(MAX_LISTED + 5):
            one.come("room", f"user{number}")
        one.come("presence/room", "watcher")
        await asyncio.sleep(1)
        part = await log.read(stored("presence/room"), 0)
        data = json.loads(part.blocks[-1].data[-1])
        assert (len(data["here"]), data["more"]) == (MAX_LISTED, 5)

    await with_processes(1, work)


class DamagedPeers(MemoryLog):
    """A log in which nothing of the processes' own topic can be read."""

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144) -> Slice:
        if topic == PEERS:
            raise LogDamaged("a part of the log cannot be read")
        return await super().read(topic, after, max_events=max_events, max_bytes=max_bytes)


@simulated
async def test_a_process_whose_peers_cannot_be_read_starts_and_counts_its_own_readers() -> None:
    log = DamagedPeers()
    await log.open()
    process = Process(log, Hub(log))
    await process.presence.open()
    process.come("t", "ann")
    process.come("t", "bob")
    assert await process.presence.count("t") == 2
    await process.presence.close()
    await log.close()


@simulated
async def test_a_message_that_cannot_be_read_is_passed_over() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        for data in (b"{", b'{"by":"x","kind":"unheard"}', b"\xff\xfe", b"[]"):
            await log.append(Append(topic=PEERS, name="word", data=[data]))
        processes[1].come("t", "ann")
        assert await processes[0].presence.count("t") == 1

    await with_processes(2, work)


@simulated
async def test_who_watches_is_told_of_changes_alone_and_of_every_process() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two, three = processes
        seen: list[frozenset[str] | None] = []
        end = one.presence.watch("room", lambda: seen.append(one.presence.watched("room")))
        assert one.presence.watched("room") is None
        two.come("room", "bob")
        await asyncio.sleep(1)
        three.come("room", "carol")
        two.come("room", "bob")
        await asyncio.sleep(5 * BEAT_S)
        assert seen[-1] == {"bob", "carol"}
        assert len(seen) == 2, "the same again is no change"
        await three.die()
        await asyncio.sleep(FRESH_S + 2 * BEAT_S)
        assert seen[-1] == {"bob"}
        end()
        two.go("room", "bob")
        await asyncio.sleep(1)
        assert len(seen) == 3

    await with_processes(3, work)


@simulated
async def test_many_topics_are_repeated_in_few_appends() -> None:
    async def work(log: MemoryLog, processes: list[Process]) -> None:
        one, two = processes
        for number in range(1200):
            one.presence.watch(f"room{number}", lambda: None)
            two.readers.append((f"room{number}", "bob"))
        await asyncio.sleep(1)
        assert one.presence.watched("room1199") == {"bob"}
        counts: list[int] = []
        append = log.append
        log.append = lambda *appends, **more: counts.append(len(appends)) or append(*appends, **more)  # type: ignore[method-assign]
        await asyncio.sleep(BEAT_S + 1)
        assert sum(counts) <= 2 * (3 + 3 + 1), counts
        del log.append  # type: ignore[method-assign]
        assert one.presence.watched("room1199") == {"bob"}

    await with_processes(2, work)
