"""What is too old goes with the partition of its day; chats are in none; 10,000 topics are no burden."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from events.log.port import Append, Retention
from events.log.postgres import retention as retention_module
from events.log.postgres.engine import PostgresLog
from tests.conftest import eventually
from tests.contract.engines import Clock, CommitList, flat, put, scenario, whole
from tests.support.postgres_server import PostgresServer

DAY_S = 86_400
PARTITIONS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'trilane.blocks'::regclass"
ROWS = "SELECT count(*) FROM trilane.blocks"


def retention(topic: str) -> Retention:
    if topic.startswith("chat/"):
        return Retention()
    if topic.startswith("run/"):
        return Retention(closed_age_s=DAY_S)
    return Retention(age_s=2 * DAY_S)


@scenario
async def test_days_that_are_over_are_dropped_but_nothing_that_a_topic_still_shows(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    clock = Clock()
    log = PostgresLog(postgres_url, retention, clock=clock)
    await log.open()
    try:
        await log.sweep()
        before = postgres_server.query(PARTITIONS)[0][0]
        for topic in ("chat/1", "run/ended", "run/open", "event/1"):
            await put(log, topic, b"1")
        await put(log, "run/ended", b"2", close=True)
        clock.now_s += DAY_S + 60
        await put(log, "event/1", b"2")
        await log.sweep()
        assert (await log.read("run/ended", 0)).epoch == ""
        clock.now_s += DAY_S
        await log.sweep()
        assert flat(await log.read("event/1", 0)) == [(2, "message", b"2")]
        clock.now_s += 10 * DAY_S
        await log.sweep()
        assert postgres_server.query(PARTITIONS)[0][0] <= before
        assert postgres_server.query(ROWS) == [(2,)]
        assert await whole(log, "chat/1") == await whole(log, "run/open") == [(1, "message", b"1")]
        part = await log.read("event/1", 0)
        assert (part.oldest, part.head) == (3, 2)
        await put(log, "run/open", b"2", close=True)
        assert [line for _, _, line in await whole(log, "run/open")] == [b"1", b"2"]
        clock.now_s += 2 * DAY_S
        await log.sweep()
        assert [info.topic for info in await log.topics("")] == ["event/1", "chat/1"]
        clock.now_s += 2 * DAY_S
        await log.sweep()
        assert postgres_server.query(ROWS) == [(1,)]
    finally:
        await log.close()


@scenario
async def test_a_process_whose_clock_is_behind_writes_into_a_day_that_another_has_dropped(postgres_url: str) -> None:
    early, late = Clock(), Clock()
    late.now_s += 30 * DAY_S
    behind = PostgresLog(postgres_url, retention, clock=early)
    ahead = PostgresLog(postgres_url, retention, clock=late)
    await behind.open()
    await ahead.open()
    try:
        await put(behind, "event/1", b"1")
        await ahead.sweep()
        assert (await put(behind, "event/1", b"2")).first == 2
        assert (await put(ahead, "event/1", b"3")).first == 3
        assert (await ahead.read("event/1", 2)).blocks[0].data == [b"3"]
    finally:
        await behind.close()
        await ahead.close()


@scenario
async def test_ten_thousand_topics_are_written_listed_and_swept(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    log = PostgresLog(postgres_url, retention)
    await log.open()
    try:
        for start in range(0, 10_000, 1000):
            await log.append(
                *(
                    Append(topic=f"chat/{n % 50}/{n}", data=[b"x"], owner=str(n % 50))
                    for n in range(start, start + 1000)
                )
            )
        await put(log, "run/open", b"x")
        postgres_server.query("ANALYZE trilane.topics")
        began = time.monotonic()
        assert len(await log.topics("chat/7/", owner="7", limit=300)) == 200
        assert [info.topic for info in await log.topics("run/", open_only=True)] == ["run/open"]
        assert (await put(log, "chat/7/7", b"y")).first == 2
        assert time.monotonic() - began < 5
        await log.sweep()
    finally:
        await log.close()


@scenario
async def test_open_topics_and_an_owners_are_found_by_an_index(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    log = PostgresLog(postgres_url, retention)
    await log.open()
    await log.close()
    insert = """
    INSERT INTO trilane.topics (id, name, epoch, generation, owner, head, total, closed, updated_ms)
    SELECT -n, 'run/' || n, 'e', '', (n % 1000)::text, 1, 1, n % 1000 > 0, n FROM generate_series(1, 20000) n;
    ANALYZE trilane.topics
    """
    postgres_server.query(insert)
    for condition, index in {"NOT closed": "topics_open", "owner = '7'": "topics_of_owner"}.items():
        where = f"name >= 'run/' AND name < 'run0' AND {condition}"
        plan = postgres_server.query(
            f"EXPLAIN SELECT name FROM trilane.topics WHERE {where} ORDER BY updated_ms DESC LIMIT 9"
        )
        assert index in str(plan)


@scenario
async def test_one_process_forgets_for_all_in_the_background_and_a_hot_topic_is_trimmed_at_once(
    postgres_url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention_module, "PASS_S", 0.02)
    clock = Clock()
    limits = {"hot": Retention(events=10), "old": Retention(closed_age_s=10)}
    logs = [PostgresLog(postgres_url, lambda topic: limits[topic], clock=clock) for _ in range(2)]
    commits = CommitList(logs[1])
    try:
        for log in logs:
            await log.open()
        logs[1].interest = {"old"}
        await put(logs[0], "old", b"x", close=True)
        await commits.until(lambda: commits)
        commits.clear()
        for _ in range(30):
            await put(logs[0], "hot", b"x")
        part = await logs[1].read("hot", 0)
        async with asyncio.timeout(20):
            while part.oldest < 21:
                part = await logs[1].read("hot", 0)
        assert (part.oldest, part.head) == (21, 30)
        clock.now_s += 20
        postgres_server.query("UPDATE trilane.leases SET ends = '-infinity'")
        await logs[0].close()
        await logs[0].open()  # a process begins with a sweep
        await commits.until(lambda: commits)
        assert [(commit.topic, commit.block) for commit in commits][:1] == [("old", None)]
        assert await logs[1].topics("old") == []
    finally:
        for log in logs:
            await log.close()


def test_a_day_that_two_processes_begin_at_once_is_made_once(postgres_url: str) -> None:
    """The second waits for the first, and must not think then that there is none yet."""
    make, day = "SELECT trilane.make_bucket(90000)", "blocks_90000"
    log = PostgresLog(postgres_url, retention)

    async def set_up() -> None:
        await log.open()
        await log.close()

    asyncio.run(set_up())
    with psycopg.connect(postgres_url) as first, psycopg.connect(postgres_url) as second, ThreadPoolExecutor(1) as pool:
        first.execute(make)
        making = pool.submit(second.execute, make)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        eventually(lambda: first.execute(waiting).fetchone() == (1,), what="the second one waits")
        first.commit()
        making.result(10)
        second.commit()
        second.execute(f"ALTER TABLE trilane.blocks DETACH PARTITION trilane.{day}")
        second.execute(f"DROP TABLE trilane.{day}")
