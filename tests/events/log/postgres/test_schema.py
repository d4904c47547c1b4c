"""Versions of the tables: an empty database is set up, an older one waits for `trilane migrate`."""

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest

from events.log.postgres import schema
from events.log.postgres.address import parse_address
from events.log.postgres.engine import PostgresLog
from gateway.errors import ConfigurationError
from tests.contract.engines import keep_all, put, scenario
from tests.support.postgres_server import PostgresServer

NEWEST = len(schema.migrations())


@pytest.fixture
def bare_url(postgres_server: PostgresServer) -> str:
    """Returns the URL of a database without any table."""
    postgres_server.query("DROP SCHEMA IF EXISTS trilane CASCADE; DROP FUNCTION IF EXISTS trilane_publish")
    return postgres_server.url()


async def open_and_close(url: str) -> None:
    log = PostgresLog(url, keep_all)
    await log.open()
    await put(log, "a", b"x")
    await log.close()


@scenario
async def test_processes_that_open_an_empty_database_at_once_set_it_up_once(
    bare_url: str, postgres_server: PostgresServer
) -> None:
    await asyncio.gather(*(open_and_close(bare_url) for _ in range(3)))
    versions = await asyncio.to_thread(postgres_server.query, "SELECT version FROM trilane.versions ORDER BY 1")
    assert versions == [(version,) for version in range(1, NEWEST + 1)]


@scenario
async def test_another_version_is_refused_with_both_numbers(
    postgres_url: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_and_close(postgres_url)
    newer = [*schema.migrations(), "CREATE TABLE trilane.new (n int);"]
    monkeypatch.setattr(schema, "migrations", lambda: newer)
    with pytest.raises(ConfigurationError, match=f"version {NEWEST}, .* needs {NEWEST + 1}: run `trilane migrate`"):
        await open_and_close(postgres_url)
    try:
        assert await schema.migrate(parse_address(postgres_url)) == NEWEST + 1
        await open_and_close(postgres_url)
        monkeypatch.undo()
        with pytest.raises(ConfigurationError, match=f"version {NEWEST + 1}, of a later release.* {NEWEST}"):
            await open_and_close(postgres_url)
    finally:
        undo = f"DELETE FROM trilane.versions WHERE version > {NEWEST}; DROP TABLE IF EXISTS trilane.new"
        await asyncio.to_thread(postgres_server.query, undo)


@scenario
async def test_a_migration_that_fails_leaves_nothing_behind(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await open_and_close(postgres_url)
    with monkeypatch.context() as patch:
        broken = [*schema.migrations(), "CREATE TABLE trilane.half (n int); SELECT 1 / 0;"]
        patch.setattr(schema, "migrations", lambda: broken)
        with pytest.raises(Exception, match="division by zero"):
            await schema.migrate(parse_address(postgres_url))
    await open_and_close(postgres_url)


def test_the_command_migrates_and_says_so(bare_url: str, python_path: dict[str, str]) -> None:
    environment = {**python_path, "TRILANE_LOG": bare_url}
    command = [sys.executable, "-m", "gateway", "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"version {NEWEST}" in done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("trilane@", "trilane:s3cret@").replace("/postgres", "/none"), '"none" does not exist'),
        (lambda url: url.replace("trilane@", "nobody:s3cret@"), '"nobody" does not exist'),
        (lambda url: "postgres://trilane:s3cret@127.0.0.1:1/x", "refused"),
        (lambda url: "postgres://trilane:s3cret@127.0.0.1:port/x", 'value "port"'),
        (lambda url: f"{url}?pgbouncer=yes&password=s3cret", "pgbouncer='yes'"),
        (lambda url: f"{url}?passwort=s3cret", "no address"),
        (lambda url: f"{url}?sslmode=require&password=s3cret", "SSL"),
    ],
)
@scenario
async def test_what_cannot_be_opened_is_told_without_the_password(
    postgres_url: str, change: Callable[[str], str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        await open_and_close(change(postgres_url))
    assert "s3cret" not in error.value.detail
