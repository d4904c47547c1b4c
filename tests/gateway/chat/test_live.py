"""A chat is read as a whole: every run of it, in order and as readers of each run get it, from any frame on."""

import asyncio
import json
from functools import partial
from typing import Any

import msgspec
import pytest

from events.log.port import Append
from events.log.topics import stored, stored_name
from gateway.access.grants import Principal
from gateway.access.memberships import new_shared_id
from gateway.chat.dialects import live
from gateway.chat.dialects.ui_message import UIFrames, whole_frames
from gateway.chat.history import History
from gateway.chat.live import LiveChat, LiveDialect, LiveSources
from gateway.chat.live_people import MAX_TYPING, LivePeople
from gateway.chat.records.chat_record import ChatShared, encode_event
from gateway.chat.submission import SendRequest
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import chat_topic, run_topic
from gateway.core.usage import now_ms
from gateway.errors import BadRequest
from routes.live import LiveDesk
from tests.gateway.chat.test_approvals import CALL, REFUND, echo
from tests.support.chats import user
from tests.support.completions import END, chunk
from tests.support.completions import frames as frames_of
from tests.support.followers import LOCAL
from tests.support.scripted_upstream import ScriptedBody
from tests.support.tool_stage import ToolStage, calls, says, staged
from tests.support.virtual_time import simulated

IDLE_S = 30.0
Frame = dict[str, Any]


async def opened(stage: ToolStage, cursor: str | None = None, ui: int = 6) -> LiveChat:
    people = LivePeople(stage.core.log, stage.core.hub)
    sources = LiveSources(stage.core.log, stage.core.hub, stage.lane.chats, stage.lane.runs, people)
    dialect = LiveDialect(partial(live.live_frames, ui=ui), live.event_line, live.people_line, live.gap_line)
    chat = LiveChat(sources, LOCAL, "c", dialect)
    await chat.begin(cursor)
    return chat


async def take(chat: LiveChat, frames: list[Frame]) -> None:
    """Reads on until nothing has come for a while, or the chat is gone."""
    while not chat.ended:
        news = asyncio.get_running_loop().create_future()
        chat.on_wake = lambda news=news: news.done() or news.set_result(None)
        lines = chat.poll()
        if lines is None:
            await chat.catch_up()
        elif lines:
            frames += [json.loads(line) for line in lines]
        else:
            try:
                await asyncio.wait_for(news, IDLE_S)
            except TimeoutError:
                return


async def read(stage: ToolStage, cursor: str | None = None, ui: int = 6) -> list[Frame]:
    chat, frames = await opened(stage, cursor, ui), list[Frame]()
    await take(chat, frames)
    chat.close()
    return frames


def chunks(frames: list[Frame]) -> list[tuple[str | None, Any]]:
    return [(frame.get("cursor"), frame["chunk"]) for frame in frames if "chunk" in frame]


def kinds(frames: list[Frame]) -> list[str]:
    return [frame["chunk"]["type"] if "chunk" in frame else frame.get("event", "gap") for frame in frames]


async def conversation(stage: ToolStage) -> None:
    """A question, a call that is asked about and allowed, and the next question."""
    await stage.say("refund 7")
    [ask] = (await stage.snapshot()).pending
    result = await stage.approve(ask.approval_id)
    assert result.active_run is not None
    await stage.follow(result.active_run.run_id)
    await stage.say("thanks")


def answers() -> list[Any]:
    return [calls(CALL), says("Refunded."), says("You are welcome.")]


async def followed(stage: ToolStage, ui: int = 6) -> list[Frame]:
    """Returns what a reader is told who was there from the beginning."""
    chat, frames = await opened(stage, ui=ui), list[Frame]()
    reading = asyncio.ensure_future(take(chat, frames))
    await conversation(stage)
    await reading
    chat.close()
    return frames


async def by_stream(stage: ToolStage, ui: int) -> list[tuple[str | None, Any]]:
    """Returns the frames that readers of each run get, one run after another, as events with their ids."""
    told: list[tuple[str | None, Any]] = []
    for name, started in await stage.chat_events():
        if name != "run-started":
            continue
        run_id, answer = started["runId"], None
        if started.get("continues"):
            before = await followed_answer(stage, run_id, started["messageId"])
            answer = before
        part = await stage.core.log.read(run_topic(run_id), 0)
        encode = whole_frames(run_id, answer, ui)
        text = b"".join(frame for block in part.blocks for frame in encode(part.epoch, block)).decode()
        for event in text.removesuffix("\n\n").split("\n\n"):
            lines = event.split("\n")
            cursor = next((line[4:] for line in lines if line.startswith("id: ")), None)
            told.append((cursor, json.loads(lines[0][6:])))
    return told


async def followed_answer(stage: ToolStage, run_id: str, message_id: str) -> Any:
    """Returns the answer as it stood when a run began to go on with it."""
    history = History(chat_id="c")
    part = await stage.core.log.read(chat_topic(LOCAL.sub, "c"), 0)
    for block in part.blocks:
        if block.name == "run-started" and json.loads(block.data[0])["runId"] == run_id:
            break
        history.apply(block)
    return history.answer(message_id)


@pytest.mark.parametrize("ui", [5, 6, 7])
@simulated
async def test_every_run_is_told_in_order_and_as_its_own_readers_get_it(ui: int) -> None:
    async with staged(FakeToolbox((REFUND, echo)), *answers()) as stage:
        frames = await followed(stage, ui)
        assert chunks(frames) == await by_stream(stage, ui)
        assert kinds(frames).count("start") == kinds(frames).count("finish") == 3
        events = [frame["event"] for frame in frames if "event" in frame]
        assert events == ["message", "ask", "answered", "message"]


@simulated
async def test_cut_at_any_frame_it_goes_on_as_if_it_had_not_been() -> None:
    """Of the chunks nothing is missing or told twice; an event may be told again."""
    async with staged(FakeToolbox((REFUND, echo)), *answers()) as stage:
        uncut = await followed(stage)
        for cut in range(1, len(uncut) + 1):
            held = uncut[:cut]
            cursors = [index for index, frame in enumerate(held) if "cursor" in frame]
            if not cursors:
                continue
            resumed = await read(stage, held[cursors[-1]]["cursor"])
            assert chunks(resumed) == chunks(uncut[cursors[-1] + 1 :]), f"cut after {cut} frames"
            later = [frame for frame in uncut[cursors[-1] + 1 :] if "event" in frame]
            events = [frame for frame in resumed if "event" in frame]
            assert events[len(events) - len(later) :] == later


@simulated
async def test_without_a_cursor_it_begins_with_the_start_of_the_active_run() -> None:
    slow = ScriptedBody(frames_of(chunk({"role": "assistant", "content": "Slow."})))
    async with staged(FakeToolbox(), says("Hello."), slow) as stage:
        await stage.say("hi")
        saying = asyncio.ensure_future(stage.say("again"))
        await asyncio.sleep(1)
        chat, frames = await opened(stage), list[Frame]()
        reading = asyncio.ensure_future(take(chat, frames))
        await asyncio.sleep(1)
        slow.send(END)
        slow.end()
        await saying
        await reading
        assert kinds(frames)[0] == "start"
        assert kinds(frames).count("finish") == 1
        assert "".join(frame["chunk"].get("delta", "") for frame in frames if "chunk" in frame) == "Slow."
        chat.close()
        assert await read(stage) == []  # nothing is active, and all else is in the snapshot


@simulated
async def test_a_slow_reader_is_told_one_run_after_another_and_holds_no_queue() -> None:
    count = 30
    async with staged(FakeToolbox(), *[says(f"Answer {number}.") for number in range(count)]) as stage:
        chat = await opened(stage)
        for number in range(count):
            await stage.say(f"question {number}")
        assert not chat._lines
        assert not chat._untold
        frames: list[Frame] = []
        await take(chat, frames)
        texts = [frame["chunk"]["delta"] for frame in frames if frame.get("chunk", {}).get("type") == "text-delta"]
        assert texts == [f"Answer {number}." for number in range(count)]
        chat.close()
        assert not [topic for topic in stage.core.hub._tails if topic.startswith("chat/")], "it is still followed"


@simulated
async def test_people_who_type_take_nothing_from_the_chunks_of_a_slow_reader() -> None:
    async with staged(FakeToolbox(), says("One."), says("Two.")) as stage:
        chat, frames = await opened(stage), list[Frame]()
        await stage.say("first")
        name, data = encode_event(ChatShared(new_shared_id()))
        await stage.core.log.append(Append(topic=chat_topic(LOCAL.sub, "c"), name=name, data=[data]))
        await take(chat, frames)
        [topic] = [topic for topic in stage.core.hub._tails if topic.startswith(stored("presence/"))]
        typing = stored_name("typing", IDLE_S, now_ms())
        for number in range(MAX_TYPING + 50):
            await stage.core.log.append(Append(topic=topic, name=typing, data=[b'{"sub":"u%d"}' % number]))
        await stage.say("second")
        await take(chat, frames)
        assert chunks(frames) == await by_stream(stage, 6)
        told = [frame for frame in frames if frame.get("event") == "typing"]
        newest = range(50, MAX_TYPING + 50)
        assert told == [{"event": "typing", "data": {"sub": f"u{number}"}} for number in newest]
        chat.close()


@simulated
async def test_what_cannot_be_told_is_a_gap_and_the_chat_goes_on() -> None:
    async with staged(FakeToolbox(), says("One."), says("Two."), says("Three.")) as stage:
        frames: list[Frame] = []
        chat = await opened(stage)
        await stage.say("first")
        await take(chat, frames)
        chat.close()
        cursor = next(frame["cursor"] for frame in frames if "cursor" in frame)
        [run_id] = {frame["cursor"].partition(".")[0] for frame in frames if "cursor" in frame}
        await stage.say("second")
        await stage.core.log.delete(run_topic(run_id))
        gap = {"gap": "unknown_topic", "snapshot": "/api/chat/c"}
        assert await read(stage, cursor) == [gap]
        assert await read(stage, f"{'0' * 20}.abc.3") == [{"gap": "unknown_cursor", "snapshot": "/api/chat/c"}]
        with pytest.raises(BadRequest, match="not one of ours"):
            await opened(stage, "nonsense")


@simulated
async def test_a_chat_that_is_deleted_ends_its_readers() -> None:
    async with staged(FakeToolbox(), says("One.")) as stage:
        chat, frames = await opened(stage), list[Frame]()
        reading = asyncio.ensure_future(take(chat, frames))
        await stage.say("first")
        await stage.lane.chats.delete(LOCAL, "c")
        await reading
        assert chat.ended
        chat.close()


@simulated
async def test_the_run_of_a_reader_counts_as_attached_to() -> None:
    """So `onDisconnect` holds for sockets too: the run is stopped when the last of them is gone."""
    slow = ScriptedBody(frames_of(chunk({"role": "assistant", "content": "Slow."})))
    async with staged(FakeToolbox(), slow) as stage:
        chat, frames = await opened(stage), list[Frame]()
        reading = asyncio.ensure_future(take(chat, frames))
        request = SendRequest(id="c", message=user("u1", "hi"), on_disconnect="cancel")
        attached = await stage.lane.sending.send(LOCAL, request, "", {}, partial(UIFrames, ui=6), has_stream=False)
        attached.reader.close()  # type: ignore[union-attr]
        await asyncio.sleep(1)
        assert attached.run is not None  # type: ignore[union-attr]
        assert attached.run.outcome is None  # type: ignore[union-attr]
        chat.close()
        await attached.run.over()  # type: ignore[union-attr]
        assert (await stage.chat_events())[-1][1]["outcome"] == "abort"
        reading.cancel()


@simulated
async def test_a_steer_is_a_command_and_what_waits_is_told_without_what_is_its_senders() -> None:
    slow = ScriptedBody(frames_of(chunk({"role": "assistant", "content": "Slow."})))
    async with staged(FakeToolbox(), slow, says("And more.")) as stage:
        saying = asyncio.ensure_future(stage.say("hi"))
        await asyncio.sleep(1)
        chat, frames = await opened(stage), list[Frame]()
        reading = asyncio.ensure_future(take(chat, frames))
        desk = LiveDesk(stage.lane, Principal(sub=LOCAL.sub, key_id="k1"), "c", "")
        message = json.loads(msgspec.json.encode(user("u9", "more")))
        steer = json.dumps({"type": "steer", "ref": 1, "at": "turn", "message": message})
        answer = json.loads(await desk.obey(steer))
        assert (answer["ref"], answer["ok"], answer["id"]) == (1, True, "u9")
        assert json.loads(await desk.obey(steer))["state"] == "duplicate"
        slow.send(END)
        slow.end()
        await saying
        await reading
        [queued] = [frame["data"] for frame in frames if frame.get("event") == "queued"]
        assert (queued["id"], queued["at"], queued["message"]) == ("u9", "turn", message)
        assert queued.keys() == {"id", "message", "at", "actor", "runId"}
        assert kinds(frames).count("finish") == 2
        chat.close()
