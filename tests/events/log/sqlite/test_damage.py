"""A damaged page costs what was on it: other topics are not hurt, and what is lost can be told by its offsets."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Block, EventLog, Position, Retention
from events.log.sqlite.damage import UNKNOWN_EVENTS
from events.log.sqlite.engine import SqliteLog
from events.log.sqlite.file import prepare
from gateway.errors import ConfigurationError, LogDamaged, LogUnavailable
from tests.contract.engines import Engine, flat, keep_all, put, scenario, whole
from tests.support.damage import damage_root, damage_where

EVENTS = 30
PAD = "x" * 300


def event(topic: str, number: int) -> bytes:
    return b'"%b %d %b"' % (topic.encode(), number, PAD.encode())


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine("sqlite", tmp_path)


async def fill(engine: Engine) -> None:
    """Writes three topics, one after the other, so that they share few pages; `end` keeps the last page whole."""
    async with engine.open() as log:
        for topic in ("a", "b", "c"):
            for number in range(1, EVENTS + 1):
                await put(log, topic, event(topic, number), owner="u")
        for number in range(1, 12):
            await put(log, "end", event("end", number))


async def lost_of(log: EventLog, topic: str) -> set[int]:
    """Returns the offsets that a reader cannot have, as one reads who steps over them."""
    offset, lost = 0, set[int]()
    head = (await log.read(topic, NO_EVENTS)).head
    while offset < head:
        try:
            part = await log.read(topic, offset)
            offset = part.blocks[-1].last
        except LogDamaged:
            after = await log.next_readable(topic, offset, head)
            assert after > offset + 1
            lost |= set(range(offset + 1, after))
            offset = after - 1
    return lost


# Table of what a damaged block means, by where in its topic it is


@pytest.mark.parametrize("number", [1, 2, 15, EVENTS - 1, EVENTS], ids=str)
@scenario
async def test_a_damaged_block_costs_its_page_and_no_other_topic(engine: Engine, number: int) -> None:
    await fill(engine)
    damage_where(engine.path, event("b", number)[:10])
    async with engine.open() as log:
        lost = await lost_of(log, "b")
        assert number in lost
        assert len([offset for offset in lost if offset <= EVENTS]) < 10
        for topic in ("a", "c", "end"):
            assert len([offset for offset in await lost_of(log, topic) if offset <= EVENTS]) < 6, topic
        assert {info.topic for info in await log.topics("")} >= {"a", "b", "c", "end"}
        state = await log.read("b", NO_EVENTS)
        [result] = await log.append(Append(topic="b", data=[b'"new"'], owner="u", expect=state.head + 1))
        assert result.first == state.head + 1
        assert flat(await log.read("b", state.head)) == [(state.head + 1, "message", b'"new"')]
        if EVENTS in lost:
            assert state.head == max(lost)
            assert state.head <= EVENTS - 1 + UNKNOWN_EVENTS


@scenario
async def test_a_topic_whose_end_is_damaged_can_be_read_before_it_listed_and_deleted(engine: Engine) -> None:
    await fill(engine)
    damage_where(engine.path, event("b", EVENTS)[:10])
    async with engine.open(lambda topic: Retention(events=5)) as log:
        part = await log.read("b", 0)
        assert (part.owner, part.oldest, part.closed) == ("u", 1, False)
        assert part.blocks
        assert [info.topic for info in await log.topics("b", owner="u", open_only=True)] == ["b"]
        assert await log.topics("b", owner="v") == []
        await log.sweep()  # ends, although the topic cannot be trimmed
        assert (await log.read("a", NO_EVENTS)).oldest == EVENTS - 4
        assert await log.delete("b")
        assert (await log.read("b", 0)).epoch == ""
        assert (await put(log, "b", b"1")).first == 1


@scenario
async def test_appends_that_are_committed_together_with_damage_go_in(engine: Engine) -> None:
    await fill(engine)
    damage_root(engine.path, "keys")
    async with engine.open() as log:
        keyed = log.append(Append(topic="a", data=[b"1"], key="k"))
        others = [log.append(Append(topic=topic, data=[b"1"])) for topic in ("a", "b", "new")]
        with pytest.raises(LogDamaged):
            await keyed
        assert [(await other)[0].first for other in others] == [EVENTS + 1, EVENTS + 1, 1]
        await log.sweep()  # ends, although no old key can be dropped


@pytest.mark.parametrize(
    "name", ["topics", "blocks", "blocks_by_topic", "sqlite_autoindex_topics_1", "sqlite_sequence"]
)
def test_a_file_of_which_nothing_can_be_read_is_named_at_start(tmp_path: Path, name: str) -> None:
    path = tmp_path / "log.db"
    prepare(path)
    damage_root(path, name)
    with pytest.raises(ConfigurationError, match=r"the file is damaged; restore a copy"):
        prepare(path)


def test_a_file_that_another_process_holds_is_named_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    prepare(path)
    monkeypatch.setattr("events.log.sqlite.file.BUSY_S", 0.05)
    monkeypatch.setattr("events.log.sqlite.file.connect.__kwdefaults__", {"busy_s": 0.05, "cache_kib": 100})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConfigurationError, match=r"another process holds it; end that one"):
        prepare(path)
    other.close()


def copy_with_cut_wal(path: Path, copy: Path, share: float) -> None:
    """Copies a log that is open, with the beginning of its WAL."""
    wal = Path(f"{path}-wal").read_bytes()
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(wal[: int(len(wal) * share)])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9], ids=str)
@scenario
async def test_a_wal_that_was_cut_costs_its_end(engine: Engine, tmp_path: Path, share: float) -> None:
    copy = tmp_path / "copy.db"
    async with engine.open() as log:
        for number in range(1, EVENTS + 1):
            await put(log, "a", event("a", number))
        copy_with_cut_wal(engine.path, copy, share)
    restored = SqliteLog(copy, keep_all)
    await restored.open()
    events = await whole(restored, "a")
    assert events == [(number, "message", event("a", number)) for number in range(1, len(events) + 1)]
    assert (await put(restored, "a", b"1")).first == len(events) + 1
    await restored.close()


@pytest.mark.parametrize("size", [0, 1000, 4096], ids=str)
@scenario
async def test_a_file_that_was_cut_off_takes_nothing_more(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("events.log.sqlite.store.CHECK_S", 0)
    async with engine.open() as log:
        await put(log, "a", b"1")
    async with engine.open() as log:
        await put(log, "a", b"1")
        content = engine.path.read_bytes()
        with engine.path.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(LogUnavailable, match="cut off"):
            await put(log, "a", b"2")
        engine.path.write_bytes(content)
        with pytest.raises(LogUnavailable, match="cut off"):  # nobody knows what is in it now
            await put(log, "a", b"2")


# The hub, when another process writes what cannot be read


class Damaged(SqliteLog):
    """A log of which some offsets cannot be read."""

    bad = frozenset[int]()

    async def read(self, topic: str, after: int, *, max_events: int = 1000, max_bytes: int = 262_144):  # type: ignore[no-untyped-def]
        if after + 1 in self.bad:
            raise LogDamaged("a part of the log cannot be read")
        bad = [offset - after - 1 for offset in self.bad if offset > after]
        return await super().read(topic, after, max_events=min([max_events, *bad]), max_bytes=max_bytes)

    async def next_readable(self, topic: str, after: int, upto: int) -> int:
        return next((offset for offset in range(after + 1, upto + 1) if offset not in self.bad), upto + 1)


@scenario
async def test_a_hub_steps_over_what_another_process_wrote_and_nobody_can_read(engine: Engine) -> None:
    log = Damaged(engine.path, keep_all)
    await log.open()
    await put(log, "a", b"0")
    hub, taken, damage = Hub(log), list[Block](), asyncio.Queue[tuple[str, int, int]]()
    hub.on_damage = lambda *where: damage.put_nowait(where)
    position = Position((await log.read("a", NO_EVENTS)).epoch, 1)
    hub.watch("a", position, taken.append)
    log.bad = frozenset({2, 3, 6})
    async with engine.open() as other:
        for number in range(2, 7):
            await put(other, "a", b"%d" % number)
    assert [await damage.get(), await damage.get()] == [("a", 2, 3), ("a", 6, 6)]
    assert [line for block in taken for line in block.data] == [b"4", b"5"]
    await hub.close()
    await log.close()
