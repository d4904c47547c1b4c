"""What a new message does while an answer is being written is for its request to say."""

import asyncio
from functools import partial
from typing import Any

import msgspec
import pytest

from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.records.chat_record import CancelAfter, OnDisconnect, RunInfo
from gateway.chat.run_start import AttachedReader
from gateway.chat.sending import Parked, Steered, WaitingReader
from gateway.chat.submission import SendRequest, WhenBusy
from gateway.chat.tools.fake import FakeToolbox
from gateway.chat.topics import run_topic
from gateway.errors import TrilaneError
from tests.support.chats import answer, user
from tests.support.followers import LOCAL
from tests.support.steer_stage import asked, begun, events, opening, over, rest, shown, until
from tests.support.tool_stage import ToolStage, records, says, staged
from tests.support.virtual_time import simulated

OWN_WATCHES = 2
"""What a process follows for itself: the fleet, and what others leave."""


async def post(
    stage: ToolStage, message_id: str, how: WhenBusy, **more: Any
) -> AttachedReader | WaitingReader | Parked | Steered:
    request = SendRequest(id="c", message=user(message_id, message_id), when_busy=how, **more)
    return await stage.lane.sending.send(LOCAL, request, "", {}, partial(UIFrames, ui=6))


async def read(sent: AttachedReader | WaitingReader | Parked | Steered) -> list[dict[str, Any]]:
    """Returns all that a reader gets until its end."""
    assert isinstance(sent, AttachedReader | WaitingReader)
    reader, data = sent.reader, b""
    async with asyncio.timeout(60):
        while not reader.ended:
            news = asyncio.get_running_loop().create_future()
            reader.on_wake = lambda news=news: news.done() or news.set_result(None)
            piece = reader.poll()
            if piece is None:
                await reader.catch_up()
            elif piece:
                data += piece
            elif not reader.ended:
                await news
    assert reader.complete
    reader.close()
    return records(data)


@simulated
async def test_interrupt_is_what_happens_when_nothing_is_said() -> None:
    async with staged(FakeToolbox(), opening("One"), says("Two")) as stage:
        told = await begun(stage)
        sent = await post(stage, "u2", "interrupt")
        assert (await read(sent))[-1]["type"] == "finish"
        assert (await told)[-1]["type"] == "abort"


@simulated
async def test_a_queued_message_streams_its_own_answer_when_its_turn_comes() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        second, third = await post(stage, "u2", "queue"), await post(stage, "u3", "queue", temperature=0.5)
        again = await post(stage, "u2", "queue")
        reading = [asyncio.ensure_future(read(sent)) for sent in (second, third, again)]
        rest(body)
        await told
        answers = [await answer for answer in reading]
        texts = ["".join(record.get("delta", "") for record in answer) for answer in answers]
        assert texts == ["Two", "Three", "Two"]
        assert await read(await post(stage, "u2", "queue")) == answers[0], "it is the same run for ever"
        assert stage.upstream.requests[2][0]["temperature"] == 0.5
        assert [len(await events(stage, name)) for name in ("queued", "run-started")] == [2, 3]
        await over(stage)
        assert len(stage.core.hub) == OWN_WATCHES, "somebody still follows"


@pytest.mark.parametrize("how", ["queue", "steer"])
@simulated
async def test_what_waits_is_answered_in_the_background_if_it_was_sent_so(how: WhenBusy) -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        await post(stage, "u2", how, background=True, on_disconnect="cancel")
        await post(stage, "u3", "queue")
        if how == "steer":  # no answer takes it, so it has one of its own
            await stage.lane.chats.stop(LOCAL, "c", None)
            await told
            await stage.lane.steering.resume(LOCAL, "c")
        else:
            rest(body)
            await told
        await over(stage)
        started = await events(stage, "run-started")
        assert [run.get("background", False) for run in started] == [False, True, False]
        topics = [(await stage.core.log.read(run_topic(run["runId"]), 0)).blocks[0].data[0] for run in started]
        infos = [msgspec.json.decode(data, type=RunInfo) for data in topics]
        assert [info.background for info in infos] == [False, True, False]


@pytest.mark.parametrize("policy", ["continue", "cancel", CancelAfter(5.0)])
@simulated
async def test_an_answer_that_was_waited_for_ends_without_readers_as_its_request_says(policy: OnDisconnect) -> None:
    first, second = opening("One"), opening("Two")
    async with staged(FakeToolbox(), first, second) as stage:
        told = await begun(stage)
        readers = [(await post(stage, "u2", "queue", on_disconnect=policy)) for _ in range(2)]
        rest(first)
        await told
        for sent in readers:
            assert isinstance(sent, WaitingReader)
            await until(lambda sent=sent: sent.reader.poll() is None)
            await sent.reader.catch_up()
        for sent in readers:
            sent.reader.close()  # type: ignore[union-attr]
            await asyncio.sleep(4)  # one of two changes nothing, however long ago
        is_running = len(stage.lane.runs) == 1
        await asyncio.sleep(2)
        assert (is_running, len(stage.lane.runs) == 1) == {"continue": (True, True), "cancel": (False, False)}.get(
            str(policy), (True, False)
        )
        rest(second)
        await over(stage)
        ended = [end["outcome"] for end in await events(stage, "run-finished")]
        assert ended == ["finish", "finish" if policy == "continue" else "abort"]


@simulated
async def test_the_wait_ends_when_the_message_is_removed() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body) as stage:
        told = await begun(stage)
        reading = asyncio.ensure_future(read(await post(stage, "u2", "queue")))
        await stage.lane.steering.remove(LOCAL, "c", "u2")
        assert await reading == []
        rest(body)
        await told
        assert await shown(stage) == [("user", ["hello"]), ("assistant", ["One"])]


@simulated
async def test_a_steer_is_answered_where_it_is_shown_and_the_same_again_is_none() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two")) as stage:
        told = await begun(stage)
        for _ in range(2):
            assert await post(stage, "u2", "steer") == Steered()
        rest(body)
        await told
        assert await post(stage, "u2", "steer") == Steered()
        assert asked(stage, 1)[-1] == ("user", "u2")
        assert await read(await post(stage, "u2", "interrupt")) == await told, "the answer that has taken it"


@simulated
async def test_reject_refuses_while_it_is_busy_and_none_of_them_matters_when_it_is_not() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three"), says("Four")) as stage:
        told = await begun(stage)
        with pytest.raises(TrilaneError) as refused:
            await post(stage, "u2", "reject")
        assert (refused.value.status, refused.value.code) == (409, "chat_busy")
        rest(body)
        await told
        for message_id, how in (("u2", "reject"), ("u3", "queue"), ("u4", "steer")):
            assert (await read(await post(stage, message_id, how)))[-1]["type"] == "finish"  # type: ignore[arg-type]
        await over(stage)


@simulated
async def test_a_message_that_waits_or_is_taken_needs_nobody_who_reads() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        with stage.lane.bodies.hold() as held:
            for message_id, how in (("u2", "queue"), ("u3", "steer")):
                request = SendRequest(id="c", message=user(message_id, message_id), when_busy=how, background=True)  # type: ignore[arg-type]
                assert (await stage.lane.accept(LOCAL, request, "", {}, held)).run_id in (None, "")
        rest(body)
        await told
        await over(stage)
        assert [role for role, _ in await shown(stage)] == ["user", "assistant"] * 2
        assert len(stage.core.hub) == OWN_WATCHES


@simulated
async def test_a_client_that_posts_all_it_shows_leaves_nothing_out_that_it_has_not_seen_yet() -> None:
    body = opening("One")
    async with staged(FakeToolbox(), body, says("Two"), says("Three")) as stage:
        told = await begun(stage)
        shown_so_far = [user("u1", "hello"), answer("half", "On")]
        for message_id in ("u2", "u3"):
            shown_so_far.append(user(message_id, message_id))
            request = SendRequest(id="c", messages=list(shown_so_far), when_busy="queue")
            sent = await stage.lane.sending.send(LOCAL, request, "", {}, partial(UIFrames, ui=6))
            assert isinstance(sent, WaitingReader)
            sent.reader.close()
        rest(body)
        await told
        await over(stage)
        assert asked(stage, 2) == [
            *(("user", "hello"), ("assistant", "One"), ("user", "u2"), ("assistant", "Two"), ("user", "u3")),
        ]


@simulated
async def test_what_a_client_shows_no_more_stays_out_of_what_waits() -> None:
    body = opening("Two")
    async with staged(FakeToolbox(), says("One"), body, says("Three"), says("Four")) as stage:
        await stage.say("forget this")
        told = await begun(stage, "hello", "u9")
        for messages in ([user("u9", "hello"), user("q1", "q1")], [user("q2", "q2")]):
            request = SendRequest(id="c", messages=messages, when_busy="queue")
            sent = await stage.lane.sending.send(LOCAL, request, "", {}, partial(UIFrames, ui=6))
            assert isinstance(sent, WaitingReader)
            sent.reader.close()
        rest(body)
        await told
        await over(stage)
        assert asked(stage, 2) == [("user", "hello"), ("assistant", "Two"), ("user", "q1")]
        assert asked(stage, 3) == [("user", "q2")], "of an empty screen"
