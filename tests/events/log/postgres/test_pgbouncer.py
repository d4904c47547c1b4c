"""The log works through PgBouncer in transaction mode: it is found out, news come by looks, nothing is lost."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import psycopg
import pytest

from events.log.port import Append
from events.log.postgres.address import parse_address
from events.log.postgres.engine import PostgresLog
from events.log.postgres.session import DatabaseSession
from events.log.postgres.survey import survey
from loadtests.ports import free_port
from tests.contract.engines import CommitList, keep_all, put, scenario, whole
from tests.support.postgres_server import NOBODY, START_S, USER, PostgresServer, other_user

SETTINGS = """
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 3
"""


@pytest.fixture(scope="module")
def pooled_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Returns the URL of a database behind PgBouncer with three connections for all."""
    program = shutil.which("pgbouncer", path=os.defpath + ":/usr/sbin")
    assert program is not None, "apt-get install pgbouncer"
    port, folder = free_port(), postgres_server.folder
    (folder / "pgbouncer.ini").write_text(SETTINGS.format(server_port=postgres_server.port, port=port, folder=folder))
    (folder / "users").write_text(f'"{USER}" ""\n')
    if os.geteuid() == 0:
        for name in ("pgbouncer.ini", "users"):
            os.chown(folder / name, NOBODY, NOBODY)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "pgbouncer.ini")], stdout=log, stderr=log, **other_user())
    url = f"postgres://{USER}@127.0.0.1:{port}/postgres"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(url, connect_timeout=2).close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "pgbouncer.log").read_text()) from None
                time.sleep(0.02)  # it tells nobody when it is ready
        yield url
    finally:
        process.kill()
        process.wait(START_S)


@scenario
async def test_a_pooler_is_found_out_and_what_the_operator_says_counts(
    postgres_server: PostgresServer, pooled_url: str
) -> None:
    for url, is_pooled in {
        pooled_url: True,
        postgres_server.url(): False,
        f"{postgres_server.url()}?pgbouncer=1": True,
        f"{pooled_url}?connect_timeout=9&pgbouncer=0": False,
    }.items():
        session = DatabaseSession(parse_address(url))
        await session.connect()
        assert session.is_pooled == is_pooled
        await session.close()
    assert [fact for fact in await survey(pooled_url) if "a pooler stands before it" in fact.text]


@scenario
async def test_two_processes_behind_a_pooler_lose_nothing_and_hear_of_each_other(
    postgres_server: PostgresServer, pooled_url: str
) -> None:
    postgres_server.empty_database()
    here, there = PostgresLog(pooled_url, keep_all), PostgresLog(pooled_url, keep_all)
    await here.open()
    await there.open()
    try:
        commits = CommitList(here)
        here.interest = {"a"}

        async def write(log: PostgresLog, topic: str) -> None:
            for n in range(40):
                await log.append(Append(topic=topic, data=[b"%d" % n], expect=n + 1), Append(topic="a", data=[b"x"]))

        await asyncio.gather(write(here, "mine"), write(there, "theirs"))
        await commits.until(lambda: any(commit.block is None for commit in commits))
        assert [at for at, _, _ in await whole(here, "a")] == list(range(1, 81))
        assert len(await whole(there, "mine")) == len(await whole(here, "theirs")) == 40
        assert (await put(here, "b", b"1", key="k")).first == 1
        assert (await put(there, "b", b"1", key="k")).duplicate
        assert await there.delete("b")
    finally:
        await here.close()
        await there.close()
