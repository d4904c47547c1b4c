"""The log survives what can go wrong with an SQLite file, or says what is wrong."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from events.log.port import Append, Retention
from events.log.sqlite import checkpoint, store, writer
from events.log.sqlite.engine import SqliteLog
from events.log.sqlite.file import VERSION
from gateway.errors import ConfigurationError, LogUnavailable
from tests.contract.engines import Engine, keep_all, put, scenario, whole


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine("sqlite", tmp_path)


@scenario
async def test_a_new_file_and_its_folder_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.db"
    log = SqliteLog(path, keep_all)
    await log.open()
    await put(log, "a", b"1")
    for name in ("log.db", "log.db-wal"):
        assert stat.S_IMODE((path.parent / name).stat().st_mode) == 0o600
    await log.close()
    assert os.listdir(path.parent) == ["log.db"]


@scenario
async def test_close_ends_all_threads(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1")
        await log.read("a", 0)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("log-")]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("log-")]


@scenario
async def test_a_place_that_cannot_be_used_is_named_when_the_log_opens(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("this is not a database, and long enough to be taken for one by a hasty reader" * 20)
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    places = [tmp_path, text, foreign, text / "below.db", Path("/proc/log.db"), Path("/dev/null/log.db")]
    for place in places:
        with pytest.raises(ConfigurationError) as error:
            await SqliteLog(place, keep_all).open()
        assert str(place) in error.value.detail
        assert "name " in error.value.detail
    assert text.read_text().startswith("this is not")


@scenario
async def test_a_file_of_a_newer_release_is_refused(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1")
    db = sqlite3.connect(engine.path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match=f"has format 99, and this release knows formats up to {VERSION}"):
        await engine.make().open()


@scenario
async def test_many_may_open_a_new_file_at_once(engine: Engine) -> None:
    logs = [engine.make() for _ in range(6)]
    await asyncio.gather(*(log.open() for log in logs))
    await asyncio.gather(*(put(log, "a", b"x") for log in logs))
    assert len(await whole(logs[0], "a")) == 6
    await asyncio.gather(*(log.close() for log in logs))


@scenario
async def test_a_write_lock_that_is_held_too_long_fails_the_group_and_no_more(engine: Engine) -> None:
    async with engine.open(busy_s=0.05) as log:
        await put(log, "a", b"1")
        other = sqlite3.connect(engine.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        calls = [log.append(Append(topic=topic, data=[b"x"])) for topic in ("a", "new")]
        results = await asyncio.gather(*calls, log.delete("a"), return_exceptions=True)
        assert [type(one) for one in results] == [LogUnavailable] * 3
        assert (await log.read("a", 0)).head == 1
        other.execute("ROLLBACK")
        other.close()
        assert (await put(log, "a", b"2")).first == 2
        assert (await put(log, "new", b"1")).first == 1


@scenario
async def test_a_file_that_was_deleted_takes_nothing_more(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "UPKEEP_S", 0.02)
    async with engine.open() as log:
        await put(log, "a", b"1")
        engine.path.unlink()
        await asyncio.sleep(0.2)
        with pytest.raises(LogUnavailable, match=r"log\.db"):
            await put(log, "a", b"2")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@scenario
async def test_nobody_waits_for_a_writer_that_has_ended(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("a mistake of ours")

    async with engine.open() as log:
        monkeypatch.setattr(store.Store, "write", fail)
        calls = [log.append(Append(topic="a", data=[b"x"]), patient=True) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in results] == [LogUnavailable] * 3
        monkeypatch.undo()
        with pytest.raises(LogUnavailable):
            await put(log, "a", b"x")


@scenario
async def test_topics_that_are_no_longer_remembered_are_read_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_TOPICS", 3)
    async with engine.open() as log:
        for n in range(5):
            for topic in "abcdefgh":
                assert (await put(log, topic, b"x", expect=n + 1)).first == n + 1


@scenario
async def test_a_hot_topic_is_trimmed_without_being_asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "UPKEEP_S", 0.01)
    monkeypatch.setattr("events.log.sqlite.retention.PASS_S", 0.01)
    async with engine.open(lambda _: Retention(events=100)) as log:
        for _ in range(400):
            await put(log, "a", b"x")
        async with asyncio.timeout(5):
            while (await log.read("a", 0)).oldest < 250:
                await put(log, "a", b"x")
                await asyncio.sleep(0.005)
        assert (await log.read("a", 0)).head - (await log.read("a", 0)).oldest >= 99


@scenario
async def test_the_wal_begins_anew_under_writers_that_never_pause(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each beginning has salts of its own (bytes 16 to 24 of the file). Without one the file would grow for ever."""
    monkeypatch.setattr(checkpoint, "PASSIVE_BYTES", 50_000)
    monkeypatch.setattr(checkpoint, "MAX_WAL_BYTES", 300_000)
    salts = set[bytes]()
    async with engine.open() as log:

        async def write(topic: str) -> None:
            while len(salts) < 4:
                await put(log, topic, b"x" * 100)

        async def look() -> None:
            while len(salts) < 4:
                with engine.path.with_name("log.db-wal").open("rb") as wal:
                    salts.add(wal.read(24)[16:])
                await asyncio.sleep(0.001)

        async with asyncio.timeout(60):
            await asyncio.gather(look(), *(write(f"t{n}") for n in range(5)))


FULL = """
import asyncio, resource, sys
from events.log.port import Append, Retention
from events.log.sqlite.engine import SqliteLog
from events.log.sqlite.file import VERSION
from gateway.errors import LogUnavailable

async def main(path):
    log = SqliteLog(path, lambda topic: Retention())
    await log.open()
    told = 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    refused = 0
    for n in range(300):
        try:
            await log.append(Append(topic="a", data=[b"x" * 3000]), Append(topic="b%d" % (n % 3), data=[b"y"]))
        except LogUnavailable:
            refused += 1
        else:
            told += 1
    assert refused > 10 and told > 10, (refused, told)
    found = await log.read("a", 0)
    assert found.head == told, (found.head, told)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for n in range(20):
        (done, _) = await log.append(Append(topic="a", data=[b"x"]), Append(topic="c", data=[b"y"], key="k%d" % n))
        told += 1
        assert done.last == told, (done, told)
    heads = [(await log.read("b%d" % n, 0)).head for n in range(3)]
    assert sum(heads) == told - 20, heads
    await log.close()

asyncio.run(main(sys.argv[1]))
"""


def test_a_full_disk_fails_appends_and_when_there_is_room_again_they_go_on(
    engine: Engine, python_path: dict[str, str]
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", FULL, str(engine.path)], env=python_path, capture_output=True, text=True, timeout=60
    )
    assert process.returncode == 0, process.stderr
