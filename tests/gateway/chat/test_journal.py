"""The one writer of a run's topic by itself: what it appends, when it makes its producer wait, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.chat.closing import Closing
from gateway.chat.ending import Finished, RunEnding
from gateway.chat.inbox import Inbox
from gateway.chat.journal import HEARTBEAT_S, MAX_UNACKNOWLEDGED, NEVER, Journal
from gateway.chat.records.chat_record import RunInfo
from gateway.chat.records.record import HEARTBEAT, RECORD
from gateway.chat.records.recorder import Recorder
from gateway.core.usage import Usage
from gateway.errors import LogConflict, LogUnavailable, TrilaneError
from tests.contract.engines import flat, put
from tests.support.readers import settle
from tests.support.run_stage import SlowLog
from tests.support.virtual_time import simulated

INFO = RunInfo(run_id="r", sub="me", message_id="a", chat_id="c")
DELTA = b'{"type":"text-delta","id":"t0","delta":"x"}'


class Writer:
    """A producer that only counts how often it was made to wait."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")


class OpenJournal(Journal):
    """The journal of a run whose opening is in the log."""

    def __init__(self, log: SlowLog) -> None:
        super().__init__(INFO, log, lambda failure: self.failures.append(failure))
        self.log = log
        self.failures: list[TrilaneError] = []
        self.recorder = Recorder()

    async def names(self) -> list[str]:
        return [name for _, name, _ in flat(await self.log.read(self.topic, 0))]

    def ending(self) -> Closing:
        usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        return Closing(RunEnding(INFO, Finished("stop"), self.recorder, usage), Inbox(INFO, self.log), None)


@asynccontextmanager
async def opened() -> AsyncIterator[OpenJournal]:
    log = SlowLog()
    await log.open()
    journal = OpenJournal(log)
    await log.append(*journal.opening(journal.recorder.start("a")))
    yield journal


# Writing


@simulated
async def test_records_follow_the_opening_in_the_order_in_which_they_were_written() -> None:
    async with opened() as journal:
        journal.write([DELTA, DELTA])
        journal.write_now([b'{"type":"x"}'])
        journal.write([])
        await settle()
        stored = flat(await journal.log.read("run/r", 0))
        assert [name for _, name, _ in stored] == ["run", *[RECORD] * 5]
        assert [data for _, _, data in stored[3:]] == [DELTA, DELTA, b'{"type":"x"}']
        assert journal.failures == []


@simulated
async def test_what_another_process_has_written_makes_the_next_record_fail_and_it_is_reported_once() -> None:
    async with opened() as journal:
        await put(journal.log, "run/r", b'{"type":"error"}', close=True)
        journal.write([DELTA])
        journal.write([DELTA])
        await settle()
        assert [type(failure) for failure in journal.failures] == [LogConflict]
        assert (await journal.names()).count(RECORD) == 2, "start and start-step"


@simulated
async def test_a_failure_that_is_none_of_the_logs_own_is_reported_as_one() -> None:
    async with opened() as journal:
        journal.log.append_failure = ValueError("broken")
        journal.write([DELTA])
        await settle()
        assert [failure.detail for failure in journal.failures] == ["broken"]


@simulated
async def test_a_sign_of_life_is_written_only_after_a_silence() -> None:
    async with opened() as journal:
        loop = asyncio.get_running_loop()
        journal.write([DELTA])
        assert journal.beat(loop.time()) == loop.time() + HEARTBEAT_S
        await asyncio.sleep(HEARTBEAT_S)
        assert journal.beat(loop.time()) == loop.time() + HEARTBEAT_S
        await settle()
        assert (await journal.names())[-1] == HEARTBEAT
        journal.log.append_failure = LogUnavailable("disk full")
        journal.write([DELTA])
        await settle()
        await asyncio.sleep(2 * HEARTBEAT_S)
        assert journal.beat(loop.time()) == NEVER, "a log that takes nothing needs no sign of life"


# Back-pressure


@simulated
async def test_the_producer_that_writes_waits_while_the_log_is_behind_and_so_does_the_one_after_it() -> None:
    async with opened() as journal:
        first, second = Writer(), Writer()
        journal.lead(first)
        journal.log.is_slow = True
        for _ in range(MAX_UNACKNOWLEDGED):
            journal.write([DELTA])
        assert first.calls == []
        journal.write([DELTA])
        journal.write([DELTA])
        assert first.calls == ["pause"]
        journal.lead(second)
        assert second.calls == ["pause"]
        await settle()
        await journal.log.acknowledge(MAX_UNACKNOWLEDGED // 2 + 2)
        assert second.calls == ["pause"], "half of them are still on their way"
        await journal.log.acknowledge(1)
        assert (first.calls, second.calls) == (["pause"], ["pause", "resume"])


# The end


@simulated
async def test_the_end_is_one_append_to_the_run_the_chat_and_its_owners_usage_and_notices() -> None:
    async with opened() as journal:
        finished = await journal.settle(journal.ending())
        assert finished is not None
        assert finished.outcome == "finish"
        assert (await journal.log.read("run/r", 0)).closed
        [commit] = {(await journal.log.read(topic, 0)).head for topic in ("usage/me", "event/user/me")}
        assert commit == 1


@simulated
async def test_an_end_that_another_process_wrote_first_is_not_written_again() -> None:
    async with opened() as journal:
        await put(journal.log, "run/r", b'{"type":"error"}', close=True)
        assert await journal.settle(journal.ending()) is None
        assert (await journal.log.read("usage/me", 0)).blocks == []


@simulated
async def test_a_run_that_was_deleted_does_not_come_to_life_again_by_its_end() -> None:
    async with opened() as journal:
        await journal.log.delete("run/r")
        journal.write([DELTA])
        await settle()
        assert await journal.settle(journal.ending()) is None
        assert await journal.log.names("", 10) == []


@simulated
async def test_the_end_is_tried_again_behind_whatever_became_durable_before_the_failure() -> None:
    async with opened() as journal:
        journal.write([DELTA])
        journal.log.append_failure = LogUnavailable("disk full")
        journal.write([DELTA])
        settling = asyncio.ensure_future(journal.settle(journal.ending()))
        await asyncio.sleep(1)
        assert not settling.done()
        journal.log.append_failure = None
        assert await settling is not None
        assert [name for name in await journal.names() if name == RECORD].count(RECORD) == 2 + 1 + 2
        assert len((await journal.log.read("usage/me", 0)).blocks) == 1
