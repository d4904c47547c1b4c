"""A server that is killed, paused or cut off costs time, never an event, and never doubles one."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest

from events.log.port import Append
from events.log.postgres import engine as engine_module
from events.log.postgres import session as session_module
from events.log.postgres import writer as writer_module
from events.log.postgres.engine import PostgresLog
from gateway.errors import LogConflict, LogUnavailable
from tests.contract.engines import CommitList, keep_all, put, scenario, whole
from tests.support.cutting_proxy import CuttingProxy
from tests.support.postgres_server import PostgresServer


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[PostgresLog]:
    log = PostgresLog(url, keep_all)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


async def until(condition: Callable[[], bool], within_s: float = 20) -> None:
    """Waits for what nobody tells: `condition()` becomes true."""
    async with asyncio.timeout(within_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def write(log: PostgresLog, topic: str, stop: asyncio.Event) -> int:
    """Appends numbers until told to stop; every one must get its offset, whatever happens meanwhile."""
    count = 0
    while not stop.is_set():
        result = await put(log, topic, b"%d" % (count + 1), expect=count + 1)
        assert (result.first, result.duplicate) == (count + 1, False)
        count += 1
    return count


async def check_whole(log: PostgresLog, topic: str, count: int) -> None:
    assert await whole(log, topic) == [(at, "message", b"%d" % at) for at in range(1, count + 1)]


@scenario
async def test_a_server_that_is_killed_and_started_again_mid_append_loses_and_doubles_nothing(
    own_server: PostgresServer,
) -> None:
    async with opened(own_server.empty_database()) as log, opened(own_server.url()) as other:
        commits = CommitList(other)
        other.interest = {"0"}
        stop = asyncio.Event()
        writers = [asyncio.create_task(write(log, str(n), stop)) for n in range(5)]
        await commits.until(lambda: commits)
        for _ in range(2):
            await asyncio.to_thread(own_server.kill)
            await until(lambda: log.failure is not None and other.failure is not None)
            assert log.failure is not None
            assert log.failure.is_passing
            with pytest.raises(LogUnavailable):
                await log.read("0", 0)
            await asyncio.to_thread(own_server.start)
            commits.clear()
            await commits.until(lambda: commits)
            await until(lambda: log.failure is None and other.failure is None)
        stop.set()
        counts = await asyncio.gather(*writers)
        assert min(counts) > 0
        for n, count in enumerate(counts):
            await check_whole(other, str(n), count)


@scenario
async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(own_server: PostgresServer) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    own_server.empty_database()
    async with CuttingProxy(own_server.port) as proxy:
        url = own_server.url().replace(str(own_server.port), str(proxy.port))
        async with opened(url) as log:
            commits = CommitList(log)
            stop = asyncio.Event()
            writers = [asyncio.create_task(write(log, str(n), stop)) for n in range(3)]
            for _ in range(12):
                cuts = proxy.cuts
                proxy.bytes_left = chance.randint(1, 3000)
                await until(lambda cuts=cuts: proxy.cuts > cuts)
            stop.set()
            for n, count in enumerate(await asyncio.gather(*writers)):
                await check_whole(log, str(n), count)
                firsts = [commit.block.first for commit in commits if commit.block and commit.topic == str(n)]
                assert firsts == list(range(1, count + 1))


@scenario
async def test_a_reply_that_is_lost_is_asked_for_again(own_server: PostgresServer) -> None:
    own_server.empty_database()
    async with CuttingProxy(own_server.port) as proxy:
        url = own_server.url().replace(str(own_server.port), str(proxy.port))
        async with opened(url) as log:
            await put(log, "a", b"1")
            for n in range(2, 5):
                proxy.bytes_left = 1  # the next answer of all: that of the append, or of a look before it
                calls = [
                    log.append(Append(topic="a", data=[b"%d" % n], key=f"k{n}")),
                    log.append(Append(topic="a", data=[b"x"], expect=1)),
                    log.append(Append(topic=f"new/{n}", data=[], owner="me"), Append(topic="a", data=[b"y"], expect=1)),
                ]
                done, *refused = await asyncio.gather(*calls, return_exceptions=True)
                assert isinstance(done, list)
                assert (done[0].first, done[0].duplicate) == (n, False)
                assert [type(one) for one in refused] == [LogConflict] * 2
            await check_whole(log, "a", 4)
            assert await log.topics("new/") == []
            proxy.bytes_left = 1
            assert await log.delete("a")


@scenario
async def test_a_server_that_hangs_is_told_and_waited_for(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "STATEMENT_S", 0.3)
    monkeypatch.setattr(session_module.Session.fetch, "__defaults__", ((), 0.3))
    monkeypatch.setattr(session_module.SessionPool.fetch, "__defaults__", ((), 0.3))
    monkeypatch.setattr(session_module, "CONNECT_S", 0.3)
    async with opened(own_server.empty_database()) as log:
        await put(log, "a", b"1")
        own_server.pause()
        try:
            calls = [log.append(Append(topic="a", data=[b"%d" % n], expect=n)) for n in (2, 3)]
            await until(lambda: log.failure is not None)
            with pytest.raises(LogUnavailable):
                await log.read("a", 0)
        finally:
            own_server.resume()
        assert [(await call)[0].first for call in calls] == [2, 3]
        await check_whole(log, "a", 3)
        await until(lambda: log.failure is None)


@scenario
async def test_an_append_fails_in_time_when_the_server_stays_away(
    own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "WAIT_S", 0.3)
    monkeypatch.setattr(engine_module, "WAIT_S", 0.3)
    own_server.empty_database()
    async with CuttingProxy(own_server.port) as proxy:
        url = own_server.url().replace(str(own_server.port), str(proxy.port))
        async with opened(url) as log:
            await put(log, "a", b"1")
            proxy.is_blocked = True
            proxy.cut()
            calls = [log.append(Append(topic="a", data=[b"2"], expect=2)), log.append(Append(topic="b", data=[b"1"]))]
            outcomes = await asyncio.gather(*calls, log.delete("a"), return_exceptions=True)
            assert [type(one) for one in outcomes] == [LogUnavailable] * 3
            proxy.is_blocked = False
            assert (await put(log, "a", b"2", expect=2)).first == 2


STOPPED = """
import asyncio, sys
from events.log.port import Append
from gateway.core.engines import make_log
from gateway.settings import Settings

async def write(log, topic):
    n = 0
    while True:
        n += 1
        await log.append(Append(topic=topic, data=[b"x"], expect=n), patient=True)
        print(n, flush=True)

async def main():
    log = make_log(Settings(log=sys.argv[1]))
    await log.open()
    try:
        await asyncio.gather(*(write(log, f"run/{n}") for n in range(3)))
    except Exception as err:
        print(type(err).__name__, flush=True)

asyncio.run(main())
"""


def start_stopped(url: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", STOPPED, url], env=env, stdout=subprocess.PIPE, text=True)


@scenario
async def test_a_process_that_is_stopped_holds_no_lock_and_appends_nothing_to_what_was_ended(
    own_server: PostgresServer, python_path: dict[str, str]
) -> None:
    url = own_server.empty_database()
    async with opened(url) as log:
        with start_stopped(url, python_path) as process:
            assert process.stdout is not None
            for _ in range(30):
                process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            try:
                began = time.monotonic()
                ends = [(await put(log, f"run/{n}", b"end", close=True)).first for n in range(3)]
                assert time.monotonic() - began < 5
            finally:
                process.send_signal(signal.SIGCONT)
            assert "LogConflict" in await asyncio.to_thread(process.stdout.read)
            process.kill()
        for n, end in enumerate(ends):
            events = await whole(log, f"run/{n}")
            assert (len(events), events[-1][2]) == (end, b"end")


@scenario
async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(own_server: PostgresServer) -> None:
    async with opened(own_server.empty_database()) as log:
        await put(log, "a", b"1")
        own_server.query("ALTER ROLE trilane SET default_transaction_read_only = on")
        own_server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'trilane'")
        call = log.append(Append(topic="a", data=[b"2"], expect=2))
        await asyncio.wait([call], timeout=0.3)
        assert not call.done()
        with psycopg.connect(own_server.url(), options="-c default_transaction_read_only=off") as operator:
            operator.execute("ALTER ROLE trilane RESET default_transaction_read_only")
        assert (await call)[0].first == 2


@scenario
async def test_a_full_disk_fails_what_it_must_and_nothing_after(own_server: PostgresServer) -> None:
    own_server.empty_database()
    own_server.query("TRUNCATE trilane.blocks")
    ((path,),) = own_server.query("SELECT pg_relation_filepath('trilane.blocks_kept')")
    file = own_server.data / path
    await asyncio.to_thread(own_server.stop)
    file.rename(file.with_suffix(".kept"))
    file.symlink_to("/dev/full")
    await asyncio.to_thread(own_server.start)
    async with opened(own_server.url()) as log:
        with pytest.raises(LogUnavailable, match="No space left"):
            await put(log, "a", b"1")
        assert (await log.read("a", 0)).epoch == ""
        await asyncio.to_thread(own_server.stop)
        file.unlink()
        file.with_suffix(".kept").rename(file)
        await asyncio.to_thread(own_server.start)
        assert (await put(log, "a", b"1", expect=1)).first == 1
