"""Every engine forgets what its retention says, and still knows a topic's offsets and owner afterwards."""

import pytest

from events.log.port import Append, Retention, Slice
from gateway.errors import LogConflict
from tests.contract.engines import CommitList, Engine, flat, put, scenario, whole


@scenario
async def test_events_past_the_count_go_by_whole_blocks(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=10)) as log:
        for n in range(10):
            await put(log, "a", *(b"%d" % n for _ in range(3)))
        await log.sweep()
        part = await log.read("a", 0)
        assert (part.oldest, part.head) == (19, 30)
        assert [at for at, _, _ in await whole(log, "a")] == list(range(19, 31))


@scenario
async def test_bytes_past_the_limit_go_but_never_the_newest_block(plain_engine: Engine) -> None:
    async with plain_engine.open(lambda _: Retention(max_bytes=120)) as log:
        for n in range(10):
            await put(log, "a", b"%02d" % n * 10, b"%02d" % n * 10)
        await log.sweep()
        assert [at for at, _, _ in await whole(log, "a")] == list(range(15, 21))
        assert len(flat(await log.read("a", 0, max_bytes=120))) == 6
        assert len(flat(await log.read("a", 3, max_events=1))) == 1
        await put(log, "a", b"x" * 1000)
        await log.sweep()
        assert await whole(log, "a") == [(21, "message", b"x" * 1000)]


@scenario
async def test_old_events_go_and_their_offsets_never_return(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(age_s=60)) as log:
        first = await put(log, "a", b"1", b"2", owner="me", close=False)
        engine.clock.now_s += 50
        await put(log, "a", b"3")
        engine.clock.now_s += 20
        await log.sweep()
        assert await whole(log, "a") == [(3, "message", b"3")]
        engine.clock.now_s += 1000
        await log.sweep()
        assert await log.read("a", 0) == Slice(epoch=first.epoch, owner="me", oldest=4, head=3)
        with pytest.raises(LogConflict):
            await put(log, "a", b"4", expect=1)
        assert (await put(log, "a", b"4", expect=4)).epoch == first.epoch
        assert (await log.read("a", 0)).oldest == 4
        assert await whole(log, "a") == [(4, "message", b"4")]


@scenario
async def test_a_topics_state_outlives_its_events(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(age_s=60)) as log:
        await put(log, "a", b"1", b"2", owner="me", close=True)
        changed_ms = int(engine.clock.now_s * 1000)
        engine.clock.now_s += 100
        await log.sweep()
        (info,) = await log.topics("a")
        assert (info.head, info.closed, info.updated_ms, info.owner) == (2, True, changed_ms, "me")
        with pytest.raises(LogConflict) as error:
            await put(log, "a", b"3")
        assert error.value.closed


@scenario
async def test_a_closed_topic_goes_as_a_whole_when_its_last_event_is_old(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(closed_age_s=60)) as log:
        await put(log, "run", b"1")
        engine.clock.now_s += 50
        await put(log, "run", b"2", close=True)
        await put(log, "open", b"1")
        engine.clock.now_s += 59
        await log.sweep()
        assert (await log.read("run", 0)).head == 2
        commits = CommitList(log)
        engine.clock.now_s += 2
        await log.sweep()
        assert (await log.read("run", 0)).epoch == ""
        assert (await log.read("open", 0)).head == 1
        assert [(commit.topic, commit.block) for commit in commits] == [("run", None)]


@scenario
async def test_an_open_topic_goes_as_a_whole_when_nothing_came_for_long(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(age_s=30, idle_age_s=60)) as log:
        first = await put(log, "idle", b"1")
        await put(log, "busy", b"1")
        await put(log, "over", b"1", close=True)
        engine.clock.now_s += 50
        await put(log, "busy", b"2")
        engine.clock.now_s += 9
        await log.sweep()
        assert (await log.read("idle", 0)).head == 1
        commits = CommitList(log)
        engine.clock.now_s += 2
        await log.sweep()
        assert await log.read("idle", 0) == Slice(epoch="")
        assert await log.names("", 9) == ["busy", "over"]
        assert ((await log.read("busy", 0)).head, (await log.read("over", 0)).closed) == (2, True)
        assert [(commit.topic, commit.block) for commit in commits] == [("idle", None)]
        again = await put(log, "idle", b"2")
        assert (again.first, again.epoch != first.epoch) == (1, True)
        assert await whole(log, "idle") == [(1, "message", b"2")]


@scenario
async def test_each_topic_has_its_own_retention(engine: Engine) -> None:
    async with engine.open(lambda topic: Retention(events=1) if topic.startswith("run/") else Retention()) as log:
        for _ in range(5):
            await put(log, "run/1", b"x")
            await put(log, "chat/1", b"x")
        await log.sweep()
        assert len(await whole(log, "run/1")) == 1
        assert len(await whole(log, "chat/1")) == 5


@scenario
async def test_a_key_outlives_its_events(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=1)) as log:
        await put(log, "a", b"1", key="k")
        await put(log, "a", b"2")
        await log.sweep()
        assert (await put(log, "a", b"1", key="k")).duplicate
        engine.clock.now_s += 301
        await log.sweep()
        assert not (await put(log, "a", b"1", key="k")).duplicate


@scenario
async def test_a_long_topic_is_trimmed_all_the_way(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=100)) as log:
        for n in range(3):
            for _ in range(900):
                last = log.append(*_two(n))
            await last
        await log.sweep()
        part = await log.read("a", 0)
        assert (part.oldest, part.head) == (5301, 5400)


def _two(n: int) -> list[Append]:
    return [Append(topic="a", data=[b"%d" % n], name=name) for name in ("even", "odd")]
