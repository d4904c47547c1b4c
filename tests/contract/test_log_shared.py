"""Engines that several processes may have open keep one log, tested with two instances and with real processes."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from events.log.port import Append, Appended, Retention, Slice
from gateway.errors import LogConflict, WrongOwner
from tests.contract.engines import CommitList, Engine, SweepingLog, flat, keep_all, put, scenario, whole

TOLD_S = 0.1
"""Seconds within which news of other processes are due; tests multiply it for a busy machine."""
SLOW = 20


@contextlib.asynccontextmanager
async def two(engine: Engine) -> AsyncGenerator[tuple[SweepingLog, SweepingLog]]:
    async with engine.open() as one, engine.open() as other:
        yield one, other


@scenario
async def test_only_one_of_two_that_expect_the_same_offset_wins(shared_engine: Engine) -> None:
    async with two(shared_engine) as logs:
        for at in range(1, 61):
            tries = [log.append(Append(topic="a", data=[b"%d" % n], expect=at)) for n, log in enumerate(logs)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            assert sorted(type(one).__name__ for one in results) == ["LogConflict", "list"]
            winner = next(n for n, one in enumerate(results) if isinstance(one, list))
            assert (await whole(logs[1 - winner], "a"))[-1] == (at, "message", b"%d" % winner)


@scenario
async def test_the_hint_never_denies_a_topic_of_another_process(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        for n in range(50):
            await put(there, f"t{n}", b"x")
            assert here.may_exist(f"t{n}")


@scenario
async def test_two_that_write_at_full_speed_lose_and_repeat_nothing(shared_engine: Engine) -> None:
    async with two(shared_engine) as logs:
        for log in logs:
            log.interest = {"all"}
        commits = [CommitList(log) for log in logs]

        async def write(n: int) -> None:
            for at in range(300):
                mine = Append(topic=f"own/{n}", data=[b"%d" % at], expect=at + 1)
                await logs[n].append(Append(topic="all", data=[b"%d %d" % (n, at)]), mine)

        await asyncio.gather(write(0), write(1))
        events = await whole(logs[0], "all")
        assert [at for at, _, _ in events] == list(range(1, 601))
        for n in (0, 1):
            mine = [(at, line) for at, _, line in events if line.startswith(b"%d " % n)]
            assert [line for _, line in mine] == [b"%d %d" % (n, at) for at in range(300)]
            blocks = [commit.block for commit in commits[n] if commit.block and commit.topic == "all"]
            assert [block.first for block in blocks if block.data[0].startswith(b"%d " % n)] == [at for at, _ in mine]
            assert {commit.topic for commit in commits[n]} == {"all", f"own/{n}"}
            assert sum(commit.topic == "all" for commit in commits[n]) > len(mine)


@scenario
async def test_news_of_others_are_told_in_time_and_only_where_wanted(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        commits = CommitList(here)
        here.interest = {"wanted", "none"}
        for n in range(5):
            await put(there, "unwanted", b"x")
            result = await put(there, "wanted", b"%d" % n)
            await commits.until(lambda: commits, TOLD_S * SLOW)
            assert {(one.topic, one.epoch, one.closed) for one in commits} == {("wanted", result.epoch, False)}
            assert all((one.block.first, one.block.data) == (n + 1, [b"%d" % n]) for one in commits if one.block)
            commits.clear()


@scenario
async def test_news_take_less_than_a_tenth_of_a_second(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        commits = CommitList(here)
        here.interest = {"a"}
        loop = asyncio.get_running_loop()
        took_s: list[float] = []
        for _ in range(10):
            await put(there, "a", b"x")
            began = loop.time()
            await commits.until(lambda: commits)
            took_s.append(loop.time() - began)
            commits.clear()
        assert sorted(took_s)[5] < TOLD_S, took_s


@scenario
async def test_interest_that_begins_late_misses_nothing_that_its_read_did_not_see(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        commits = CommitList(here)
        topics = set[str]()
        here.interest = topics
        await put(there, "a", b"1")
        await asyncio.sleep(0.1)
        topics.add("a")
        head = (await here.read("a", 0)).head
        assert head == 1
        await put(there, "a", b"2")
        await commits.until(lambda: commits, TOLD_S * SLOW)


@scenario
async def test_closing_making_and_deleting_are_told_too(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        commits = CommitList(here)
        here.interest = {"a", "b"}
        await put(there, "a", owner="me")
        await commits.until(lambda: commits, TOLD_S * SLOW)
        await put(there, "a", close=True)
        await commits.until(lambda: commits[-1].closed, TOLD_S * SLOW)
        await there.delete("a")
        await commits.until(lambda: not commits[-1].closed, TOLD_S * SLOW)
        assert await here.read("a", 0) == Slice(epoch="")
        await put(there, "b", b"x", close=True)
        await commits.until(lambda: commits[-1].topic == "b" and commits[-1].closed, TOLD_S * SLOW)
        assert {commit.block.data[0] for commit in commits if commit.block} <= {b"x"}


@scenario
async def test_a_deletion_for_age_is_told_to_others(shared_engine: Engine) -> None:
    old = Retention(closed_age_s=10)
    async with shared_engine.open() as here, shared_engine.open(lambda _: old) as there:
        commits = CommitList(here)
        here.interest = {"a"}
        await put(here, "a", b"x", close=True)
        commits.clear()
        shared_engine.clock.now_s += 20
        await there.sweep()
        await commits.until(lambda: commits, TOLD_S * SLOW)
        assert (await put(here, "a", b"y")).first == 1


@scenario
async def test_a_read_sees_at_once_what_the_other_was_told(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        for n in range(50):
            await put(there, "a", b"%d" % n)
            assert (await here.read("a", 0)).head == n + 1


@scenario
async def test_a_remembered_topic_yields_to_what_the_other_process_did(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        await put(here, "a", b"1", owner="me")
        await put(there, "a", b"2")
        assert (await put(here, "a", b"3")).first == 3
        await put(there, "a", b"4", expect=4)
        with pytest.raises(LogConflict) as error:
            await put(here, "a", b"x", expect=4)
        assert error.value.actual == 5
        await put(there, "a", b"5")
        assert (await put(here, "a", b"6", expect=6)).first == 6
        await put(there, "a", b"7", close=True)
        with pytest.raises(LogConflict) as error:
            await put(here, "a", b"8")
        assert error.value.closed
        await there.delete("a")
        assert (await put(here, "a", b"1", owner="you")).first == 1
        with pytest.raises(WrongOwner):
            await put(there, "a", b"2", owner="me")
        await there.delete("a")
        await put(there, "a", b"1", owner="them")
        with pytest.raises(WrongOwner):
            await put(here, "a", b"2", owner="you")


@scenario
async def test_a_topic_that_was_not_there_is_found_when_the_other_made_it(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        with pytest.raises(LogConflict):
            await put(here, "a", b"x", expect=2)
        await put(there, "a", b"1")
        assert (await put(here, "a", b"2", expect=2)).first == 2
        with pytest.raises(LogConflict):
            await put(here, "b", b"x", expect=2)
        await put(there, "b", owner="me")
        with pytest.raises(WrongOwner):
            await put(here, "b", b"1", owner="you")


@scenario
async def test_keys_hold_across_processes(shared_engine: Engine) -> None:
    async with two(shared_engine) as (here, there):
        first = await put(here, "a", b"1", key="k")
        assert await put(there, "a", b"1", key="k") == Appended(first.epoch, 1, 1, duplicate=True)


@scenario
async def test_events_that_one_trimmed_are_gone_for_the_other_and_their_offsets_stay_taken(
    shared_engine: Engine,
) -> None:
    async with shared_engine.open(lambda _: Retention(age_s=10)) as here, shared_engine.open() as there:
        await put(there, "a", b"1", b"2")
        shared_engine.clock.now_s += 20
        await here.sweep()
        part = await there.read("a", 0)
        assert (part.oldest, part.head, part.blocks) == (3, 2, [])
        assert (await put(there, "a", b"3")).first == 3
        assert (await put(here, "a", b"4")).first == 4


@scenario
async def test_offsets_that_one_never_saw_stay_taken_when_they_were_trimmed_at_once(shared_engine: Engine) -> None:
    async with shared_engine.open(lambda _: Retention(age_s=10)) as here, shared_engine.open() as there:
        await put(there, "a", b"1")
        await put(here, "a", b"2")
        shared_engine.clock.now_s += 20
        await here.sweep()
        await put(there, "b", b"x")
        assert (await put(there, "a", b"3")).first == 3


WRITER = """
import asyncio, sys
from events.log.port import Append
from gateway.core.engines import make_log
from gateway.settings import Settings

async def main(url, count, topics):
    log = make_log(Settings(log=url))
    await log.open()
    async def write(topic):
        for at in range(1, count + 1):
            (done,) = await log.append(Append(topic=topic, data=[b"%d" % at] * 3, expect=at * 3 - 2), patient=True)
            print(topic, done.last, flush=True)
    await asyncio.gather(*(write(topic) for topic in topics))
    await log.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
"""


def start_writer(shared_engine: Engine, env: dict[str, str], count: int, *topics: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, shared_engine.url, str(count), *topics]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


@scenario
async def test_a_real_process_and_this_one_share_a_log(shared_engine: Engine, python_path: dict[str, str]) -> None:
    async with shared_engine.open(keep_all) as log:
        commits = CommitList(log)
        log.interest = {"theirs"}
        with start_writer(shared_engine, python_path, 200, "theirs") as writer:
            for n in range(200):
                await put(log, "mine", b"%d" % n, expect=n + 1)
                await asyncio.sleep(0.001)
            await asyncio.to_thread(writer.wait)
            assert writer.returncode == 0
            assert writer.stdout is not None
            writer.stdout.read()
        assert [at for at, _, _ in await whole(log, "theirs")] == list(range(1, 601))
        assert {commit.topic for commit in commits} == {"mine", "theirs"}


@scenario
async def test_what_a_killed_process_was_told_is_there(
    shared_engine: Engine, python_path: dict[str, str], root: Path
) -> None:
    for round_ in range(2):
        topics = [f"{round_}/{n}" for n in range(20)]
        offsets = dict.fromkeys(topics, 0)
        with start_writer(shared_engine, python_path, 100_000, *topics) as writer:
            assert writer.stdout is not None
            for _ in range(2000):
                topic, last = writer.stdout.readline().split()
                offsets[topic] = int(last)
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().splitlines():
                if len(line.split()) == 2:  # the last line may be cut
                    offsets[line.split()[0]] = max(offsets[line.split()[0]], int(line.split()[1]))
        assert writer.returncode == -signal.SIGKILL
        async with shared_engine.open() as log:
            for topic in topics:
                events = await whole(log, topic)
                assert [line for _, _, line in events] == [b"%d" % (n // 3 + 1) for n in range(len(events))]
                assert [at for at, _, _ in events] == list(range(1, len(events) + 1))
                assert len(events) % 3 == 0
                assert len(events) >= offsets[topic] > 0
                assert (await put(log, topic, b"on")).first == len(events) + 1
                assert flat(await log.read(topic, len(events))) == [(len(events) + 1, "message", b"on")]
