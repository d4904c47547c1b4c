"""Whatever comes between a reader's polls, it gets every event after its cursor, once and in order."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.log import hub as hub_module
from events.log import ring as ring_module
from events.log.hub import Hub, TopicReader
from events.log.port import Append, Block, Position
from tests.support.readers import SharedLog, settle

BOUNDS = {"RING_MAX_FRAMES": 12, "RING_MAX_BYTES": 100}
"""Bounds so small that readers fall off the ring all the time."""
WRITE_BYTES = 24


def plain(epoch: str, block: Block) -> list[bytes]:
    return [data[1:-1] for data in block.data]


def reversed_(epoch: str, block: Block) -> list[bytes]:
    return [data[-2:0:-1] for data in block.data]


ENCODERS = [plain, reversed_]


@dataclass
class ReaderRecord:
    """Holds one reader, and what it has output."""

    reader: TopicReader
    encoder: int
    after: int
    output: bytes = b""


@dataclass
class World:
    """Keeps a topic as a list of its events, beside the real one."""

    log: SharedLog = field(default_factory=SharedLog)
    events: list[bytes] = field(default_factory=list)
    epoch: str = ""
    readers: list[ReaderRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hub = Hub(self.log)

    def due(self, record: ReaderRecord) -> bytes:
        block = Block(first=0, data=self.events[record.after :], name="", time_ms=0)
        return b"".join(ENCODERS[record.encoder]("", block))

    async def append(self, sizes: list[int], where: str = "here", *, close: bool = False) -> None:
        data = [b'"%b"' % (b"%d" % (len(self.events) + n) * size)[:size] for n, size in enumerate(sizes)]
        if where == "here":
            self.epoch = (await self.log.append(Append(topic="t", data=data, close=close)))[0].epoch
        else:
            await self.log.write_elsewhere("t", *data, has_news=where == "elsewhere", close=close)
        self.events += data

    async def open(self, encoder: int, position: int) -> None:
        after = position % (len(self.events) + 1)
        reader = await self.hub.open("t", ENCODERS[encoder], Position(epoch=self.epoch, offset=after))
        self.readers.append(ReaderRecord(reader, encoder, after))

    async def poll(self, which: int) -> bool:
        """Takes one step of one reader; returns False when nothing was due."""
        one = self.readers[which % len(self.readers)]
        data = one.reader.poll()
        if data is None:
            await one.reader.catch_up()
        one.output += data or b""
        assert self.due(one).startswith(one.output)
        return data != b""


def steps(sizes: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[object, ...]]]:
    blocks = st.lists(sizes, min_size=1, max_size=6)
    number = st.integers(0, 50)
    return st.lists(
        st.one_of(
            st.tuples(st.just("append"), blocks, st.sampled_from(["here", "elsewhere", "elsewhere, told late"])),
            st.tuples(st.just("open"), st.integers(0, 1), number),
            st.tuples(st.just("poll"), number),
            st.tuples(st.just("turn")),
        ),
        max_size=40,
    )


async def live_through(todo: list[tuple[object, ...]]) -> None:
    """Takes all steps, then lets every reader read to the end of the closed topic."""
    world = World()
    await world.log.open()
    await world.append([1])
    await world.open(0, 0)
    for step in todo:
        match step:
            case ("append", list(sizes), str(where)):
                await world.append(sizes, where)
            case ("open", int(encoder), int(position)):
                await world.open(encoder, position)
            case ("poll", int(which)):
                await world.poll(which)
            case _:
                await settle()
    await settle()
    await world.append([3], close=True)
    for which, one in enumerate(world.readers):
        while await world.poll(which):
            pass
        assert one.output == world.due(one)
        assert one.reader.ended
    await world.log.close()


def live(todo: list[tuple[object, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, bound in BOUNDS.items():
            patch.setattr(ring_module, name, bound)
        patch.setattr(hub_module, "WRITE_BYTES", WRITE_BYTES)
        asyncio.run(live_through(todo))


@settings(max_examples=150, deadline=None)
@given(steps(st.sampled_from([1, 2, 5, 9, 30, 120])))
def test_every_reader_gets_every_event_once_and_in_order(todo: list[tuple[object, ...]]) -> None:
    live(todo)


@settings(max_examples=150, deadline=None)
@given(steps(st.sampled_from([0, 0, 1, 30])))
def test_events_that_are_hidden_change_nothing_of_that(todo: list[tuple[object, ...]]) -> None:
    live(todo)
