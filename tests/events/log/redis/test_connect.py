"""What is wrong with a server is told when the log opens, by a sentence that says what to do."""

import asyncio
import random
import sys
import time
from pathlib import Path

import pytest

from events.log.port import Retention
from events.log.redis import connect, news
from events.log.redis.connect import MAX_DELAY_S, PASSING, Backoff, check_facts
from events.log.redis.engine import RedisLog
from gateway.core.engines import make_log
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from loadtests.ports import free_port
from tests.contract.engines import Engine, keep_all, put, scenario
from tests.events.log.redis.cutting import ChanceProxy
from tests.support.authority import Authority
from tests.support.redis_servers import RedisServer

FACTS = {
    "too old": ({"redis_version": "6.0.16"}, "6.2"),
    "much too old": ({"redis_version": "5.0.3"}, "Valkey"),
    "one that evicts": ({"redis_version": "7.2.4", "maxmemory": "9", "maxmemory_policy": "allkeys-lru"}, "noeviction"),
    "one that evicts keys": (
        {"redis_version": "8.0", "maxmemory": "9", "maxmemory_policy": "volatile-ttl"},
        "noeviction",
    ),
}


@pytest.mark.parametrize(("facts", "words"), FACTS.values(), ids=FACTS)
def test_a_server_that_cannot_keep_the_log_is_refused(facts: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        check_facts(facts, "TRILANE_LOG=redis://a")


def test_a_server_that_can_is_not() -> None:
    check_facts({"redis_version": "6.2.14", "maxmemory": "0", "maxmemory_policy": "allkeys-lru"}, "")
    check_facts(
        {"redis_version": "7.2.4", "server_name": "valkey", "maxmemory": "5", "maxmemory_policy": "noeviction"}, ""
    )


def test_delays_between_tries_grow_up_to_a_bound_and_differ() -> None:
    ceiling_s = 0.05
    for _ in range(9):
        delays = Backoff(), Backoff()
        assert 0.025 <= delays[0].next_delay() <= 0.05
    backoff = Backoff()
    for _ in range(12):
        assert ceiling_s / 2 <= backoff.next_delay() <= ceiling_s
        ceiling_s = min(MAX_DELAY_S, ceiling_s * 2)
    assert len({Backoff().next_delay() for _ in range(9)}) > 5


def test_refusals_that_pass_are_known_by_any_wording() -> None:
    for text in (
        "READONLY You can't",
        "ERR Error running script: @user_script: 12: -READONLY You",
        "LOADING Redis is",
        "MOVED 1 a:1",
    ):
        assert PASSING.search(text)
    for text in (
        "OOM command not allowed",
        "MISCONF Errors writing to the AOF file",
        "NOPERM this user",
        "ERR unknown command",
    ):
        assert not PASSING.search(text)


async def refused(url: str) -> str:
    log = RedisLog(url, keep_all)
    with pytest.raises(ConfigurationError) as error:
        await log.open()
    await log.close()
    assert "hush" not in error.value.detail
    return error.value.detail


SCHEMES = ["redis://a", "rediss://a", "unix:///a.sock", "redis+sentinel://a/main", "rediss+cluster://a"]


@pytest.mark.parametrize("url", SCHEMES)
def test_each_form_of_url_chooses_redis(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_log(Settings(log=url)), RedisLog)
    monkeypatch.setitem(sys.modules, "events.log.redis.engine", None)
    with pytest.raises(ConfigurationError, match=r"trilane\[redis\]"):
        make_log(Settings(log=url))


@scenario
async def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    port = free_port()
    for url in (
        f"redis://:hush@127.0.0.1:{port}",
        f"redis+cluster://127.0.0.1:{port}",
        f"redis+sentinel://127.0.0.1:{port}/main",
    ):
        detail = await refused(url)
        assert str(port) in detail
        assert "start the server" in detail
    assert "none.sock" in await refused(f"unix://{tmp_path}/none.sock")


@scenario
async def test_a_wrong_password_and_a_wrong_kind_are_told(server: RedisServer) -> None:
    detail = await refused(f"redis://joe:hush@127.0.0.1:{server.port}")
    assert "password" in detail
    assert "joe" in detail
    assert "cluster support" in await refused(f"redis+cluster://127.0.0.1:{server.port}")
    assert "sentinel" in (await refused(f"redis+sentinel://127.0.0.1:{server.port}/main")).lower()
    server.say("CONFIG", "SET", "requirepass", "hush")
    try:
        assert "password" in await refused(server.url)
        log = RedisLog(f"redis://:hush@127.0.0.1:{server.port}", keep_all)
        await log.open()
        await put(log, "a", b"1")
        await log.close()
    finally:
        await clear_password(server)


FORBIDDEN = {
    "its channels": (["resetchannels"], "channel"),
    "scripts": (["-@scripting"], "allow its user EVAL"),
    "a look at itself": (["-info"], "all commands"),
}


@pytest.mark.parametrize(("rules", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
@scenario
async def test_a_user_that_may_not_enough_is_told_what(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, rules: list[str], words: str
) -> None:
    monkeypatch.setattr(news, "START_S", 0.3)
    server.say("ACL", "SETUSER", "joe", "reset", "on", ">hush", "~*", "&*", "+@all", *rules)
    assert words in await refused(f"redis://joe:hush@127.0.0.1:{server.port}")


async def clear_password(server: RedisServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"AUTH hush\r\nCONFIG SET requirepass ''\r\n")
    assert [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+OK\r\n"]
    writer.close()


@scenario
async def test_a_replica_is_refused(server: RedisServer, engine: Engine) -> None:
    server.say("REPLICAOF", "127.0.0.1", str(free_port()))
    try:
        assert "replica" in await refused(server.url)
    finally:
        server.say("REPLICAOF", "NO", "ONE")
    async with engine.open() as log:
        await put(log, "a", b"1")


@scenario
async def test_a_socket_in_the_file_system_serves_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    server = RedisServer(folder, "--unixsocket", str(folder / "r.sock")).start()
    try:
        log = RedisLog(f"unix://{folder}/r.sock?db=3", keep_all)
        await log.open()
        assert (await put(log, "a", b"1")).first == 1
        await log.close()
    finally:
        server.kill()


@scenario
async def test_tls_is_checked_against_the_authority_that_is_named(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "CONNECT_S", 0.5)
    authority = Authority(tmp_path)
    async with ChanceProxy(server.port, random.Random(), tls=authority.server()) as proxy:  # no server here speaks TLS
        log = RedisLog(f"rediss://localhost:{proxy.port}?ssl_ca_certs={authority.pem}&prefix=tls", keep_all)
        await log.open()
        assert (await put(log, "a", b"1")).first == 1
        await log.close()
        assert "certificate" in (await refused(f"rediss://localhost:{proxy.port}")).lower()
        assert "correct the URL" in await refused(f"redis://localhost:{proxy.port}")
    assert "correct the URL" in await refused(f"rediss://localhost:{server.port}")


@scenario
async def test_the_servers_clock_counts_not_that_of_a_process(
    server: RedisServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RedisLog(engine.url, lambda _: Retention(age_s=300))
    await log.open()
    began = time.time()
    assert not (await put(log, "a", b"1", key="k")).duplicate
    monkeypatch.setattr(time, "time", lambda: began + 3600)
    assert (await put(log, "a", b"1", key="k")).duplicate
    await log.sweep()
    (block,) = (await log.read("a", 0)).blocks
    assert abs(block.time_ms / 1000 - began) < 60
    await log.close()
