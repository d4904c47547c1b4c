"""A schedule starts each occurrence once, however many processes look, die, or were away when it was due."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from events.log.memory import MemoryLog
from events.log.port import EventLog
from events.log.topics import stored, user_topic
from gateway.access.grants import GrantedLimits, Grants, Principal
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.due import PATIENCE_S, RETRY_S, DueSchedules
from gateway.chat.records.schedule_record import ScheduleRequest, ScheduleView, text_of
from gateway.chat.schedules import MAX_PER_CHAT, MAX_PER_USER, Schedules
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import CHATS
from gateway.core.quota_client import WorkTurn
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, LogConflict, NotFound, TooLarge, TrilaneError
from tests.gateway.chat.test_approvals import CALL, toolbox
from tests.gateway.chat.test_recovery import Door
from tests.support.chats import user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

HOUR_MS = 3_600_000
DUE_MS = 10_000
"""Milliseconds after which what is due has been seen to be."""


@pytest.fixture(autouse=True)
def few_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a minute pass without looks at the log four times a second."""
    monkeypatch.setattr("gateway.core.process.FAILURE_S", 60.0)
    monkeypatch.setattr("gateway.core.memory.LOOK_S", 60.0)


class Clock:
    """Advances only when a test says so."""

    def __init__(self) -> None:
        self.ms = now_ms()

    def __call__(self) -> int:
        return self.ms


class ScheduleStage:
    """Chat `c`, and who starts what is due in it by a test's clock."""

    def __init__(self, stage: ToolStage, clock: Clock, revoked: set[str]) -> None:
        self.stage, self.lane, self.clock = stage, stage.lane, clock
        lane = stage.lane
        self.schedules = Schedules(stage.core.log, stage.core.limiter, stage.core.settings, clock)
        turn = WorkTurn(stage.core.limiter.client, "test")
        self.due = DueSchedules(
            stage.core.log, turn, lane.chats, lane.runs, lane.sending, UIFrames, revoked.__contains__, clock
        )

    async def add(
        self, who: Principal = LOCAL, message_id: str = "s1", chat_id: str = "c", **when: Any
    ) -> ScheduleView:
        return await self.schedules.add(who, chat_id, ScheduleRequest(message=user(message_id, "news?"), **when))

    async def pass_ms(self, milliseconds: int) -> None:
        """Lets time pass, and starts what is due then."""
        self.clock.ms += milliseconds
        await self.due.sweep()
        for run in list(self.lane.runs._runs.values()):  # type: ignore[reportPrivateUsage]
            if not self.stage.upstream.answers or run.outcome:
                await run.over()

    async def started(self) -> list[dict[str, Any]]:
        return [data for name, data in await self.stage.chat_events() if name == "run-started"]

    async def listed(self) -> list[ScheduleView]:
        return await self.schedules.of_chat(LOCAL, "c")

    async def skips(self) -> list[tuple[str, bool]]:
        """Returns what the user's own topic says of occurrences that were skipped, and whether that was the end."""
        part = await self.stage.core.log.read(stored(user_topic(LOCAL.sub)), 0)
        told = [json.loads(data) for block in part.blocks if block.name == "schedule-skipped" for data in block.data]
        return [(skip["code"], skip["ended"]) for skip in told]

    async def names(self) -> list[str]:
        """Returns the topics that schedules and their index leave."""
        names = await self.stage.core.log.names("", 10_000)
        return [name for name in names if name.startswith(("schedule/", "due/"))]


@asynccontextmanager
async def scheduling(
    *answers: ScriptedBody,
    log: EventLog | None = None,
    clock: Clock | None = None,
    revoked: set[str] | None = None,
    tools: FakeToolbox | None = None,
    **settings: Any,
) -> AsyncIterator[ScheduleStage]:
    async with staged(tools or FakeToolbox(), *answers, log=log, **settings) as stage:
        yield ScheduleStage(stage, clock or Clock(), set() if revoked is None else revoked)


def in_s(clock: Clock, seconds: float) -> str:
    return text_of(clock.ms + int(seconds * 1000) + 999)


@simulated
async def test_a_message_is_sent_at_its_time_and_its_answer_is_a_run_in_the_background() -> None:
    async with scheduling(says("None.")) as here:
        view = await here.add(at=in_s(here.clock, 600), model="m")
        assert [one.id for one in await here.listed()] == [view.id]
        await here.pass_ms(590_000)
        assert not await here.stage.core.log.names(CHATS, 1) or not here.stage.upstream.requests
        await here.pass_ms(10_000 + DUE_MS)
        await here.pass_ms(DUE_MS)
        [started] = await here.started()
        assert (started["background"], here.stage.upstream.requests[0][1]) == (True, "m")
        asked, answer = (await here.stage.snapshot()).messages
        assert json.loads(bytes(asked.metadata)) == {"schedule": {"id": view.id, "at": view.next_at}}  # type: ignore
        assert (asked.role, answer.id) == ("user", started["messageId"])
        assert not await here.listed()
        assert not await here.names(), "nothing of it is left"


@simulated
async def test_of_many_occurrences_that_were_missed_one_is_started() -> None:
    async with scheduling(says("One."), says("Two.")) as here:
        view = await here.add(every="PT1H")
        await here.pass_ms(int(7.5 * HOUR_MS))
        [started] = await here.started()
        [listed] = await here.listed()
        assert (listed.id, listed.every_s) == (view.id, 3600)
        assert listed.next_at == text_of(here.clock.ms + HOUR_MS // 2)
        assert listed.last.outcome == "started"  # type: ignore[union-attr]
        assert listed.last.run_id == started["runId"]  # type: ignore[union-attr]
        await here.pass_ms(HOUR_MS // 2 - DUE_MS)
        assert len(await here.started()) == 1
        await here.pass_ms(2 * DUE_MS)
        assert len(await here.started()) == 2
        assert len(await here.names()) == 2, "the schedule, and when it is due"


@simulated
async def test_of_several_processes_one_starts_it() -> None:
    log, clock = MemoryLog(), Clock()
    async with (
        scheduling(*[says("a") for _ in range(9)], log=log, clock=clock) as first,
        scheduling(*[says("b") for _ in range(9)], log=log, clock=clock) as second,
        scheduling(*[says("c") for _ in range(9)], log=log, clock=clock) as third,
    ):
        await first.add(every=60)
        for number in range(1, 4):
            clock.ms += 60_000 + DUE_MS
            await asyncio.gather(*[here.due.sweep() for here in (first, second, third)])
            await asyncio.sleep(1)
            assert len(await first.started()) == number
        assert len({started["runId"] for started in await first.started()}) == 3
        assert len((await first.stage.snapshot()).messages) == 6


@pytest.mark.parametrize("is_lost", [False, True], ids=["written", "lost"])
@pytest.mark.parametrize("every", [None, 60], ids=["once", "every"])
@pytest.mark.parametrize("stops_at", range(1, 5))
def test_wherever_a_process_dies_its_occurrence_is_started_once(
    stops_at: int, every: int | None, *, is_lost: bool
) -> None:
    @simulated
    async def play() -> None:
        log, clock = MemoryLog(), Clock()
        door = Door(log)
        async with (
            scheduling(says("a"), says("a"), log=cast(EventLog, door), clock=clock) as dies,
            scheduling(says("b"), says("b"), log=log, clock=clock) as other,
        ):
            await other.add(every=every, at=in_s(clock, 60) if every is None else None)
            clock.ms += 60_000 + DUE_MS
            door.stop(stops_at, is_lost=is_lost)
            sweeping = asyncio.ensure_future(dies.due.sweep())
            await asyncio.sleep(5)
            await other.due.sweep()
            await asyncio.sleep(30)  # what the dead process has begun is ended by the other
            await other.due.sweep()
            assert len(await other.started()) == 1
            await door.wake()
            await asyncio.wait([sweeping])
            await asyncio.sleep(5)
            assert len(await other.started()) == 1, "who wakes starts it no second time"
            assert len(await other.listed()) == (0 if every is None else 1)
            assert (await other.stage.snapshot()).active_run is None

    play()


@simulated
async def test_it_waits_for_an_answer_that_is_being_written_and_ends_none() -> None:
    body = ScriptedBody(frames(chunk({"content": "Long"})))
    async with scheduling(body, says("None.")) as here:
        saying = asyncio.ensure_future(here.stage.say("go on", background=True))
        await asyncio.sleep(1)
        await here.add(at=in_s(here.clock, 60))
        await here.pass_ms(60_000 + DUE_MS)
        assert len(await here.started()) == 1
        body.send(frames(chunk(finish="stop"), b"[DONE]"))
        body.end()
        await saying
        await here.pass_ms(int(RETRY_S * 1000) + DUE_MS)
        assert len(await here.started()) == 2
        assert not await here.skips()


@pytest.mark.parametrize(("when", "is_over"), [({"every": 60}, False), ({"at": "soon"}, True)])
def test_what_cannot_be_started_for_too_long_is_skipped_and_its_user_is_told(
    when: dict[str, Any], *, is_over: bool
) -> None:
    @simulated
    async def play() -> None:
        async with scheduling(calls(CALL), tools=toolbox()) as here:
            await here.stage.say("refund 7")
            when_due: dict[str, Any] = when if "every" in when else {"at": in_s(here.clock, 60)}
            await here.add(**when_due)
            for _ in range(60):
                await here.pass_ms(int(PATIENCE_S * 1000) // 50 if is_over else 10_000)
            assert set(await here.skips()) == {("chat_busy", is_over)}
            assert len((await here.stage.snapshot()).pending) == 1, "what people are asked is not answered by a clock"
            assert len(await here.listed()) == (0 if is_over else 1)

    play()


@simulated
async def test_limits_of_who_made_it_hold_when_it_is_due() -> None:
    narrow = Principal(sub=LOCAL.sub, grants=Grants(limits=GrantedLimits(requests_per_minute=0)))
    async with scheduling(says("No."), says("No.")) as here:
        await here.add(narrow, every=60)
        for _ in range(20):
            await here.pass_ms(DUE_MS)
        assert set(await here.skips()) == {("rate_limited", False)}
        assert not here.stage.upstream.requests or here.stage.upstream.released == len(here.stage.upstream.requests)


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_with_the_key_that_it_was_made_with_it_ends(how: str) -> None:
    @simulated
    async def play() -> None:
        revoked: set[str] = set()
        async with scheduling(says("One."), says("Two."), revoked=revoked) as here:
            ends_at = (here.clock.ms + 100_000) / 1000 if how == "expired" else None
            await here.add(Principal(sub=LOCAL.sub, key_id="k1", expires_at=ends_at), every=60)
            await here.pass_ms(60_000 + DUE_MS)
            revoked |= {"k1"} if how == "revoked" else set()
            await here.pass_ms(60_000)
            assert len(await here.started()) == 1
            assert await here.skips() == [("key_revoked" if how == "revoked" else "token_expired", True)]
            assert not await here.names()

    play()


@simulated
async def test_a_token_ends_long_before_what_was_scheduled_with_it() -> None:
    async with scheduling(says("One.")) as here:
        await here.add(Principal(sub=LOCAL.sub, expires_at=here.clock.ms / 1000 + 1), every=60)
        await here.pass_ms(60_000 + DUE_MS)
        assert len(await here.started()) == 1


@simulated
async def test_no_schedule_brings_a_deleted_chat_to_life() -> None:
    async with scheduling(says("One."), says("Two."), says("Three.")) as here:
        await here.add(every=60)
        await here.pass_ms(60_000 + DUE_MS)
        await here.pass_ms(60_000)
        assert len(await here.started()) == 2
        await here.lane.chats.delete(LOCAL, "c")
        await here.pass_ms(60_000)
        assert await here.skips() == [("chat_gone", True)]
        assert not await here.names()
        assert not await here.stage.chat_events()


@simulated
async def test_what_is_removed_starts_no_more() -> None:
    async with scheduling(says("One.")) as here:
        view = await here.add(every=60)
        with pytest.raises(NotFound):
            await here.schedules.remove(LOCAL, "another", view.id)
        with pytest.raises(NotFound):
            await here.schedules.remove(Principal(sub="bob"), "c", view.id)
        await here.schedules.remove(LOCAL, "c", view.id)
        with pytest.raises(NotFound):
            await here.schedules.remove(LOCAL, "c", view.id)
        again = await here.add(every=120)
        assert again.id != view.id
        await here.pass_ms(60_000 + DUE_MS)
        assert not here.stage.upstream.requests


@simulated
async def test_the_same_message_is_the_same_schedule_and_there_are_no_more_than_may_be() -> None:
    async with scheduling() as here:
        first = await here.add(every=60)
        assert await here.add(every=3600) == first
        for number in range(1, MAX_PER_CHAT):
            await here.add(message_id=f"m{number}", every=60)
        with pytest.raises(TrilaneError) as error:
            await here.add(message_id="more", every=60)
        assert (error.value.code, error.value.status) == ("too_many_schedules", 409)
        assert str(MAX_PER_CHAT) in error.value.detail
        adding = [here.add(message_id=f"m{n}", chat_id=f"c{n // 10}", every=60) for n in range(MAX_PER_USER)]
        for outcome in await asyncio.gather(*adding, return_exceptions=True):
            assert isinstance(outcome, ScheduleView | LogConflict) or outcome.code == "too_many_schedules"  # type: ignore
        names = [name for name in await here.names() if name.startswith("schedule/")]
        assert len(names) <= MAX_PER_USER


@simulated
async def test_a_message_that_no_chat_takes_is_refused_at_once() -> None:
    async with scheduling() as here:
        for message, error in (
            (user("m", "x" * 70_000), TooLarge),
            (msgspec.structs.replace(user("m", "x"), role="assistant"), BadRequest),
            (user("no id!", "x"), BadRequest),
        ):
            with pytest.raises(error):
                await here.schedules.add(LOCAL, "c", ScheduleRequest(message=message, every=60))
