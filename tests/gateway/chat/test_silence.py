"""A writer counts as gone after a silence that somebody has listened to, and never after one that nobody could hear."""

import asyncio

import msgspec
import pytest

from events.log.hub import Hub
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, TopicInfo
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import HEARTBEAT, RUN
from gateway.chat.runs import Runs
from gateway.chat.silence import LATE_S, SILENCE_S, SilenceWatch
from gateway.chat.sweeper import MAX_SWEEP_S, SWEEP_S, Sweeper
from gateway.chat.topics import run_topic
from gateway.chat.upstreams.failover import Upstreams
from gateway.core.process import Core
from gateway.errors import LogUnavailable
from gateway.settings import Settings
from tests.support.virtual_time import simulated

AWAY_S = 20.0


def looks(watch: SilenceWatch, times: list[float], head: int = 3) -> list[float]:
    """Returns the times of the looks that found topic `t` silent."""
    return [time for time in times if watch.look({"t": head}, time)]


def test_a_head_that_does_not_move_is_silence() -> None:
    assert looks(SilenceWatch(), [100.0 + 2 * n for n in range(10)])[0] == 100.0 + 2 * -(-SILENCE_S // 2)


def test_a_head_that_moves_is_a_sign_of_life() -> None:
    watch = SilenceWatch()
    for n in range(30):
        assert watch.look({"t": n // 5}, 100.0 + 2 * n) == []


def test_a_topic_that_was_closed_meanwhile_is_forgotten() -> None:
    watch = SilenceWatch()
    for n in range(7):
        watch.look({"t": 1}, 100.0 + 2 * n)
    watch.look({}, 114.0)
    assert watch.look({"t": 1}, 116.0) == []


def test_a_silence_in_which_nobody_looked_does_not_count() -> None:
    for gap in (LATE_S + 0.1, 20.0, 40.0, 3600.0):
        watch = SilenceWatch()
        assert looks(watch, [100.0, 102.0, 104.0]) == []
        back = 104.0 + gap
        assert looks(watch, [back + 2 * n for n in range(12)])[0] >= back + SILENCE_S, gap
    assert looks(SilenceWatch(), [100.0, 105.0, 110.0, 115.0]) == [115.0], "a look that is a little late counts"


class AwayLog(MemoryLog):
    """Can be away: then reads fail, or hang, until it is back."""

    def __init__(self, *, hangs: bool) -> None:
        super().__init__()
        self.is_back = asyncio.Event()
        self.is_back.set()
        self._hangs = hangs

    async def topics(self, prefix: str, **how: object) -> list[TopicInfo]:
        if self._hangs:
            await self.is_back.wait()
        if not self.is_back.is_set():
            raise LogUnavailable("the log is away")
        return await super().topics(prefix, **how)  # type: ignore[arg-type]  # as they came


async def outage_of(log: AwayLog) -> None:
    """A run of another process beats before and after the outage of `AWAY_S`, and is not ended; silent, it is."""
    await log.open()
    sweeper = Sweeper(log, Hub(log), Runs(log, Upstreams([], 1.0), Settings(), Core(log, Settings()).metrics))
    sweeper.start()
    topic = run_topic("r")
    info = msgspec.json.encode(RunInfo(run_id="r", sub="me", message_id="a"))
    await log.append(Append(topic=topic, data=[info], name=RUN))
    await asyncio.sleep(4.9)
    log.is_back.clear()
    await asyncio.sleep(AWAY_S)
    log.is_back.set()
    for _ in range(6):  # the writer needs a moment to find out that the log is back
        await asyncio.sleep(SWEEP_S + 0.5)
        assert not (await log.read(topic, 0)).closed
    await log.append(Append(topic=topic, data=[b"{}"], name=HEARTBEAT))
    await asyncio.sleep(SILENCE_S - 2)
    assert not (await log.read(topic, 0)).closed
    await asyncio.sleep(2 + 2 * SWEEP_S)
    assert (await log.read(topic, 0)).closed
    await sweeper.close()


class SlowLog(MemoryLog):
    """Takes its time to list topics, and remembers when it was asked."""

    def __init__(self, takes_s: float) -> None:
        super().__init__()
        self.asked_s: list[float] = []
        self._takes_s = takes_s

    async def topics(self, prefix: str, **how: object) -> list[TopicInfo]:
        self.asked_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._takes_s)
        return await super().topics(prefix, **how)  # type: ignore[arg-type]  # as they came


@simulated
async def test_what_takes_long_to_list_is_listed_more_rarely_up_to_a_bound() -> None:
    for takes_s, pause_s in ((0.001, SWEEP_S), (0.05, SWEEP_S), (0.075, 1.5), (0.1, MAX_SWEEP_S), (3.0, MAX_SWEEP_S)):
        log = SlowLog(takes_s)
        await log.open()
        sweeper = Sweeper(log, Hub(log), Runs(log, Upstreams([], 1.0), Settings(), Core(log, Settings()).metrics))
        sweeper.start()
        await asyncio.sleep(30)
        await sweeper.close()
        second, third = log.asked_s[1:3]
        assert third - second == pytest.approx(takes_s + pause_s), takes_s


class LockedLog(MemoryLog):
    """Can be read while it is locked, and appends once it is not."""

    def __init__(self) -> None:
        super().__init__()
        self.is_free = asyncio.Event()
        self.is_free.set()

    def append(self, *appends: Append, patient: bool = False) -> "asyncio.Future[list[Appended]]":
        if self.is_free.is_set():
            return super().append(*appends, patient=patient)
        return asyncio.ensure_future(self._later(appends))

    async def _later(self, appends: tuple[Append, ...]) -> list[Appended]:
        await self.is_free.wait()
        return await super().append(*appends)


@simulated
async def test_no_run_is_ended_by_a_lock_that_keeps_its_writer_out() -> None:
    log = LockedLog()
    await log.open()
    sweeper = Sweeper(log, Hub(log), Runs(log, Upstreams([], 1.0), Settings(), Core(log, Settings()).metrics))
    sweeper.start()
    topics = [run_topic(name) for name in ("lives", "dead")]
    for topic, name in zip(topics, ("lives", "dead"), strict=True):
        info = msgspec.json.encode(RunInfo(run_id=name, sub="me", message_id="a"))
        await log.append(Append(topic=topic, data=[info], name=RUN))
    log.is_free.clear()
    await asyncio.sleep(AWAY_S)
    assert [(await log.read(topic, 0)).closed for topic in topics] == [False, False]
    log.is_free.set()
    await asyncio.sleep(0.3)  # the writer needs a moment to find out that the lock is gone
    await log.append(Append(topic=topics[0], data=[b"{}"], name=HEARTBEAT))
    await asyncio.sleep(2 * SWEEP_S)
    assert [(await log.read(topic, 0)).closed for topic in topics] == [False, True]
    await sweeper.close()


@simulated
async def test_no_run_is_ended_by_a_log_that_was_away() -> None:
    await outage_of(AwayLog(hangs=False))


@simulated
async def test_no_run_is_ended_by_a_log_that_hung() -> None:
    await outage_of(AwayLog(hangs=True))
