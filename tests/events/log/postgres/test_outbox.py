"""An application publishes in its own transaction with `trilane_publish`."""

from typing import Any

import psycopg
import pytest

from events.log.postgres.engine import PostgresLog
from tests.contract.engines import CommitList, keep_all, put, scenario, whole
from tests.support.readme import readme_block

PUBLISH = "SELECT trilane_publish(%s, %s, %s::jsonb, %s)"


async def connect(url: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(url)


@scenario
async def test_an_event_is_there_when_the_applications_transaction_commits_and_only_then(postgres_url: str) -> None:
    log = PostgresLog(postgres_url, keep_all)
    await log.open()
    application, other = await connect(postgres_url), await connect(postgres_url)
    try:
        commits = CommitList(log)
        log.interest = {"event/orders/1", "event/orders/2"}
        await application.execute("DROP TABLE IF EXISTS orders; CREATE TABLE orders (n int)")
        await application.execute("INSERT INTO orders VALUES (1)")
        for n in range(3):
            await application.execute(PUBLISH, ("orders/1", "order.paid", f'{{"n": {n}, "text": "a\\nb"}}', None))
        # A transaction that stays open keeps nobody waiting: another application's, and the gateway's own.
        await other.execute(PUBLISH, ("orders/2", "message", "7", None))
        await other.commit()
        await commits.until(lambda: commits)
        assert {commit.topic for commit in commits} == {"event/orders/2"}
        assert (await put(log, "event/orders/1", b'"from the gateway"')).first == 1
        commits.clear()
        await application.commit()
        await commits.until(lambda: any(commit.block is None for commit in commits))
        assert await whole(log, "event/orders/1") == [
            (1, "message", b'"from the gateway"'),
            *((n + 2, "order.paid", b'{"n": %d, "text": "a\\nb"}' % n) for n in range(3)),
        ]
        await application.execute(PUBLISH, ("orders/1", "message", '"never"', None))
        await application.rollback()
        await application.execute(PUBLISH, ("orders/1", "message", '"once"', "k1"))
        await application.commit()
        await application.execute(PUBLISH, ("orders/1", "message", '"twice"', "k1"))
        await application.execute(PUBLISH, ("orders/2", "message", '"end"', None))
        await application.commit()
        commits.clear()
        await commits.until(lambda: "event/orders/2" in {commit.topic for commit in commits})
        assert [line for _, _, line in await whole(log, "event/orders/1")][4:] == [b'"once"']
    finally:
        await application.close()
        await other.close()
        await log.close()


@scenario
async def test_the_readmes_transaction_publishes(postgres_url: str) -> None:
    log = PostgresLog(postgres_url, keep_all)
    await log.open()
    application = await psycopg.AsyncConnection.connect(postgres_url, autocommit=True)
    try:
        commits = CommitList(log)
        log.interest = {"event/orders/7"}
        await application.execute("DROP TABLE IF EXISTS orders; CREATE TABLE orders (id int)")
        await application.execute(readme_block("trilane_publish").text.encode())
        await commits.until(lambda: commits)
        assert await whole(log, "event/orders/7") == [(1, "order.paid", b'{"total": 12}')]
    finally:
        await application.close()
        await log.close()


GATEWAYS = ("presence", "user", "audio", "chat", "run", "usage", "ticket")
REFUSED = [
    (("", "message", "1", None), "topic '' is not valid"),
    (("a b", "message", "1", None), "topic 'a b'"),
    (("a\n", "message", "1", None), "topic"),
    (("é", "message", "1", None), "topic 'é'"),
    (("x" * 129, "message", "1", None), "1 to 128"),
    *(((f"{name}/a", "message", "1", None), f"topic '{name}/a' is not valid") for name in GATEWAYS),
    ((None, "message", "1", None), "topic NULL"),
    (("a", "hello", "1", None), "event name 'hello'"),
    (("a", "two words", "1", None), "event name"),
    (("a", None, "1", None), "event name NULL"),
    (("a", "message", None, None), "data is 0 bytes"),
    (("a", "message", '"' + "x" * 65_535 + '"', None), "65537 bytes"),
    (("a", "message", "1", ""), "key ''"),
    (("a", "message", "1", "a b"), "key 'a b'"),
]


@scenario
async def test_what_the_gateway_would_refuse_is_refused_here(postgres_url: str) -> None:
    log = PostgresLog(postgres_url, keep_all)
    await log.open()
    await log.close()
    application = await connect(postgres_url)
    try:
        for values, words in REFUSED:
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=words):
                await application.execute(PUBLISH, values)
            await application.rollback()
    finally:
        await application.close()
