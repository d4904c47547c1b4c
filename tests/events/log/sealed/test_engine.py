"""A sealed log is a log like every other from this side, and tells nothing from the other side."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import msgspec
import pytest

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, Block, EventLog, Position
from events.log.sealed.engine import MAX_OWN, SealedLog
from events.log.sealed.sealing import Sealing
from events.log.sqlite.engine import SqliteLog
from gateway.encryption_settings import NO_ENCRYPTION, EncryptionKey
from gateway.errors import ConfigurationError, LogDamaged
from tests.contract.engines import CommitList, flat, keep_all, put, scenario, whole

OLD, NEW = EncryptionKey("old", os.urandom(32)), EncryptionKey("new", os.urandom(32))
PLAIN = EncryptionKey(NO_ENCRYPTION)
CANARY = b"canary-5f1c"


@contextlib.asynccontextmanager
async def opened(folder: Path, *keys: EncryptionKey) -> AsyncGenerator[EventLog]:
    """Yields the log in a folder as a process with these keys has it open; without keys, its storage."""
    storage = SqliteLog(folder / "log.db", keep_all)
    log = SealedLog(storage, keys) if keys else storage
    await log.open()
    try:
        yield log
    finally:
        await log.close()


def stored(folder: Path) -> bytes:
    """Returns every byte of the files in a folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


@scenario
async def test_no_file_of_the_storage_tells_what_was_appended(tmp_path: Path) -> None:
    async with opened(tmp_path, NEW) as log:
        await put(log, "chat/1", b'"%b"' % CANARY, expect=1, owner="alice", key="k")
        await log.append(Append(topic="chat/1", data=[b'"%b"' % CANARY]), Append(topic="b", data=[CANARY, CANARY]))
        assert CANARY not in stored(tmp_path)
        assert [line for _, _, line in await whole(log, "chat/1")] == [b'"%b"' % CANARY] * 2
    assert CANARY not in stored(tmp_path)


@scenario
async def test_what_another_process_wrote_is_heard_and_read(tmp_path: Path) -> None:
    async with opened(tmp_path, NEW) as here, opened(tmp_path, NEW) as there:
        hub = Hub(here)
        blocks = FollowedTopic(hub, "a")
        await put(there, "a", CANARY)
        await put(here, "a", b"2")
        await blocks.until(2)
        assert [line for block in blocks for line in block.data] == [CANARY, b"2"]
        await hub.close()


@scenario
async def test_the_listener_is_told_what_was_appended_and_not_what_is_stored(tmp_path: Path) -> None:
    async with opened(tmp_path, NEW) as log:
        commits = CommitList(log)
        await asyncio.gather(*[log.append(Append(topic="a", data=[b"%d" % n, CANARY])) for n in range(3)])
        blocks = [commit.block for commit in commits if commit.topic == "a" and commit.block is not None]
        assert [line for block in blocks for line in block.data] == [b"0", CANARY, b"1", CANARY, b"2", CANARY]


@scenario
async def test_more_events_than_are_remembered_are_opened(tmp_path: Path) -> None:
    async with opened(tmp_path, NEW) as log:
        commits = CommitList(log)
        events = [b"%d" % n for n in range(MAX_OWN)]
        await asyncio.gather(*[log.append(Append(topic="a", data=part)) for part in (events, events, events)])
        blocks = [commit.block for commit in commits if commit.topic == "a" and commit.block is not None]
        assert [line for block in blocks for line in block.data] == events * 3


@scenario
async def test_keys_are_added_and_taken_away_and_every_event_stays_readable(tmp_path: Path) -> None:
    lines: list[bytes] = []
    for number, keys in enumerate([[], [PLAIN, OLD], [OLD], [OLD, NEW], [NEW, OLD], [PLAIN, NEW, OLD]]):
        async with opened(tmp_path, *keys) as log:
            lines.append(b"%d" % number)
            await put(log, "a", lines[-1])
            if keys:
                assert [line for _, _, line in await whole(log, "a")] == lines
    async with opened(tmp_path) as storage:
        marks = [line[:5] for _, _, line in await whole(storage, "a")]
    assert marks == [b"0", b"1", b"~old.", b"~old.", b"~new.", b"5"]


def log_threads() -> list[str]:
    """Returns the names of the threads of logs that are open."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("log-")]


class FollowedTopic(list[Block]):
    """Follows a topic from its start."""

    def __init__(self, hub: Hub, topic: str, epoch: str = "") -> None:
        self._news = asyncio.Event()
        hub.watch(topic, Position(epoch, 0), self._hear)

    def _hear(self, block: Block) -> None:
        self.append(block)
        self._news.set()

    async def until(self, last: int) -> None:
        """Waits for the event of that offset."""
        async with asyncio.timeout(10):
            while not self or self[-1].last < last:
                self._news.clear()
                await self._news.wait()


async def spoil(folder: Path, offsets: Sequence[int]) -> None:
    """Makes events of topic `a` end in other characters than they were written with."""
    with contextlib.closing(sqlite3.connect(folder / "log.db")) as db, db:
        for offset in offsets:
            db.execute(
                "UPDATE blocks SET data = CAST(substr(data, 1, 20) || 'AAAA' AS BLOB) WHERE first = ?", (offset,)
            )


@scenario
async def test_an_event_that_was_changed_is_damage_and_the_others_are_read(tmp_path: Path) -> None:
    async with opened(tmp_path, NEW) as log:
        for n in range(1, 7):
            await put(log, "a", b"%d" % n, name=f"n{n}")
    await spoil(tmp_path, [3, 4])
    async with opened(tmp_path, NEW) as log:
        assert [at for at, _, _ in flat(await log.read("a", 0))] == [1, 2]
        with pytest.raises(LogDamaged):
            await log.read("a", 2)
        assert await log.next_readable("a", 2, 6) == 5
        assert await log.next_readable("a", 2, 3) == 4
        assert await log.next_readable("a", 0, 6) == 1
        assert [at for at, _, _ in flat(await log.read("a", 4))] == [5, 6]
        hub, losses = Hub(log), list[tuple[int, int]]()
        hub.on_damage = lambda topic, first, last: losses.append((first, last))
        blocks = FollowedTopic(hub, "a", (await log.read("a", 0)).epoch)
        hub.refresh("a")
        await blocks.until(6)
        assert losses == [(3, 4)]
        await hub.close()


@scenario
async def test_nothing_behind_an_event_that_cannot_be_opened_is_read_with_what_is_before_it(tmp_path: Path) -> None:
    first, _, third = Sealing([NEW]).seal("a", "n1", [b"1", b"2", b"3"], None)
    async with opened(tmp_path) as storage:
        await put(storage, "a", first, b"~new.AAAA", third, name="n1")
        await put(storage, "a", *Sealing([NEW]).seal("a", "n2", [b"4"], None), name="n2")
    async with opened(tmp_path, NEW) as log:
        assert flat(await log.read("a", 0)) == [(1, "n1", b"1")]
        assert flat(await log.read("a", 2)) == [(3, "n1", b"3"), (4, "n2", b"4")]


@scenario
async def test_a_block_that_holds_the_events_of_two_processes_is_heard_whole(tmp_path: Path) -> None:
    class JoiningLog(MemoryLog):
        """A log that joins what another process appends to the same block."""

        def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
            other = Sealing([NEW]).seal("a", "message", [b"2"], None)
            return super().append(msgspec.structs.replace(appends[0], data=[*appends[0].data, *other]))

    storage = JoiningLog()
    await storage.open()
    log = SealedLog(storage, [NEW])
    commits = CommitList(log)
    await put(log, "a", b"1")
    assert [commit.block and commit.block.data for commit in commits] == [[b"1", b"2"]]


@scenario
async def test_a_log_that_is_refused_is_closed_again(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD):
        pass
    before = log_threads()
    with pytest.raises(ConfigurationError):
        async with opened(tmp_path, NEW):
            pass
    assert log_threads() == before == []


@scenario
async def test_none_of_what_cannot_be_opened_reaches_a_reader(tmp_path: Path) -> None:
    async with opened(tmp_path, OLD, NEW) as log:
        await put(log, "a", CANARY)
    async with opened(tmp_path, NEW, OLD):
        pass  # from here on the old key may be taken away
    async with opened(tmp_path, NEW) as log:
        with pytest.raises(LogDamaged):
            await log.read("a", 0)
        assert await log.next_readable("a", 0, 1) == 2


@scenario
async def test_an_event_that_was_moved_to_another_topic_is_damage(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        await put(storage, "b", *Sealing([NEW]).seal("a", "message", [b"1"], None))
    async with opened(tmp_path, NEW) as log:
        with pytest.raises(LogDamaged):
            await log.read("b", 0)


@scenario
async def test_a_copy_is_sealed_where_it_is_and_has_the_same_offsets(tmp_path: Path) -> None:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
    async with opened(tmp_path / "there", OLD) as there, opened(tmp_path / "here", NEW) as here:
        await put(there, "a", b"1", CANARY, owner="me")
        await here.adopt("a", await there.read("a", 0))
        assert await whole(here, "a") == await whole(there, "a")
        assert (await here.read("a", 0)).epoch == (await there.read("a", 0)).epoch
    assert CANARY not in stored(tmp_path / "here")
