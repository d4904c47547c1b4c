"""A thread of AG-UI is a chat: its runs, its client's tools, what it asks of people, and coming back to a run."""

import asyncio
import json
from typing import Any

import pytest

from gateway.chat.dialects.agui_request import RunAgentInput
from gateway.chat.tools.fake import FakeCall, FakeToolbox, fake_tool
from gateway.chat.topics import chat_topic
from gateway.core.leniency import lenient_decoder
from gateway.errors import BadRequest, Gone, NotFound, TrilaneError
from gateway.serving.bodies import Bodies
from gateway.serving.sse import EventStream
from tests.support.dialect_views import AguiClient
from tests.support.followers import LOCAL
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

USER = {"id": "u1", "role": "user", "content": "hello"}
WEATHER = {"name": "weather", "description": "What it is like.", "parameters": {"type": "object"}}
_decode = lenient_decoder(RunAgentInput)


async def refund(call: FakeCall) -> object:
    return "refunded"


def asking() -> FakeToolbox:
    return FakeToolbox((fake_tool("crm__refund", approve="ask"), refund))


async def body_of(stream: EventStream | bytes) -> bytes:
    """Returns all that a client reads of a stream."""
    if isinstance(stream, bytes):
        return stream
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
        else:
            sent.append(message["body"])

    await stream({"type": "http"}, receive, send)
    return b"".join(sent)


async def run(stage: ToolStage, messages: list[dict[str, Any]], run_id: str = "r1", **more: Any) -> AguiClient:
    """Runs a thread as AG-UI's client does, with the messages that it shows."""
    asked = _decode(json.dumps({"threadId": "t", "runId": run_id, "messages": messages, **more}).encode())
    with Bodies(1 << 20, 1 << 20).hold() as held:
        stream = await stage.lane.agui.run(LOCAL, asked, held)
    client = AguiClient([*messages])
    client.feed(await body_of(stream))
    return client


def contents(client: AguiClient) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content")) for message in client.messages]


@simulated
async def test_a_run_answers_and_the_thread_goes_on() -> None:
    async with staged(FakeToolbox(), says("Hello!"), says("Still here.")) as stage:
        first = await run(stage, [USER])
        assert contents(first) == [("user", "hello"), ("assistant", "Hello!")]
        assert (first.end["threadId"], first.end["runId"]) == ("t", "r1")
        assert first.end["outcome"] == {"type": "success"}
        more = {"id": "u2", "role": "user", "content": "and now?"}
        second = await run(stage, [*first.messages, more], "r2")
        assert contents(second)[-1] == ("assistant", "Still here.")
        sent: Any = stage.upstream.requests[1][0]["messages"]
        assert [message["content"] for message in sent] == ["hello", "Hello!", "and now?"]
        with stage.lane.chats.in_memory.hold() as held:
            stored = await stage.lane.chats.snapshot(LOCAL, "t", held)
        assert [message.role for message in stored.messages] == ["user", "assistant", "user", "assistant"]


@simulated
async def test_the_same_run_again_is_the_same_run() -> None:
    async with staged(FakeToolbox(), says("Hello!")) as stage:
        first = await run(stage, [USER])
        again = await run(stage, first.messages)
        assert again.messages == first.messages
        assert len(stage.upstream.requests) == 1


@simulated
async def test_a_tool_of_the_client_takes_two_runs() -> None:
    async with staged(FakeToolbox(), calls(("k1", "weather", {"city": "Bern"})), says("It rains.")) as stage:
        first = await run(stage, [USER], tools=[WEATHER])
        [call] = first.messages[-1]["toolCalls"]
        assert (call["id"], json.loads(call["function"]["arguments"])) == ("k1", {"city": "Bern"})
        assert first.end["metadata"] == {"finishReason": "tool-calls"}
        offered: Any = stage.upstream.requests[0][0]["tools"]
        assert offered[0]["function"]["name"] == "weather"
        result = {"id": "x1", "role": "tool", "toolCallId": "k1", "content": '{"sky":"grey"}'}
        second = await run(stage, [*first.messages, result], "r2", tools=[WEATHER])
        told = [("user", "hello"), ("assistant", None), ("tool", '{"sky":"grey"}'), ("assistant", "It rains.")]
        assert contents(second) == told
        sent: Any = stage.upstream.requests[1][0]["messages"]
        assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
        assert sent[2]["content"] == '{"sky":"grey"}'


@simulated
async def test_a_tool_that_failed_at_the_client_is_told_to_the_model() -> None:
    async with staged(FakeToolbox(), calls(("k1", "weather", {})), says("Sorry.")) as stage:
        first = await run(stage, [USER], tools=[WEATHER])
        failed = {"id": "x1", "role": "tool", "toolCallId": "k1", "content": "", "error": "no network"}
        await run(stage, [*first.messages, failed], "r2", tools=[WEATHER])
        sent: Any = stage.upstream.requests[1][0]["messages"]
        assert sent[2]["content"] == "no network"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"status": "resolved", "payload": {"approved": True}}, "refunded"),
        ({"status": "resolved", "payload": True}, "refunded"),
        ({"status": "resolved"}, "refunded"),
        ({"status": "resolved", "payload": {"approved": False, "reason": "too dear"}}, "this call was not allowed"),
        ({"status": "cancelled"}, "this call was not allowed"),
    ],
)
@simulated
async def test_an_ask_is_an_interrupt_and_its_answer_goes_on(answer: dict[str, Any], told: str) -> None:
    async with staged(asking(), calls(("k1", "crm__refund", {"order": 7})), says("Done.")) as stage:
        first = await run(stage, [USER])
        [asked] = first.end["outcome"]["interrupts"]
        assert (first.end["outcome"]["type"], asked["toolCallId"], asked["reason"]) == ("interrupt", "k1", "tool_call")
        resume = [{"interruptId": asked["id"], **answer}]
        second = await run(stage, first.messages, "r2", resume=resume)
        assert contents(second)[-2:] == [("tool", told), ("assistant", "Done.")]
        assert second.end["outcome"] == {"type": "success"}


@simulated
async def test_an_answer_to_one_of_two_interrupts_says_that_the_other_is_open() -> None:
    two = calls(("k1", "crm__refund", {}), ("k2", "crm__refund", {}))
    async with staged(asking(), two, says("Done.")) as stage:
        first = await run(stage, [USER])
        one, other = [entry["id"] for entry in first.end["outcome"]["interrupts"]]
        second = await run(stage, first.messages, "r2", resume=[{"interruptId": one, "status": "resolved"}])
        assert (second.end["type"], second.end["code"]) == ("RUN_ERROR", "interrupts_open")
        third = await run(stage, first.messages, "r3", resume=[{"interruptId": other, "status": "resolved"}])
        assert contents(third)[-1] == ("assistant", "Done.")


@simulated
async def test_who_comes_back_with_a_cursor_reads_on_and_asks_nothing_anew() -> None:
    async with staged(FakeToolbox(), says("Hello!")) as stage:
        first = await run(stage, [USER])
        asked = _decode(json.dumps({"threadId": "t", "runId": "r1", "messages": [USER]}).encode())
        cursors = [cursor for cursor in dict.fromkeys(first.ids) if cursor]
        for cursor in cursors[:-1]:
            stream = await stage.lane.agui.resume(LOCAL, asked, cursor)
            assert stream is not None
            back = AguiClient([USER, {"id": first.messages[-1]["id"], "role": "assistant", "content": ""}])
            back.feed(await body_of(stream))
            assert back.end == first.end
        assert await stage.lane.agui.resume(LOCAL, asked, cursors[-1]) is None
        assert len(stage.upstream.requests) == 1
        run_id, epoch, offset = cursors[0].split(".")
        with pytest.raises(Gone):
            await stage.lane.agui.resume(LOCAL, asked, f"{'0' * len(run_id)}.{epoch}.{offset}")
        for nowhere in (f"{run_id}.other.{offset}", f"{run_id}.{epoch}.9999"):
            with pytest.raises(Gone):
                await stage.lane.agui.resume(LOCAL, asked, nowhere)
        stranger = _decode(b'{"threadId":"elsewhere","runId":"r1","messages":[]}')
        with pytest.raises(NotFound):
            await stage.lane.agui.resume(LOCAL, stranger, cursors[0])
        wrong = _decode(b'{"threadId":"t","runId":"r1","messages":[5]}')
        with pytest.raises(BadRequest, match="messages"):
            await stage.lane.agui.resume(LOCAL, wrong, cursors[0])


@simulated
async def test_options_and_instructions_reach_the_model() -> None:
    async with staged(FakeToolbox(), says("Yes.")) as stage:
        system = {"id": "s1", "role": "system", "content": "Be brief."}
        context = [{"description": "The page", "value": "cart"}]
        props = {"temperature": 0.5, "team": "blue"}
        await run(stage, [system, USER], context=context, forwardedProps=props, state={"a": 1})
        sent: Any = stage.upstream.requests[0][0]
        assert sent["messages"][0] == {"role": "system", "content": "Be brief.\n\nThe page: cart"}
        assert sent["temperature"] == 0.5
        [started] = [event for name, event in await chat_events(stage) if name == "run-started"]
        assert (started["key"], started["extra"]) == ("r1", {"team": "blue"})


async def chat_events(stage: ToolStage) -> list[tuple[str, Any]]:
    part = await stage.core.log.read(chat_topic(LOCAL.sub, "t"), 0)
    return [(block.name, json.loads(data)) for block in part.blocks for data in block.data]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"messages": [{"id": "x", "role": "tool", "toolCallId": "k9", "content": "1"}]}, "messages[0].toolCallId"),
        ({"messages": [{"id": "x", "role": "nobody", "content": "1"}]}, "messages[0]"),
        ({"messages": [{"id": "x", "role": "user", "content": [{"type": "hologram"}]}]}, "messages[0].content[0]"),
        ({"resume": [{"interruptId": "ap-1.k9", "status": "resolved"}]}, "resume[0].interruptId"),
        ({"forwardedProps": [1]}, "forwardedProps"),
        ({"forwardedProps": {"temperature": "hot"}}, "forwardedProps"),
        ({"runId": "not an id"}, "runId"),
        ({"messages": []}, "no message"),
    ],
)
@simulated
async def test_what_cannot_be_done_is_refused_by_name(more: dict[str, Any], named: str) -> None:
    async with staged(FakeToolbox(), says("No.")) as stage:
        asked = _decode(json.dumps({"threadId": "t", "runId": "r1", "messages": [USER], **more}).encode())
        with pytest.raises(BadRequest) as refusal, Bodies(1 << 20, 1 << 20).hold() as held:
            await stage.lane.agui.run(LOCAL, asked, held)
        assert named in refusal.value.detail
        assert not stage.upstream.requests


@simulated
async def test_an_input_that_was_edited_is_refused_by_name() -> None:
    async with staged(asking(), calls(("k1", "crm__refund", {})), says("Done.")) as stage:
        first = await run(stage, [USER])
        [asked] = first.end["outcome"]["interrupts"]
        payload = {"approved": True, "editedArgs": {"order": 8}}
        with pytest.raises(TrilaneError, match="editedArgs"):
            await run(
                stage,
                first.messages,
                "r2",
                resume=[{"interruptId": asked["id"], "status": "resolved", "payload": payload}],
            )
