"""A message for an answer that is being written is taken between two steps, waits, or is removed: nothing else."""

import asyncio

import pytest

from gateway.chat.steering import SteerRequest, SteerResult
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.errors import TrilaneError
from tests.support.chats import message, user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.readers import settle
from tests.support.scripted_upstream import ScriptedBody
from tests.support.steer_stage import asked, begun, events, opening, over, rest, shown, steer, until
from tests.support.tool_stage import calls, says, staged
from tests.support.virtual_time import simulated

FIND = fake_tool("crm__find", approve="auto", effect="read")
REFUND = fake_tool("crm__refund", approve="ask", effect="once")


@simulated
async def test_a_steer_is_taken_when_the_model_has_finished_and_answered_in_one_more_step() -> None:
    body = opening("It is 70 °F")
    async with staged(FakeToolbox(), body, says("That is 21 °C.")) as stage:
        told = await begun(stage)
        result = await steer(stage, "u7", "in Celsius?")
        assert result.state == "accepted"
        assert [item.id for item in (await stage.snapshot()).queue] == ["u7"]
        rest(body, ".")
        types = [record["type"] for record in await told]
        assert types[-9:] == [
            *("finish-step", "data-steer", "start-step", "message-metadata"),
            *("text-start", "text-delta", "text-end", "finish-step", "finish"),
        ]
        assert asked(stage, 1) == [
            *(("user", "hello"), ("assistant", "It is 70 °F."), ("user", "in Celsius?")),
        ]
        assert await shown(stage) == [("user", ["hello"]), ("assistant", ["It is 70 °F.", "u7", "That is 21 °C."])]
        [part] = await stage.parts("data-steer")
        assert part["data"] == {"parts": [{"type": "text", "text": "in Celsius?"}], "by": LOCAL.sub}
        [finished] = await events(stage, "run-finished")
        assert finished["took"] == ["u7"]
        assert (await stage.snapshot()).queue == []


@simulated
async def test_a_steer_waits_for_the_tools_of_the_step_and_goes_with_their_results() -> None:
    go_on = asyncio.Event()

    async def find(call: FakeCall) -> object:
        await go_on.wait()
        return {"found": 1}

    async with staged(FakeToolbox((FIND, find)), calls(("k1", "crm__find", {})), says("Here.")) as stage:
        told = await begun(stage)
        await steer(stage, "u7", "be brief", at="now")
        go_on.set()
        await told
        assert [role for role, _ in asked(stage, 1)] == ["user", "assistant", "tool", "user"]
        assert len(await events(stage, "run-started")) == 1


@simulated
async def test_now_cuts_the_step_and_the_model_goes_on_from_what_it_had_said() -> None:
    body = opening("Once upon a time")
    async with staged(FakeToolbox(), body, says("In short: no.")) as stage:
        told = await begun(stage)
        assert (await steer(stage, "u7", "shorter", at="now")).state == "accepted"
        await settle()
        assert body.aborted
        await told
        assert asked(stage, 1) == [("user", "hello"), ("assistant", "Once upon a time"), ("user", "shorter")]
        assert (await shown(stage))[1] == ("assistant", ["Once upon a time", "u7", "In short: no."])
        [finished] = await events(stage, "run-finished")
        assert (finished["outcome"], finished["took"]) == ("finish", ["u7"])


@simulated
async def test_now_before_the_first_token_and_in_the_middle_of_a_call() -> None:
    call = {"index": 0, "id": "k1", "type": "function", "function": {"name": "crm__find", "arguments": '{"q'}}
    silent, calling = ScriptedBody(), ScriptedBody(frames(chunk({"tool_calls": [call]})))
    async with staged(FakeToolbox((FIND, _never)), silent, calling, says("Fine.")) as stage:
        told = await begun(stage)
        await steer(stage, "u7", at="now")
        await until(lambda: len(stage.upstream.requests) == 2)
        await settle()
        await steer(stage, "u8", at="now")
        records = await told
        assert [record["type"] for record in records].count("tool-input-error") == 1
        assert not [record for record in records if record["type"] == "tool-input-available"]
        assert (silent.is_over, calling.aborted) == (True, True)
        assert (await shown(stage))[1][1][-2:] == ["u8", "Fine."]


@simulated
async def test_the_same_message_again_is_a_duplicate_wherever_it_is() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        first = await steer(stage, "u7")
        assert (await steer(stage, "u7")).state == "duplicate"
        await steer(stage, "u8", at="turn")
        rest(body)
        await told
        await over(stage)
        assert await steer(stage, "u7") == SteerResult("u7", first.run_id, "duplicate")
        assert (await steer(stage, "u8")).state == "duplicate"
        assert (await steer(stage, "u1")).state == "duplicate"
        assert len(await events(stage, "queued")) == 2


@simulated
async def test_a_run_that_is_not_active_is_refused_or_waited_for() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two")) as stage:
        told = await begun(stage)
        with pytest.raises(TrilaneError) as refused:
            await steer(stage, "u7", run_id="other", otherwise="reject")
        assert (refused.value.status, refused.value.code) == (409, "run_not_active")
        assert (await steer(stage, "u7", run_id="other")).state == "queued"
        rest(body)
        await told
        await over(stage)
        assert [role for role, _ in await shown(stage)] == ["user", "assistant"] * 2
        with pytest.raises(TrilaneError) as refused:
            await steer(stage, "u8", otherwise="reject")
        assert refused.value.code == "run_not_active"


@simulated
async def test_a_parked_answer_takes_a_steer_once_its_asks_are_answered() -> None:
    async def refund(call: FakeCall) -> object:
        return "ok"

    asking = calls(("k1", "crm__refund", {}))
    async with staged(FakeToolbox((REFUND, refund)), asking, says("Done.")) as stage:
        await stage.say("refund")
        assert (await steer(stage, "u7", "and tell me")).state == "queued"
        [ask] = (await stage.snapshot()).pending
        await stage.approve(ask.approval_id)
        await over(stage)
        assert [role for role, _ in asked(stage, 1)] == ["user", "assistant", "tool", "user"]
        assert (await stage.snapshot()).queue == []


@simulated
async def test_a_posted_history_is_known_to_have_what_an_answer_has_taken() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        await steer(stage, "u7", "and two?")
        rest(body)
        await told
        answer = (await stage.snapshot()).messages[-1]
        posted = [user("u1", "hello"), answer, user("u7", "and two?"), user("u9", "three?")]
        await stage.send(SendRequest(id="c", messages=posted))
        assert asked(stage, 2) == [
            *(("user", "hello"), ("assistant", "One"), ("user", "and two?"), ("assistant", "Two")),
            ("user", "three?"),
        ]
        assert [role for role, _ in await shown(stage)] == ["user", "assistant"] * 2


@simulated
async def test_no_client_sends_what_no_user_could_have_sent() -> None:
    async with staged(FakeToolbox(), says("One")) as stage:
        await stage.say("hello")
        for wrong in (message("u7", "assistant", "I"), message("u 7", "user", "x"), message("u7", "user", {"text": 1})):
            with pytest.raises(TrilaneError) as refused:
                await stage.lane.steering.steer(LOCAL, "c", SteerRequest(message=wrong))
            assert refused.value.status in (400, 422)


async def _never(call: FakeCall) -> object:
    raise AssertionError("nobody makes a call that was cut")
