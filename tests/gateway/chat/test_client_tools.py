"""A call of a client's own tool is an ask for its result, which any device may bring, in either of two ways."""

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.chat.records.messages import UIMessage
from gateway.chat.sending import Parked
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.core.usage import now_ms
from gateway.errors import BadRequest, Gone, TooLarge, TrilaneError
from gateway.limit_settings import Limits
from tests.support.chats import message, user
from tests.support.completions import chunk, frames
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, calls, responded, says, staged
from tests.support.virtual_time import simulated

TOOLS = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("where", "pick")]
WHERE, PICK = ("k1", "where", {}), ("k2", "pick", {"of": 3})
REFUND = ("k3", "crm__refund", {"order": 7})


async def refund(call: FakeCall) -> object:
    return "refunded"


def toolbox() -> FakeToolbox:
    return FakeToolbox((fake_tool("crm__refund", approve="ask", effect="once"), refund))


def with_results(answer: UIMessage, **results: dict[str, Any]) -> UIMessage:
    """Returns an answer as a client holds it that has made these calls; fields of each result by the call's id."""
    parts: list[dict[str, Any]] = [json.loads(bytes(raw)) for raw in answer.parts]
    return message(answer.id, "assistant", *[part | results.get(part.get("toolCallId", ""), {}) for part in parts])


def output(value: object) -> dict[str, Any]:
    return {"state": "output-available", "output": value}


def told_of_calls(stage: ToolStage, request: int) -> list[Any]:
    """Returns the results that the model was sent."""
    messages: list[Any] = list(stage.upstream.requests[request][0]["messages"])  # type: ignore[call-overload]
    return [sent["content"] for sent in messages if sent["role"] == "tool"]


async def asking(stage: ToolStage, **more: Any) -> list[dict[str, Any]]:
    return await stage.say("where am I?", tools=Raw(json.dumps(TOOLS).encode()), temperature=0.5, **more)


@simulated
async def test_a_clients_call_is_an_ask_and_no_client_is_told_anything_new() -> None:
    async with staged(FakeToolbox(), calls(WHERE, PICK), says("There.")) as stage:
        told = await asking(stage)
        assert [record["type"] for record in told] == [
            *("start", "start-step", "message-metadata", "tool-input-start", "tool-input-delta"),
            *("tool-input-start", "tool-input-delta", "tool-input-available", "tool-input-available"),
            *("finish-step", "finish"),
        ]
        snapshot = await stage.snapshot()
        assert [(ask.kind, ask.tool_name, ask.tool_call_id, ask.roles) for ask in snapshot.pending] == [
            ("input", "where", "k1", []),
            ("input", "pick", "k2", []),
        ]
        run_id = snapshot.pending[0].run_id
        assert [ask.approval_id for ask in snapshot.pending] == [f"ap-{run_id}-1", f"ap-{run_id}-2"]
        told = await stage.post(with_results(snapshot.messages[-1], k1=output("here"), k2=output([1])))
        assert [record["type"] for record in told[:4]] == [
            *("start", "tool-output-available", "tool-output-available", "start-step"),
        ]
        assert told_of_calls(stage, 1) == ['"here"', "[1]"]
        assert not (await stage.snapshot()).pending
        assert [message.role for message in (await stage.snapshot()).messages] == ["user", "assistant"]
        posted_again = with_results(snapshot.messages[-1], k1=output("elsewhere"), k2=output([2]))
        assert await stage.post(posted_again) == told, "another device that is late sees what the first has made of it"


@simulated
async def test_a_result_may_be_given_to_the_ask_and_what_goes_on_asks_the_model_as_before() -> None:
    async with staged(FakeToolbox(), calls(WHERE), calls(("k9", "pick", {})), says("There.")) as stage:
        await asking(stage)
        [ask] = (await stage.snapshot()).pending
        for wrong in ({"approved": True}, {"input": {}, "output": 1}):
            with pytest.raises(BadRequest):
                await stage.approve(ask.approval_id, **{"approved": None, **wrong})
        result = await stage.approve(ask.approval_id, None, output={"at": "home"})
        assert (result.approved, result.waiting_for) == (True, [])
        assert result.active_run is not None
        assert (await stage.approve(ask.approval_id, None, output={"at": "home"})).duplicate
        await stage.follow(result.active_run.run_id)
        first, second = (request for request, _ in stage.upstream.requests)
        assert {name: second[name] for name in second if name != "messages"} == {
            name: first[name] for name in first if name != "messages"
        }
        [other] = (await stage.snapshot()).pending
        result = await stage.approve(other.approval_id, approved=False, reason="no camera")
        assert result.active_run is not None
        await stage.follow(result.active_run.run_id)
        assert told_of_calls(stage, 2) == ['{"at":"home"}', "no camera"]
        with pytest.raises(TrilaneError) as decided:
            await stage.approve(ask.approval_id, None, output={"at": "work"})
        assert decided.value.code == "approval_decided"
        finished = [event for name, event in await stage.chat_events() if name == "run-finished"]
        assert finished[0]["request"]["fields"]["temperature"] == 0.5
        assert finished[1]["request"] == {"sameAs": finished[0]["runId"]}, "what is said again is not stored again"


@simulated
async def test_a_gateways_call_and_a_clients_of_one_step_are_both_waited_for() -> None:
    async with staged(toolbox(), calls(WHERE, REFUND, PICK), says("All done.")) as stage:
        await asking(stage)
        asks = {ask.tool_call_id: ask for ask in (await stage.snapshot()).pending}
        assert {call: ask.kind for call, ask in asks.items()} == {"k3": "approval", "k1": "input", "k2": "input"}
        assert len({ask.approval_id for ask in asks.values()}) == 3
        posted = with_results(await stage.answer(), k1=output("here"))
        parked = await stage.lane.sending.send(LOCAL, SendRequest(id="c", message=posted), "", {}, stage_encoder)
        assert isinstance(parked, Parked)
        assert [json.loads(bytes(part))["toolCallId"] for part in parked.results] == ["k1"]
        await stage.approve(asks["k2"].approval_id, None, output=[1])
        assert not stage.toolbox.calls
        told = await stage.post(responded(posted, asks["k3"].approval_id, approved=True))
        assert "tool-output-available" in [record["type"] for record in told]
        assert len(stage.toolbox.calls) == 1
        assert told_of_calls(stage, 1) == ['"here"', '"refunded"', "[1]"]


def stage_encoder(run_id: str) -> Any:
    raise AssertionError(f"{run_id}: nothing was to go on")


@simulated
async def test_a_new_message_brings_the_results_that_its_history_shows_and_leaves_the_others() -> None:
    async with staged(FakeToolbox(), calls(WHERE, PICK), says("As you like.")) as stage:
        await asking(stage)
        shown = with_results(await stage.answer(), k1=output("here"))
        await stage.send(SendRequest(id="c", messages=[user("u1", "where am I?"), shown, user("u2", "forget it")]))
        assert told_of_calls(stage, 1) == ['"here"']
        assert not (await stage.snapshot()).pending
        states = [json.loads(bytes(part))["state"] for part in (await stage.snapshot()).messages[1].parts]
        assert states == ["output-available", "input-available"]


@simulated
async def test_stop_ends_what_waits_for_a_client_and_nothing_goes_on() -> None:
    async with staged(FakeToolbox(), calls(WHERE)) as stage:
        await asking(stage)
        await stage.lane.chats.stop(LOCAL, "c", None)
        snapshot = await stage.snapshot()
        assert (snapshot.pending, snapshot.active_run) == ([], None)
        [part] = await stage.parts("tool-where")
        assert (part["state"], part["errorText"]) == ("output-error", "the user stopped the answer instead")


@simulated
async def test_what_no_client_brings_in_time_goes_on_without_it() -> None:
    async with staged(FakeToolbox(), calls(WHERE), says("I do not know."), ask_s=0.05) as stage:
        await asking(stage)
        [ask] = (await stage.snapshot()).pending
        while now_ms() < ask.expires_at:  # by the wall clock: it may be answered on another machine
            pass
        with pytest.raises(Gone):
            await stage.approve(ask.approval_id, None, output="here")
        await stage.lane.drain()
        assert told_of_calls(stage, 1) == ["nobody answered in time"]


@simulated
async def test_an_error_of_the_clients_tool_reaches_the_model_whole() -> None:
    async with staged(FakeToolbox(), calls(WHERE), says("Hm.")) as stage:
        await asking(stage)
        error = "no position " * 1000
        failed = with_results(await stage.answer(), k1={"state": "output-error", "errorText": error})
        await stage.post(failed)
        assert told_of_calls(stage, 1) == [error]


@simulated
async def test_a_result_for_which_the_chat_has_no_room_is_refused() -> None:
    async with staged(FakeToolbox(), calls(WHERE, PICK), limits=Limits(chat_bytes=20_000)) as stage:
        await asking(stage)
        first, _ = (await stage.snapshot()).pending
        with pytest.raises(TooLarge):
            await stage.approve(first.approval_id, None, output="x" * 20_000)
        assert len((await stage.snapshot()).pending) == 2


@simulated
async def test_a_call_of_an_answer_that_failed_is_no_ask() -> None:
    call = {"index": 0, "id": "k1", "type": "function", "function": {"name": "where", "arguments": "{}"}}
    cut = ScriptedBody(frames(chunk({"tool_calls": [call]})))
    cut.end()
    async with staged(FakeToolbox(), cut) as stage:
        told = await asking(stage)
        assert told[-1]["type"] == "error"
        assert not (await stage.snapshot()).pending
