"""News of other processes: none is passed over that was still on its way, and none waits for those that stay open."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from events.log.port import Append, Retention
from events.log.postgres.engine import PostgresLog
from events.log.postgres.group import APPEND, Group, GroupCall
from events.log.postgres.news import MAX_NEWS
from tests.contract.engines import CommitList, keep_all, put, scenario, whole
from tests.support.postgres_server import PostgresServer


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[PostgresLog]:
    log = PostgresLog(url, keep_all)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


class SlowWriter:
    """Another process, whose transaction stays open between its append and its commit."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], process: int) -> None:
        self._connection = connection
        self._process = process

    async def append(self, topic: str, line: bytes, number: int = 1) -> None:
        calls = [GroupCall(asyncio.Future(), (Append(topic=topic, data=[line]),), len(line), 0)]
        await self._connection.execute(APPEND.encode(), Group(calls, number, 0).values(self._process, [0], False))

    async def commit(self) -> None:
        await self._connection.commit()


@asynccontextmanager
async def slow_writers(url: str, count: int) -> AsyncGenerator[list[SlowWriter]]:
    connections = [await psycopg.AsyncConnection.connect(url) for _ in range(count)]
    try:
        yield [SlowWriter(connection, 7 + n) for n, connection in enumerate(connections)]
    finally:
        for connection in connections:
            await connection.close()


@scenario
async def test_commits_are_told_in_any_order_and_none_waits_for_an_older_transaction(postgres_url: str) -> None:
    async with opened(postgres_url) as here, opened(postgres_url) as there, slow_writers(postgres_url, 3) as slow:
        commits = CommitList(here)
        here.interest = {"s0", "s1", "s2", "quick", "end"}
        for n, writer in enumerate(slow):
            await writer.append(f"s{n}", b"slow")
            await put(there, "quick", b"%d" % n)  # its transaction is younger than those that are still open
            await commits.until(lambda: commits)
            assert {commit.topic for commit in commits} == {"quick"}
            commits.clear()
        for n in (1, 2, 0):
            assert (await here.read(f"s{n}", 0)).head == 0
            await slow[n].commit()
            await commits.until(lambda n=n: f"s{n}" in {commit.topic for commit in commits})
            assert (await here.read(f"s{n}", 0)).head == 1
            assert {commit.topic for commit in commits} == {f"s{n}"}
            commits.clear()
        await put(there, "end", b"x")
        await commits.until(lambda: commits)
        assert [commit.topic for commit in commits] == ["end"]


@scenario
async def test_a_reader_of_one_topic_never_passes_an_offset_that_is_still_on_its_way(postgres_url: str) -> None:
    async with opened(postgres_url) as here, slow_writers(postgres_url, 1) as (slow,):
        await put(here, "a", b"1")
        await slow.append("a", b"2")
        later = here.append(Append(topic="a", data=[b"3"]))
        assert (await here.read("a", 0)).head == 1
        assert not later.done()
        await slow.commit()
        assert (await later)[0].first == 3
        assert [line for _, _, line in await whole(here, "a")] == [b"1", b"2", b"3"]


@scenario
async def test_news_come_without_notices_too(postgres_url: str) -> None:
    async with opened(f"{postgres_url}?pgbouncer=1") as here, opened(postgres_url) as there:
        commits = CommitList(here)
        here.interest = {"a"}
        for _ in range(3):
            await put(there, "a", b"x")
            await commits.until(lambda: commits)
            commits.clear()


@scenario
async def test_what_was_written_while_the_connection_of_the_news_was_lost_is_told(postgres_url: str) -> None:
    async with opened(postgres_url) as here, opened(postgres_url) as there:
        commits = CommitList(here)
        here.interest = {"a", "b"}
        await put(there, "a", b"x")
        await commits.until(lambda: commits)
        commits.clear()
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as operator:
            await operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trilane'"
            )
        await put(there, "b", b"x")
        await commits.until(lambda: "b" in {commit.topic for commit in commits})
        assert here.failure is None


@scenario
async def test_a_machine_whose_clock_is_an_hour_off_judges_age_and_keys_by_the_servers(postgres_url: str) -> None:
    for error_s in (3600, -3600):
        right, wrong = (PostgresLog(postgres_url, lambda topic: Retention(age_s=300)) for _ in range(2))
        wrong._witness.local_clock = lambda error_s=error_s: time.time() + error_s  # pyright: ignore[reportPrivateUsage] - a wrong clock
        await right.open()
        await wrong.open()
        try:
            topic = f"t{error_s}"
            assert (await put(wrong, topic, b"1", key="k")).first == 1
            assert (await put(right, topic, b"1", key="k")).duplicate
            await put(right, topic, b"2")
            await wrong.sweep()
            await right.sweep()
            assert [line for _, _, line in await whole(wrong, topic)] == [b"1", b"2"]
            (info,) = await wrong.topics(topic)
            assert abs(info.updated_ms - time.time() * 1000) < 60_000
        finally:
            await right.close()
            await wrong.close()


@scenario
async def test_a_group_that_its_process_has_given_up_is_not_done_after_a_later_one(postgres_url: str) -> None:
    async with opened(postgres_url) as log, slow_writers(postgres_url, 2) as (slow, _):
        await slow.append("a", b"2", number=2)
        await slow.commit()
        with pytest.raises(psycopg.Error, match="given up"):
            await slow.append("a", b"1", number=1)
        assert [line for _, _, line in await whole(log, "a")] == [b"2"]


@scenario
async def test_groups_that_name_their_topics_in_other_orders_do_not_lock_each_other_out(postgres_url: str) -> None:
    async with opened(postgres_url) as here, opened(postgres_url) as there:
        names = [f"t{n}" for n in range(8)]

        async def write(log: PostgresLog, topics: list[str]) -> None:
            for _ in range(20):
                await log.append(*(Append(topic=name, data=[b"x"]) for name in topics))

        await asyncio.gather(write(here, names), write(there, names[::-1]))
        assert [(await here.read(name, 0)).head for name in names] == [40] * 8


@scenario
async def test_more_news_than_one_look_takes_are_told_all_the_same(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    flood = f"""
    INSERT INTO trilane.news (process, number, topics, epochs, closed, changed, status, first, last)
    SELECT 5, n, ARRAY['t' || n], '{{e}}', '{{f}}', '{{t}}', '{{0}}', '{{0}}', '{{0}}'
    FROM generate_series(1, {MAX_NEWS + 100}) n
    """
    async with opened(postgres_url) as here, opened(postgres_url) as there:
        await put(there, "a", b"1")
        commits = CommitList(here)
        here.interest = {"a", "b"}
        await asyncio.to_thread(postgres_server.query, flood)
        await commits.until(lambda: "a" in {commit.topic for commit in commits})
        commits.clear()
        await put(there, "b", b"1")
        await commits.until(lambda: "b" in {commit.topic for commit in commits})
