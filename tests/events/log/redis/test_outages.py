"""Whatever becomes of Redis or of the way to it, nothing acknowledged is lost, and nothing is written twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from events.log.hub import Hub
from events.log.port import Append, Retention
from events.log.redis import connect, outage
from events.log.redis.engine import RedisLog
from gateway.errors import LogUnavailable
from tests.contract.engines import CommitList, Engine, keep_all, put, scenario, whole
from tests.events.log.redis.cutting import ChanceProxy
from tests.support.redis_servers import RedisServer

WRITERS = 6


async def write_each_in_turn(log: RedisLog, count: int) -> None:
    """Has some writers append `count` events each, one after the other, where no offset may be taken twice."""

    async def write(topic: str) -> None:
        for at in range(1, count + 1):
            how = {"expect": at} if topic.endswith("0") else {"key": str(at)} if topic.endswith("1") else {}
            append = Append(topic=topic, data=[b"%d" % at], **how)  # type: ignore[arg-type] - as they came
            (result,) = await log.append(append, patient=at % 2 == 0)
            assert (result.first, result.duplicate) == (at, False)

    await asyncio.gather(*(write(f"t/{n}") for n in range(WRITERS)))


async def check_each(log: RedisLog, count: int) -> None:
    for n in range(WRITERS):
        assert [line for _, _, line in await whole(log, f"t/{n}")] == [b"%d" % at for at in range(1, count + 1)]


@scenario
async def test_connections_that_are_cut_at_random_cost_nothing_and_double_nothing(
    server: RedisServer, engine: Engine
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    async with ChanceProxy(server.port, random.Random(seed), 0) as proxy:
        log = RedisLog(engine.url.replace(str(server.port), str(proxy.port)), keep_all)
        await log.open()
        commits = CommitList(log)
        proxy.chance = 0.06
        await write_each_in_turn(log, 60)
        proxy.chance = 0
        await check_each(log, 60)
        await log.close()
    assert proxy.cuts > 3
    told = [(c.topic, c.block.first) for c in commits if c.block is not None]
    assert len(told) == len(set(told)) == WRITERS * 60


@scenario
async def test_a_server_that_is_killed_and_started_again_loses_nothing(server: RedisServer, engine: Engine) -> None:
    log = RedisLog(engine.url, keep_all)
    await log.open()
    writing = asyncio.create_task(write_each_in_turn(log, 150))
    for _ in range(3):
        await asyncio.sleep(0.05)
        server.kill()
        assert not writing.done()
        server.launch()
    await writing
    await check_each(log, 150)
    assert log.failure is None
    await log.close()


@scenario
async def test_a_server_that_stands_still_is_waited_for(
    server: RedisServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "REPLY_S", 0.2)
    log = RedisLog(engine.url, keep_all)
    await log.open()
    await put(log, "a", b"1")
    server.pause()
    appends = [log.append(Append(topic="a", data=[b"%d" % n]), patient=n % 2 > 0) for n in range(2, 30)]
    read = asyncio.create_task(log.read("a", 0))
    await asyncio.sleep(1.0)  # several times as long as a connection may be silent: what was sent is sent again
    assert not any(append.done() for append in appends)
    server.resume()
    results = [(await append)[0] for append in appends]
    assert [one.first for one in results] == list(range(2, 30))
    assert [line for _, _, line in await whole(log, "a")] == [b"%d" % n for n in range(1, 30)]
    assert (await read).head >= 1
    await log.close()


@scenario
async def test_an_append_waits_no_longer_than_its_patience_and_the_log_goes_on_afterwards(
    server: RedisServer, engine: Engine
) -> None:
    log = RedisLog(engine.url, keep_all, patience_s=0.3)
    await log.open()
    await put(log, "a", b"1")
    server.kill()
    began = time.monotonic()
    appends = [log.append(Append(topic="a", data=[b"2"], expect=2)), log.append(Append(topic="b", data=[b"1"]))]
    for append in appends:
        with pytest.raises(LogUnavailable, match="Redis"):
            await append
    assert 0.2 < time.monotonic() - began < 5
    assert log.failure is None
    deletion = asyncio.create_task(log.delete("a"))
    with pytest.raises(LogUnavailable):
        await deletion
    server.start()
    while True:
        try:
            assert (await put(log, "a", b"2", expect=2)).first == 2
            break
        except LogUnavailable:  # it had less than its patience left to connect
            continue
    await log.close()


@scenario
async def test_a_stream_that_is_open_stays_open_and_goes_on_after_an_outage(
    server: RedisServer, engine: Engine
) -> None:
    async with engine.open() as here, engine.open() as there:
        hub = Hub(here)
        await put(there, "a", b"1")
        reader = await hub.open("a", lambda epoch, block: block.data, None)
        assert await reader.next() == b"1"
        server.kill()
        waiting = there.append(Append(topic="a", data=[b"2"]))
        late = asyncio.create_task(here.read("a", 1))
        await asyncio.sleep(0.3)
        assert not reader.ended
        assert not waiting.done()
        assert not late.done()
        assert (here.failure, there.failure) == (None, None)
        server.start()
        received = b""
        while received != b"2":
            received += await reader.next()
        assert (await waiting)[0].last == 2
        assert (await late).head in (1, 2)
        reader.close()
        await hub.close()


def test_an_outage_is_a_failure_of_the_log_only_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: now_s[0])
    state = outage.Outage()
    assert state.failure is None
    state.note_failure(LogUnavailable("Redis cannot be used: refused"))
    now_s[0] += outage.OUTAGE_S - 1
    state.note_failure(LogUnavailable("Redis cannot be used: no route"))
    assert state.failure is None
    now_s[0] += 2
    assert state.failure is not None
    assert "no route" in state.failure.detail
    state.note_success()
    assert (state.failure, state.since) == (None, None)


@scenario
async def test_a_log_that_closes_during_an_outage_answers_everybody(
    server: RedisServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("events.log.redis.writer.CLOSE_S", 0.2)
    log = RedisLog(engine.url, keep_all)
    await log.open()
    server.kill()
    appends = [log.append(Append(topic="a", data=[b"1"])) for _ in range(300)]
    await log.close()
    assert all(isinstance(append.exception(), LogUnavailable) for append in appends)
    server.start()


@scenario
async def test_a_full_memory_refuses_appends_whole_and_lets_reads_and_deletions_through(
    server: RedisServer, engine: Engine
) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1", owner="me")
        await put(log, "b", b"1")
        server.say("CONFIG", "SET", "maxmemory", "1")
        try:
            for appends in (
                [Append(topic="a", data=[b"2"])],
                [Append(topic="new", data=[b"1"]), Append(topic="a", data=[b"2"], close=True)],
            ):
                with pytest.raises(LogUnavailable, match="OOM"):
                    await log.append(*appends)
            assert (await log.read("a", 0)).head == 1
            assert await log.delete("b")
        finally:
            server.say("CONFIG", "SET", "maxmemory", "0")
        assert [info.topic for info in await log.topics("")] == ["a"]
        assert (await put(log, "a", b"2", expect=2)).first == 2


@scenario
async def test_a_process_that_was_stopped_writes_nothing_to_a_topic_that_another_has_closed(
    engine: Engine, python_path: dict[str, str]
) -> None:
    async with engine.open() as log:
        commits = CommitList(log)
        log.interest = {"run/1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, engine.url, env=python_path, stdout=subprocess.PIPE
        )
        try:
            await commits.until(lambda: len(commits) > 20)
            process.send_signal(signal.SIGSTOP)
            await put(log, "run/1", b"end", close=True)
            head = (await log.read("run/1", 0)).head
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGCONT)
            output, _ = await process.communicate()
            assert output.split() == [b"LogConflict"]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        part = await log.read("run/1", head - 1)
        assert (part.head, part.blocks[-1].data[-1]) == (head, b"end")


WRITER = """
import asyncio, sys
from events.log.port import Append
from gateway.core.engines import make_log
from gateway.errors import LogError
from gateway.settings import Settings

async def main(url):
    log = make_log(Settings(log=url))
    await log.open()
    offset = 1
    while True:
        try:
            await log.append(Append(topic="run/1", data=[b"x"], expect=offset), patient=True)
        except LogError as err:
            print(type(err).__name__)
            break
        offset += 1
    await log.close()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def python_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[4])}


@scenario
async def test_ten_thousand_topics_are_written_listed_and_swept(engine: Engine) -> None:
    async with engine.open(lambda _: Retention(events=1, closed_age_s=60)) as log:
        topics = [f"run/{n:05}" for n in range(10_000)]
        for start in range(0, 10_000, 2500):
            await log.append(
                *(
                    Append(topic=topic, data=[b"x"], owner="me", close=n % 10 > 0)
                    for n, topic in enumerate(topics[start : start + 2500])
                )
            )
        assert len(await log.topics("run/", open_only=True, limit=2000)) == 1000
        page = await log.topics("run/0", limit=100)
        assert [info.topic for info in page] == topics[:100]
        assert len(await log.topics("run/", owner="me", limit=20_000)) == 10_000
        engine.clock.now_s += 100
        await log.sweep()
        assert len(await log.topics("run/", limit=20_000)) == 1000
