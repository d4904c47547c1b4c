"""`trilane copy` moves a log to another engine with all that its readers and writers rely on."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from events.log.port import Append, EventLog, Retention, read_to_head
from events.log.sqlite.engine import SqliteLog
from gateway.cli import main
from tests.contract.engines import flat, put


def log_at(path: Path) -> SqliteLog:
    return SqliteLog(path, lambda topic: Retention())


def on(path: Path, work: Callable[[EventLog], Awaitable[None]]) -> None:
    async def run() -> None:
        log = log_at(path)
        await log.open()
        await work(log)
        await log.close()

    asyncio.run(run())


def copy(source: Path, target: Path) -> Result:
    return CliRunner().invoke(main, ["copy", f"sqlite:///{source}", f"sqlite:///{target}"])


def contents(path: Path) -> dict[str, object]:
    """Returns all that a log holds, by topic."""
    topics: dict[str, object] = {}

    async def read(log: EventLog) -> None:
        for name in await log.names("", 10_000):
            parts = [part async for part in read_to_head(log, name)]
            events = [event for part in parts for event in flat(part)]
            last = parts[-1]
            topics[name] = (last.epoch, last.owner, last.oldest, last.head, last.closed, events)

    on(path, read)
    return topics


async def fill(log: EventLog) -> None:
    await log.append(*[Append(topic=f"run/{n}", data=[b"1", b"2"], owner="me", close=n % 2 == 0) for n in range(2500)])
    await put(log, "chat/1", *[b"%d" % n for n in range(3000)], owner="me")
    await put(log, "event/user/me", b"x" * 300_000, b"y", name="notice")


def test_everything_is_there_afterwards(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"
    on(source, fill)
    result = copy(source, target)
    assert result.exit_code == 0, result.output
    assert "Copied 2,502 topics, 8,002 events." in result.output
    assert "1,252 topics are open" in result.output
    assert contents(source) == contents(target)


def test_a_second_copy_brings_what_was_added(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"

    async def begin(log: EventLog) -> None:
        await put(log, "chat/1", b"1")
        await put(log, "chat/2", b"1", close=True)
        await put(log, "chat/3")

    async def go_on(log: EventLog) -> None:
        await put(log, "chat/1", b"2", close=True)
        await put(log, "chat/3", b"1")
        await put(log, "chat/4", b"1")

    on(source, begin)
    assert copy(source, target).exit_code == 0
    on(source, go_on)
    result = copy(source, target)
    assert "Copied 4 topics, 3 events." in result.output
    assert "2 topics are open" in result.output
    assert contents(source) == contents(target)
    assert "Copied 4 topics, 0 events." in copy(source, target).output


def test_a_topic_of_the_targets_own_is_named_and_left_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "a.db", tmp_path / "b.db"

    async def theirs(log: EventLog) -> None:
        for name in ("log/format", "health/check", "event/a", "event/b"):
            await put(log, name, b"theirs")

    async def ours(log: EventLog) -> None:
        for name in ("log/format", "health/check", "event/a"):
            await put(log, name, b"ours")

    on(source, theirs)
    on(target, ours)
    before = contents(target)
    result = copy(source, target)
    assert (result.exit_code, "event/a. Copy into an empty log" in result.output) == (1, True), result.output
    after = contents(target)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"event/b"}


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", "name two logs"),
        ("memory:", "sqlite:///a.db", "memory: ends with its process"),
        ("sqlite:///a.db", "memory:", "memory: ends with its process"),
        ("sqlite:///a.db", "ftp://x", "ftp://x"),
        ("sqlite:////proc/none.db", "sqlite:///b.db", "there is no log at"),
        ("sqlite:///a.db", "sqlite:////proc/none.db", "cannot be used"),
    ],
)
def test_what_cannot_be_copied_is_one_sentence(
    source: str, target: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.db").touch()
    result = CliRunner().invoke(main, ["copy", source, target])
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output
