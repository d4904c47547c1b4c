"""What waits is answered by whoever can: by another process where this one leaves, and for nobody who may not send."""

import asyncio
import time
from collections.abc import AsyncIterator

from trilane_agent import Context

from events.log.memory import MemoryLog
from gateway.access.grants import EVERYTHING, Principal
from gateway.access.keys import add_key, revoke_key
from gateway.chat.records.chat_record import MemberRole
from gateway.chat.steering import SteerRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.settings import Limits
from tests.support.chats import user
from tests.support.followers import LOCAL
from tests.support.readers import settle
from tests.support.scripted_upstream import ScriptedBody
from tests.support.steer_stage import asked, begun, events, opening, over, rest, shown, steer, until
from tests.support.tool_stage import ToolStage, says, staged
from tests.support.virtual_time import simulated
from tests.support.work_stage import work_staged

SECRETS = ["x" * 32]
BOB = Principal(sub="bob", grants=EVERYTHING)
AT_ONCE_S = 1.0
RUN_S = 0.2


async def answered(stage: ToolStage, within_s: float) -> None:
    """Waits until nothing waits in the chat, and nothing is being written."""
    async with asyncio.timeout(within_s):
        while (chat := await stage.snapshot()).queue or chat.active_run is not None:  # noqa: ASYNC110 - as `until`
            await asyncio.sleep(0.05)


async def leave_one_waiting(leaving: ToolStage, body: ScriptedBody) -> None:
    """Has a process end while it writes an answer, with one message behind that."""
    told = await begun(leaving)
    await steer(leaving, "u2", "u2", at="turn")
    drain = asyncio.ensure_future(leaving.lane.runs.drain())
    await settle()
    rest(body)
    await told
    await drain


@simulated
async def test_a_process_that_leaves_leaves_what_waits_to_another_at_once() -> None:
    log, body = MemoryLog(), opening("One")
    async with (
        staged(FakeToolbox(), body, log=log) as leaving,
        staged(FakeToolbox(), says("Two"), says("Three"), log=log) as stage,
    ):
        told = await begun(leaving)
        for message_id in ("u2", "u3"):
            await steer(leaving, message_id, message_id, at="turn")
        drain = asyncio.ensure_future(leaving.lane.runs.drain())
        await settle()
        rest(body)
        await told
        await drain
        await answered(stage, AT_ONCE_S)
        assert await shown(stage) == [
            *(("user", ["hello"]), ("assistant", ["One"])),
            *(("user", ["u2"]), ("assistant", ["Two"])),
            *(("user", ["u3"]), ("assistant", ["Three"])),
        ]
        assert asked(stage, 0) == [("user", "hello"), ("assistant", "One"), ("user", "u2")]
        outcomes = [data["outcome"] for data in await events(stage, "run-finished")]
        assert (outcomes, len(leaving.upstream.requests)) == (["finish"] * 3, 1)
        assert [name for name in await stage.notices() if name.startswith("run-")] == [
            "run-started",
            "run-finished",
        ] * 3


def be_away() -> None:
    """Lets the clock on the wall go on, which the test's own does not."""
    time.sleep(2 * RUN_S)


@simulated
async def test_the_only_process_answers_what_waits_when_it_is_back() -> None:
    """The time that it was away is none that the answer may not take."""
    log, body = MemoryLog(), opening("One")
    async with staged(FakeToolbox(), body, log=log) as leaving:
        await leave_one_waiting(leaving, body)
        assert (await leaving.snapshot()).active_run is not None, "it is begun for readers"
        await asyncio.sleep(60)  # it looks after the runs of others all the while
        assert (await leaving.snapshot()).active_run is not None
    be_away()
    async with staged(FakeToolbox(), says("Two"), log=log, run_s=RUN_S) as stage:
        await answered(stage, AT_ONCE_S)
        assert (await shown(stage))[2:] == [("user", ["u2"]), ("assistant", ["Two"])]


@simulated
async def test_what_was_left_can_be_stopped_before_anybody_writes_it() -> None:
    log, body = MemoryLog(), opening("One")
    async with staged(FakeToolbox(), body, log=log) as leaving:
        await leave_one_waiting(leaving, body)
        await leaving.lane.chats.stop(LOCAL, "c", None)
        await asyncio.sleep(60)
    async with staged(FakeToolbox(), log=log) as stage:
        await answered(stage, AT_ONCE_S)
        assert [data["outcome"] for data in await events(stage, "run-finished")] == ["finish", "abort"]
        assert stage.upstream.requests == []


@simulated
async def test_a_worker_of_another_process_answers_what_was_left() -> None:
    may_end = asyncio.Event()

    async def first(ctx: Context) -> AsyncIterator[str]:
        yield "One"
        await may_end.wait()

    async def second(ctx: Context) -> AsyncIterator[str]:
        yield f"{ctx.text} of {len(ctx.messages)}"

    log = MemoryLog()
    async with work_staged(log=log) as leaving, work_staged(log=log) as stage:
        leaving.work(first)
        stage.work(second)
        told = asyncio.ensure_future(leaving.say("hello"))
        await until(lambda: len(leaving.tools.lane.runs) > 0)
        await settle()
        await steer(leaving.tools, "u2", "u2", at="turn")
        drain = asyncio.ensure_future(leaving.tools.lane.runs.drain())
        await settle()
        may_end.set()
        await told
        await drain
        await answered(stage.tools, AT_ONCE_S)
        assert await stage.brief() == ["u2 of 3"]


@simulated
async def test_who_was_taken_out_of_a_chat_or_may_only_read_has_nothing_waiting_there() -> None:
    roles: list[MemberRole | None] = ["viewer", "approver", None]
    for role in roles:
        body = opening("One")
        async with staged(FakeToolbox(), body, says("Two"), jwt_secret=SECRETS) as stage:
            told = await begun(stage)
            chat = (await stage.lane.members.put(LOCAL, "c", "bob", "editor")).shared_id
            for message_id, at in (("b1", "turn"), ("b2", "step"), ("b3", "step")):
                request = SteerRequest(message=user(message_id, message_id), at=at)  # type: ignore[arg-type]
                await stage.lane.steering.steer(BOB, chat, request)
            await steer(stage, "u2", "u2", at="turn")
            await stage.lane.members.put(LOCAL, "c", "bob", "owner")
            assert len((await stage.snapshot()).queue) == 4, "who may still send is still answered"
            if role is None:
                await stage.lane.members.remove(LOCAL, "c", "bob")
            else:
                await stage.lane.members.put(LOCAL, "c", "bob", role)
            assert [item.id for item in (await stage.snapshot()).queue] == ["u2"]
            rest(body)
            await told
            await over(stage)
            assert await shown(stage) == [
                *(("user", ["hello"]), ("assistant", ["One"])),
                *(("user", ["u2"]), ("assistant", ["Two"])),
            ]
            removed = [(data["id"], data["actor"]["sub"]) for data in await events(stage, "unqueued")]
            assert removed == [(name, LOCAL.sub) for name in ("b1", "b2", "b3")]


@simulated
async def test_what_was_sent_with_a_key_that_is_revoked_meanwhile_is_not_answered() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three"), jwt_secret=SECRETS) as stage:
        told = await begun(stage)
        _, key_id = await add_key(stage.core.log, LOCAL.sub, EVERYTHING)
        with_key = Principal(sub=LOCAL.sub, grants=EVERYTHING, key_id=key_id)
        for message_id, who in (("k1", with_key), ("u2", LOCAL), ("k3", with_key)):
            request = SteerRequest(message=user(message_id, message_id), at="turn")
            await stage.lane.steering.steer(who, "c", request)
        await revoke_key(stage.core.log, key_id)
        await settle()
        rest(body)
        await told
        await over(stage)
        assert [texts for role, texts in await shown(stage) if role == "user"] == [["hello"], ["u2"]]
        assert (await stage.snapshot()).queue == []
        removed = [(data["id"], data["actor"]) for data in await events(stage, "unqueued")]
        assert removed == [("k1", {"via": "revoked"}), ("k3", {"via": "revoked"})]
        await stage.lane.steering.steer(LOCAL, "c", SteerRequest(message=user("u4", "u4")))
        await over(stage)
        assert (await shown(stage))[-1] == ("assistant", ["Three"])


@simulated
async def test_who_has_the_chat_open_is_told_what_waits_and_what_does_no_more() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two")) as stage:
        told = await begun(stage)
        await steer(stage, "u2", at="turn")
        await steer(stage, "u3")
        await stage.lane.steering.remove(LOCAL, "c", "u2")
        assert [name for name in await stage.notices() if "queued" in name] == ["queued", "queued", "unqueued"]
        rest(body)
        await told


@simulated
async def test_what_waits_takes_the_place_of_the_answer_before_where_there_is_no_other() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three"), limits=Limits(runs=1)) as stage:
        told = await begun(stage)
        for message_id in ("u2", "u3"):
            await steer(stage, message_id, message_id, at="turn")
        rest(body)
        await told
        await over(stage)
        assert [texts for role, texts in await shown(stage) if role == "assistant"] == [["One"], ["Two"], ["Three"]]
