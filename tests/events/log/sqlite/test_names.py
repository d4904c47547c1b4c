"""The filter of names never denies a topic that exists, and spares SQLite a look for most that do not."""

import os
from pathlib import Path

import pytest

from events.log.sqlite import reader
from events.log.sqlite.engine import SqliteLog
from events.log.sqlite.names import NameFilter, open_filter
from tests.contract.engines import Engine, keep_all, put, scenario
from tests.support.raw_server import until


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine("sqlite", tmp_path)


def test_what_one_process_adds_another_has(tmp_path: Path) -> None:
    one, other = NameFilter(tmp_path / "log.db"), NameFilter(tmp_path / "log.db")
    other.is_complete = True
    assert not other.may_hold("a")
    one.add(["a", "ü", "x" * 1000])
    assert all(other.may_hold(name) for name in ("a", "ü", "x" * 1000))
    assert not other.may_hold("b")
    one.close()
    assert other.may_hold("a")
    assert not other.may_hold("b")
    other.close()
    assert other.may_hold("b"), "one that is closed knows nothing"
    assert os.listdir(tmp_path) == []


def test_few_names_that_were_not_added_pass(tmp_path: Path) -> None:
    names = NameFilter(tmp_path / "log.db")
    names.add(f"chat/me/{n}" for n in range(20_000))
    names.is_complete = True
    assert sum(names.may_hold(f"chat/you/{n}") for n in range(20_000)) < 20
    names.close()


@scenario
async def test_names_that_an_earlier_process_wrote_are_found(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PORTION", 3)
    async with engine.open() as log:
        for n in range(10):
            await put(log, f"t{n}")
    async with engine.open() as log:
        await until(lambda: _filter_of(log).is_complete)
        assert all(log.may_exist(f"t{n}") for n in range(10))
        assert not log.may_exist("t10")
        await put(log, "t10")
        assert log.may_exist("t10")


@scenario
async def test_a_log_of_very_many_topics_is_looked_into(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PORTION", 3)
    monkeypatch.setattr(reader, "MAX_PORTIONS", 2)
    async with engine.open() as log:
        for n in range(10):
            await put(log, f"t{n}")
    async with engine.open() as log:
        await log.read("t0", 0)
        assert [log.may_exist(f"t{n}") for n in (0, 9, 10)] == [True, True, False]
        assert not _filter_of(log).is_complete


@scenario
async def test_a_log_without_room_for_a_filter_works(tmp_path: Path) -> None:
    (tmp_path / "log.db-names").mkdir()
    assert open_filter(tmp_path / "log.db") is None
    log = SqliteLog(tmp_path / "log.db", keep_all)
    await log.open()
    await put(log, "a")
    assert (log.may_exist("a"), log.may_exist("b")) == (True, False)
    await log.close()


def _filter_of(log: object) -> NameFilter:
    names = log._reader._names  # type: ignore[attr-defined]  # no caller needs to know
    assert isinstance(names, NameFilter)
    return names
