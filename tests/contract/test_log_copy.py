"""A log takes over what another holds as it is, so that every cursor is as good there as it was."""

from pathlib import Path

import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, EventLog, Retention, Slice, read_to_head
from gateway.commands.copy import copy
from gateway.errors import LogConflict
from gateway.settings import Settings
from tests.contract.engines import Engine, flat, opened, put, scenario


async def copied(source: EventLog, topic: str, target: EventLog) -> list[Slice]:
    """Copies a topic, and returns what both hold of it then."""
    async for part in read_to_head(source, topic):
        await target.adopt(topic, part)
    return [await log.read(topic, 0, max_events=10_000, max_bytes=1 << 30) for log in (source, target)]


def facts(part: Slice) -> tuple[object, ...]:
    times = [(block.first + n, block.time_ms) for block in part.blocks for n in range(len(block.data))]
    return part.epoch, part.owner, part.oldest, part.head, part.closed, flat(part), times


async def source_log(retention: Retention | None = None) -> MemoryLog:
    log = MemoryLog(lambda topic: retention or Retention(), clock=iter(range(1_700_000_000, 1_800_000_000)).__next__)
    await log.open()
    return log


@scenario
async def test_a_copy_is_the_topic_itself(engine: Engine) -> None:
    source = await source_log()
    await put(source, "a", b"1", b"2", owner="me")
    await put(source, "a", b"x" * 300_000, name="big")
    await put(source, "a", *(b"%d" % n for n in range(3000)), close=True)
    await put(source, "empty", owner="you")
    await put(source, "empty closed", close=True)
    await put(source, "open", b'"\xc3\xa9"', b"")
    async with engine.open() as target:
        for topic in ("a", "empty", "empty closed", "open"):
            one, other = await copied(source, topic, target)
            assert facts(one) == facts(other), topic
        assert (await put(target, "open", b"3", expect=3)).epoch == (await source.read("open", 0)).epoch
        with pytest.raises(LogConflict) as error:
            await put(target, "a", b"no")
        assert error.value.closed
    async with engine.open() as target:
        if engine.is_shared:
            assert facts((await copied(source, "a", target))[1]) == facts((await copied(source, "a", target))[0])
    await source.close()


@scenario
async def test_a_copy_goes_on_where_it_broke_off(engine: Engine) -> None:
    source = await source_log()
    for n in range(20):
        await put(source, "a", b"%d" % n, b"+", name="even" if n % 2 else "odd")
    async with engine.open() as target:
        for upto in (1, 4, 4, 9, 40):
            await target.adopt("a", await source.read("a", 0, max_events=upto))
        await target.adopt("a", await source.read("a", 3))
        one, other = await copied(source, "a", target)
        assert facts(one) == facts(other)
        await put(source, "a", b"later", close=True)
        one, other = await copied(source, "a", target)
        assert facts(one) == facts(other)
    await source.close()


@scenario
async def test_what_the_source_has_forgotten_is_not_there_either(engine: Engine) -> None:
    source = await source_log(Retention(events=3))
    for n in range(10):
        await put(source, "a", b"%d" % n)
    async with engine.open() as target:
        one, other = await copied(source, "a", target)
        assert facts(one) == facts(other)
        assert (other.oldest, other.head) == (8, 10)
        assert (await put(target, "a", b"next")).first == 11
    await source.close()


@scenario
async def test_another_topic_of_the_name_is_left_alone(engine: Engine) -> None:
    source = await source_log()
    await put(source, "a", b"theirs")
    async with engine.open() as target:
        await put(target, "a", b"ours")
        with pytest.raises(LogConflict):
            await copied(source, "a", target)
        assert flat(await target.read("a", 0)) == [(1, "message", b"ours")]
    await source.close()


@scenario
async def test_a_part_that_leaves_a_hole_is_refused(engine: Engine) -> None:
    source = await source_log()
    for n in range(6):
        await put(source, "a", b"%d" % n)
    async with engine.open() as target:
        await target.adopt("a", await source.read("a", 0, max_events=2))
        with pytest.raises(LogConflict):
            await target.adopt("a", await source.read("a", 3))
        assert (await target.read("a", 0)).head == 2
    await source.close()


@scenario
async def test_names_come_in_order_and_page_by_page(engine: Engine) -> None:
    wanted = sorted(["b", "a", "a/1", "z" * 100, "run/ü", "run/z", "A"])
    async with engine.open() as log:
        await log.append(*(Append(topic=name, data=[b"1"]) for name in wanted))
        names: list[str] = []
        while page := await log.names(names[-1] if names else "", 3):
            assert len(page) <= 3
            names += page
        assert names == wanted


@scenario
async def test_a_log_comes_back_from_another_engine_as_it_was(shared_engine: Engine, tmp_path: Path) -> None:
    source, back = f"sqlite:///{tmp_path / 'source.db'}", f"sqlite:///{tmp_path / 'back.db'}"
    async with opened(source) as log:
        await log.append(*[Append(topic=f"run/{n}", data=[b"1"], owner="me", close=n % 2 == 0) for n in range(300)])
        await put(log, "chat/ü", *[b"%d" % n for n in range(3000)], owner="me")
        await put(log, "event/empty")
    assert await copy(Settings(), source, shared_engine.url) == 0
    assert await copy(Settings(), shared_engine.url, back) == 0
    async with opened(source) as log, opened(back) as other:
        names = await log.names("", 1000)
        assert (len(names), await other.names("", 1000)) == (302, names)
        for name in names:
            read = [await one.read(name, 0, max_events=5000, max_bytes=1 << 30) for one in (log, other)]
            assert facts(read[0])[:-1] == facts(read[1])[:-1], name
