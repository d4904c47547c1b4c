"""What other processes write is heard of, whatever was lost on the way; and what this one wrote without knowing."""

import asyncio

import msgspec
import pytest

from events.log.port import Append
from events.log.redis import connect, news
from events.log.redis.engine import RedisLog
from events.log.redis.heads import TopicNews
from gateway.errors import LogUnavailable
from tests.contract.engines import CommitList, Engine, keep_all, put, scenario
from tests.support.redis_servers import RedisServer


@scenario
async def test_news_that_were_missed_are_found_again(
    server: RedisServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "IDLE_S", 0.05)
    async with engine.open() as here, engine.open() as there:
        commits = CommitList(here)
        here.interest = {"a", "b", "c"}
        await put(there, "a", b"1")
        await commits.until(lambda: commits)
        assert (await here.read("b", 0)).epoch == ""
        server.say("CLIENT", "KILL", "TYPE", "pubsub")
        server.say("CLIENT", "PAUSE", "300", "WRITE")  # no subscription can be told before it is over
        appends = [there.append(Append(topic=topic, data=[b"2"])) for topic in ("a", "b", "unwanted")]
        await asyncio.gather(*appends)
        await commits.until(lambda: {commit.topic for commit in commits[1:]} == {"a", "b"})
        # A message that was lost although the connection lives is noticed as well.
        server.say("DEL", f"{here._address.prefix}none")  # type: ignore[attr-defined] - of the Redis log alone
        assert (await here.read("c", 0)).epoch == ""
        await server_appends_unheard(there, here)
        await commits.until(lambda: any(commit.topic == "c" for commit in commits))


@scenario
async def test_another_database_of_the_server_is_another_log(engine: Engine) -> None:
    url = engine.url.replace("?", "/1?")
    here, there = RedisLog(engine.url, keep_all), RedisLog(url, keep_all)
    async with engine.open() as beside:
        await here.open()
        await there.open()
        commits = CommitList(here)
        here.interest = {"a"}
        await put(there, "a", b"1", b"2")
        assert (await put(beside, "a", b"1")).last == 1
        await commits.until(lambda: commits)
        assert len(commits) == 1
        assert (await here.read("a", 0)).head == 1
        await here.close()
        await there.close()


class Below:
    """The interest of somebody who follows every topic of a prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __contains__(self, topic: object) -> bool:
        return str(topic).startswith(self._prefix)

    def __len__(self) -> int:
        return 1


@scenario
async def test_a_topic_that_was_made_unheard_is_found_by_who_follows_its_prefix(
    server: RedisServer, engine: Engine
) -> None:
    async with engine.open() as here, engine.open() as there:
        commits = CommitList(here)
        here.interest = Below("event/room/")
        await put(there, "event/room/old", b"1")
        await commits.until(lambda: commits)
        server.say("CLIENT", "KILL", "TYPE", "pubsub")
        await asyncio.gather(put(there, "event/room/new", b"1"), put(there, "event/hall", b"1"))
        await commits.until(lambda: len(commits) > 1)
        assert [commit.topic for commit in commits] == ["event/room/old", "event/room/new"]


@scenario
async def test_small_groups_are_carried_and_large_ones_are_read(server: RedisServer, engine: Engine) -> None:
    async with engine.open() as here, engine.open() as there:
        commits = CommitList(here)
        here.interest = {"a", "b", "c"}
        small = [Append(topic="a", data=[b"1", b"", "zwei".encode("utf-16")], name="n"), Append(topic="b", data=[b"x"])]
        done = await there.append(*small)
        await commits.until(lambda: len(commits) == 2)
        for append, result, commit in zip(small, done, commits, strict=True):
            assert commit.block is not None
            assert (commit.topic, commit.epoch, commit.block.first) == (append.topic, result.epoch, 1)
            assert (commit.block.data, commit.block.name) == (append.data, append.name)
            assert commit.block == (await here.read(append.topic, 0)).blocks[0]
        # One that is too large, one of two blocks, and one without events, as a part of one group.
        await there.append(Append(topic="a", data=[b"x" * 2049]), Append(topic="b", data=[b"y"]))
        await there.append(
            Append(topic="a", data=[b"1"], name="m"), Append(topic="a", data=[b"2"]), Append(topic="c", data=[])
        )
        await commits.until(lambda: len(commits) == 6)
        assert [(commit.topic, commit.block) for commit in commits[2:]] == [(topic, None) for topic in "abac"]


@scenario
async def test_news_of_a_history_that_is_over_are_not_taken_for_events(engine: Engine) -> None:
    async with engine.open() as here, engine.open() as there:
        commits = CommitList(here)
        here.interest = {"a"}
        old = await put(there, "a", b"old")
        await commits.until(lambda: commits)
        await there.delete("a")
        await put(there, "a", b"new")
        await commits.until(lambda: len(commits) == 3)
        late = TopicNews("a", old.epoch, 2, False, 1, 0, "n", 4)
        payload = msgspec.msgpack.encode(("another.0", [late]))
        here._news._tell(b"%d %blate" % (len(payload), payload))  # type: ignore[attr-defined] - of the Redis log alone
        await commits.until(lambda: len(commits) == 4)
        assert (commits[3].epoch, commits[3].block) == (old.epoch, None)


@scenario
async def test_a_message_of_another_version_is_nothing(engine: Engine) -> None:
    async with engine.open() as here, engine.open() as there:
        commits = CommitList(here)
        here.interest = {"a"}
        for payload in (b"", b"12", b"x y", b"-1 \x92", b"2 \x92\xa0", msgspec.msgpack.encode(("another.0", []))):
            here._news._tell(payload)  # type: ignore[attr-defined] - of the Redis log alone
        await put(there, "a", b"1")
        await commits.until(lambda: commits)


async def server_appends_unheard(there: RedisLog, here: RedisLog) -> None:
    """Appends under the name of the other process, which therefore takes the news for its own and ignores them."""
    assert there._writer is not None
    there._writer._name = here._name
    await put(there, "c", b"1")


@scenario
async def test_an_append_that_failed_and_was_made_all_the_same_is_heard_of(
    server: RedisServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "REPLY_S", 0.2)
    monkeypatch.setattr(news, "IDLE_S", 0.4)  # so long that the subscription is not lost
    log = RedisLog(engine.url, keep_all, patience_s=0.1)
    await log.open()
    await put(log, "other", b"1")  # so that it is connected
    commits = CommitList(log)
    log.interest = {"a"}
    server.pause()
    append = log.append(Append(topic="a", data=[b"1"]))
    with pytest.raises(LogUnavailable, match="may have been written all the same"):
        await append
    server.resume()  # it works off what it had received
    await commits.until(lambda: commits)
    assert (commits[0].topic, commits[0].block) == ("a", None)
    assert (await log.read("a", 0)).head == 1
    await log.close()
