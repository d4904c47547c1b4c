"""What waits in a chat gets answers of its own, in order, one with the end of the other; nothing else ends its wait."""

import asyncio

import pytest

from events.log.memory import MemoryLog
from gateway.chat.ending import Failed
from gateway.chat.queue import MAX_QUEUED
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.errors import NotFound, TrilaneError
from tests.support.chats import user
from tests.support.followers import LOCAL
from tests.support.readers import settle
from tests.support.steer_stage import asked, begun, events, opening, over, rest, shown, steer, until
from tests.support.tool_stage import says, staged
from tests.support.virtual_time import simulated


@simulated
async def test_what_waits_for_its_turn_starts_with_the_append_that_ends_the_answer_before() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        for message_id in ("u2", "u3"):
            assert (await steer(stage, message_id, message_id, at="turn")).state == "queued"
        rest(body)
        await told
        await over(stage)
        assert await shown(stage) == [
            *(("user", ["hello"]), ("assistant", ["One"])),
            *(("user", ["u2"]), ("assistant", ["Two"])),
            *(("user", ["u3"]), ("assistant", ["Three"])),
        ]
        names = [name for name, _ in await stage.chat_events()]
        assert names[5:] == ["run-finished", "message", "run-started"] * 2 + ["run-finished"]
        assert (await stage.snapshot()).queue == []


@pytest.mark.parametrize("how", ["stopped", "failed"])
@simulated
async def test_any_other_end_pauses_the_queue_until_somebody_goes_on(how: str) -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        for message_id in ("u2", "u3"):
            await steer(stage, message_id, message_id, at="turn")
        if how == "stopped":
            await stage.lane.chats.stop(LOCAL, "c", None)
        else:
            [run] = [stage.lane.runs.get(data["runId"]) for data in await events(stage, "run-started")]
            assert run is not None
            run.stop(Failed(TrilaneError("no")))
        await told
        assert [item.id for item in (await stage.snapshot()).queue] == ["u2", "u3"]
        assert (await stage.snapshot()).active_run is None
        assert (await stage.lane.steering.resume(LOCAL, "c")).run_id is not None
        await over(stage)
        assert [texts for role, texts in await shown(stage) if role == "user"] == [["hello"], ["u2"], ["u3"]]
        assert (await stage.lane.steering.resume(LOCAL, "c")).run_id is None


@simulated
async def test_the_next_message_goes_on_with_a_paused_queue() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Mine"), says("Two")) as stage:
        told = await begun(stage)
        await steer(stage, "u2", at="turn")
        await stage.lane.chats.stop(LOCAL, "c", None)
        await told
        await stage.send(SendRequest(id="c", message=user("u9", "go on")))
        await over(stage)
        assert [texts for role, texts in await shown(stage) if role == "user"] == [["hello"], ["go on"], ["and?"]]


@simulated
async def test_a_steer_to_a_chat_that_is_idle_starts_its_answer() -> None:
    async with staged(FakeToolbox(), says("One"), says("Two")) as stage:
        await stage.say("hello", model="m", system="be kind")
        result = await steer(stage, "u7")
        assert (result.state, result.run_id is not None) == ("started", True)
        await over(stage)
        assert [texts for _, texts in await shown(stage)] == [["hello"], ["One"], ["and?"], ["Two"]]


@simulated
async def test_the_answer_to_what_waited_is_asked_with_what_the_one_before_was() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two")) as stage:
        task = asyncio.ensure_future(stage.say("hello", system="be kind", temperature=0.5))
        await until(lambda: len(stage.lane.runs) > 0)
        await settle()
        await steer(stage, "u2", at="turn")
        rest(body)
        await task
        await over(stage)
        request, _ = stage.upstream.requests[1]
        assert request["temperature"] == 0.5
        assert asked(stage, 1)[0] == ("system", "be kind")


@simulated
async def test_removing_is_for_what_waits_alone() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two")) as stage:
        told = await begun(stage)
        steering = stage.lane.steering
        for message_id in ("u7", "u8"):
            await steer(stage, message_id)
        for _ in range(2):
            await steering.remove(LOCAL, "c", "u8")
        rest(body)
        await told
        for taken in ("u7", "u1"):
            with pytest.raises(TrilaneError) as refused:
                await steering.remove(LOCAL, "c", taken)
            assert (refused.value.status, refused.value.code) == (409, "already_taken")
        with pytest.raises(NotFound):
            await steering.remove(LOCAL, "c", "u9")
        assert (await shown(stage))[1] == ("assistant", ["One", "u7", "Two"])
        assert (await steer(stage, "u8")).state == "duplicate"


@simulated
async def test_a_full_queue_refuses() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body) as stage:
        told = await begun(stage)
        for number in range(MAX_QUEUED):
            await steer(stage, f"q{number}", at="turn")
        with pytest.raises(TrilaneError) as refused:
            await steer(stage, "one-more", at="turn")
        assert (refused.value.status, refused.value.code) == (409, "queue_full")
        await stage.lane.chats.stop(LOCAL, "c", None)
        await told


@simulated
async def test_what_a_dead_process_has_not_taken_is_still_queued() -> None:
    """Its run is cut in the middle, so another process can only end it."""
    log = MemoryLog()
    body = opening("One")
    async with staged(FakeToolbox(), body, log=log) as dead, staged(FakeToolbox(), says("Two"), log=log) as stage:
        await begun(dead)
        [run] = [dead.lane.runs.get(data["runId"]) for data in await events(dead, "run-started")]
        assert run is not None
        run.unwatch()  # from now on it hears and writes nothing
        run.journal.beat = lambda now: now + 1000  # type: ignore[method-assign]
        await steer(stage, "u7")
        await asyncio.sleep(40)
        snapshot = await stage.snapshot()
        assert ([item.id for item in snapshot.queue], snapshot.active_run) == (["u7"], None)
        [finished] = await events(stage, "run-finished")
        assert (finished["code"], finished.get("took", [])) == ("interrupted", [])
        await stage.lane.steering.resume(LOCAL, "c")
        await over(stage)
        assert (await stage.snapshot()).queue == []
        rest(body)
