"""What was deleted is gone from the file, not only from the log, while others go on writing to it."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from events.log.port import EventLog
from events.log.sqlite import scrub as scrubbing
from events.log.sqlite.engine import SqliteLog
from events.log.sqlite.scrub import PORTION, WAL_IS_READ, scrub
from tests.contract.engines import keep_all, put, scenario, whole

CANARY = b"canary-8d20"


def stored(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def fill(log: EventLog) -> None:
    """Leaves small events and large ones of a user's, which fill pages of their own."""
    for n in range(30):
        await put(log, f"chat/{n}", CANARY * 3, CANARY * 2000, owner="alice", key=CANARY.decode())
    await put(log, "event/a", CANARY[::-1] * 500)


@pytest.mark.parametrize("portion", [3, PORTION])
def test_deleted_events_are_in_no_file_afterwards(
    portion: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small portions leave more pages of zeros that are not full, and what was there before at their end."""
    monkeypatch.setattr(scrubbing, "PORTION", portion)
    monkeypatch.setattr(scrubbing, "PAUSE_S", 0.0001)
    check_that_nothing_is_left(tmp_path)


@scenario
async def check_that_nothing_is_left(tmp_path: Path) -> None:
    here, there = (SqliteLog(tmp_path / "log.db", keep_all) for _ in range(2))
    await here.open()
    await there.open()
    await fill(here)
    for n in range(30):
        await there.delete(f"chat/{n}")
    assert CANARY in stored(tmp_path), "a deletion alone leaves it there"
    writing = asyncio.ensure_future(keep_writing(here))
    assert await there.scrub() == ""
    assert CANARY not in stored(tmp_path)
    writing.cancel()
    assert await whole(here, "event/a") == [(1, "message", CANARY[::-1] * 500)]
    await put(here, "chat/1", b"new")
    assert await whole(there, "chat/1") == [(1, "message", b"new")]
    assert here.failure is None
    await here.close()
    await there.close()


async def keep_writing(log: EventLog) -> None:
    while True:
        await put(log, "event/b", b"x" * 3000)
        await asyncio.sleep(0.001)


@scenario
async def test_a_scrub_that_was_broken_off_is_finished_by_the_next(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db", keep_all)
    await log.open()
    await fill(log)
    for n in range(30):
        await log.delete(f"chat/{n}")
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db, db:
        db.execute("CREATE TABLE scrub (data BLOB)")
        db.execute("INSERT INTO scrub VALUES (zeroblob(?))", (PORTION * 1024,))
    assert await log.scrub() == ""
    assert CANARY not in stored(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'scrub'").fetchone() == (0,)
    await log.close()


@scenario
async def test_a_reader_that_holds_the_wal_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "WAL_S", 0.05)
    log = SqliteLog(tmp_path / "log.db", keep_all)
    await log.open()
    await put(log, "a", b"1")
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM topics").fetchone()
        await put(log, "a", b"2")
        assert await asyncio.to_thread(scrub, tmp_path / "log.db") == WAL_IS_READ
        db.execute("COMMIT")
    assert await asyncio.to_thread(scrub, tmp_path / "log.db") == ""
    await log.close()
