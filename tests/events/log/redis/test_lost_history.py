"""A history that went back is told as a new epoch: after a failover that lost a tail, an old copy, a FLUSHALL."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.log.hub import Hub
from events.log.port import Position
from events.log.redis import news
from events.log.redis.engine import RedisLog
from events.log.redis.heads import TopicHead
from gateway.errors import Gone
from tests.contract.engines import CommitList, Engine, keep_all, put, scenario, whole
from tests.support.redis_servers import RedisServer, Replicated, wait_until

QUICK_S = 0.05


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "IDLE_S", QUICK_S)


@scenario
async def test_a_flushed_server_is_noticed_though_no_connection_was_lost(
    server: RedisServer, engine: Engine, quick_looks: None
) -> None:
    async with engine.open() as log:
        hub = Hub(log)
        first = await put(log, "a", b"1", b"2")
        reader = await hub.open("a", lambda epoch, block: block.data, None)
        assert await reader.next() == b"12"
        server.say("FLUSHALL")
        async with asyncio.timeout(10):
            while not reader.ended:
                await reader.next()
        reader.close()
        with pytest.raises(Gone):
            await hub.open("a", lambda epoch, block: block.data, Position(first.epoch, 2))
        again = await put(log, "a", b"1")
        assert (again.first, again.epoch != first.epoch) == (1, True)
        await hub.close()


@scenario
async def test_a_restored_copy_gives_topics_that_went_back_a_new_epoch(server: RedisServer, engine: Engine) -> None:
    async with engine.open() as log, engine.open() as other:
        commits = CommitList(other)
        other.interest = {"back", "same"}
        back = await put(log, "back", b"1", b"2")
        same = await put(log, "same", b"1", key="k")
        server.kill()
        copy = server.folder.with_name("copy")
        shutil.copytree(server.folder, copy)
        server.start()
        assert (await put(log, "back", b"3")).epoch == back.epoch
        await commits.until(lambda: len(commits) > 2)
        server.kill()
        shutil.rmtree(server.folder)
        shutil.copytree(copy, server.folder)
        commits.clear()
        server.start()
        await commits.until(lambda: commits)
        again = await put(log, "back", b"3", expect=3)
        assert again.epoch != back.epoch
        assert {(commit.topic, commit.epoch) for commit in commits} == {("back", again.epoch)}
        assert [line for _, _, line in await whole(other, "back")] == [b"1", b"2", b"3"]
        assert (await put(log, "same", b"1", key="k")).duplicate
        assert (await put(log, "same", b"2")).epoch == same.epoch


REPLACED = {
    "the block of another time": (3, 1, -1, True),
    "a block of another size": (3, 2, 0, True),
    "an offset that is not there": (4, 1, 0, True),
    "the same block": (3, 1, 0, False),
    "an earlier block": (2, 2, 0, False),
    "an offset alone": (2, 0, 0, False),
}


@pytest.mark.parametrize(("last", "count", "shift_ms", "is_lost"), REPLACED.values(), ids=REPLACED)
@scenario
async def test_events_in_the_place_of_acknowledged_ones_are_noticed(
    engine: Engine, last: int, count: int, shift_ms: int, is_lost: bool
) -> None:
    async with engine.open() as log:
        assert isinstance(log, RedisLog)
        first = await put(log, "a", b"1", b"2")
        await put(log, "a", b"3")
        log._heads.note("a", TopicHead(first.epoch, last, False, count, int(engine.clock.now_s * 1000) + shift_ms))
        await log._heads.compare(log._pool.run)
        part = await log.read("a", 0)
        assert (part.epoch != first.epoch) == is_lost
        assert part.head == 3
        assert await log._heads.compare(log._pool.run) == []


def epochs_of(commits: CommitList, topic: str) -> set[str]:
    return {commit.epoch for commit in commits if commit.topic == topic}


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Replicated]:
    servers = Replicated(tmp_path)
    yield servers
    servers.end()


@scenario
async def test_a_failover_is_survived_and_a_tail_that_it_loses_is_told(replicated: Replicated) -> None:
    primary, replica = replicated.servers
    log, other = RedisLog(f"{replicated.url}?wait=1&wait_ms=200", keep_all), RedisLog(replicated.url, keep_all)
    await log.open()
    await other.open()
    commits = CommitList(log)
    log.interest = {"lost", "kept"}
    kept = await put(log, "kept", b"1")
    lost = await put(log, "lost", b"1")  # the replica has both, for that was waited for

    replica.say("CONFIG", "SET", "masterauth", "wrong")
    primary.say("CLIENT", "KILL", "TYPE", "replica")
    await asyncio.to_thread(wait_until, lambda: b"master_link_status:down" in replica.say("INFO", "replication"))
    assert (await put(other, "lost", b"2")).last == 2
    await commits.until(lambda: len(commits) >= 3)
    waiting = asyncio.ensure_future(put(log, "kept", b"2"))
    primary.kill()

    await commits.until(lambda: epochs_of(commits, "lost") - {lost.epoch})
    again = await put(other, "lost", b"another", expect=2)
    assert epochs_of(commits, "lost") == {lost.epoch, again.epoch}
    assert [line for _, _, line in await whole(log, "lost")] == [b"1", b"another"]
    assert not waiting.done()  # no replica is left that could have it
    primary.start("--replicaof", f"127.0.0.1 {replica.port}")
    assert (await waiting).last == 2
    assert [line for _, _, line in await whole(other, "kept")] == [b"1", b"2"]
    assert (await log.read("kept", 0)).epoch == kept.epoch
    await log.close()
    await other.close()
