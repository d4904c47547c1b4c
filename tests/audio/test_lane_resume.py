"""A session of the audio lane is resumed, taken over and made final, whichever process and connection it has."""

import asyncio

import pytest

from audio.lane import KEPT_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from audio.session_log import SessionLog
from audio.session_state import SessionState
from events.log.port import Append
from events.log.topics import new_session
from gateway.errors import BadRequest, LogConflict
from tests.audio.lanes import MoodyLog, Place, check_numbers, events, place, ready
from tests.support.virtual_time import simulated

WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
MORE = [(3, 0.4, 0.1), (4, 0.4, 1.0)]


@simulated
async def test_a_lost_connection_is_resumed_where_it_stopped() -> None:
    async with place() as at:
        client = await at.connect()
        audio = speech_of([*WORDS, *MORE])
        half = int(2.3 * SAMPLE_RATE)  # inside w3
        await client.speak(audio[:half])
        client.cut()
        await asyncio.sleep(20)
        cursor = client.of("final")[-1]["cursor"]
        again = await at.connect(session=client.ready["session"], cursor=cursor)
        await asyncio.sleep(0)
        assert again.ready["resumeFrom"] == again.live.position == half
        await again.speak(audio[half:])
        assert (client.text, again.text) == ("w1 w2", "w3 w4")
        check_numbers(again, client.of("final")[-1]["seq"] + 1)


@simulated
async def test_without_a_cursor_all_finals_are_sent_again() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of([*WORDS, *MORE]))
        client.cut()
        again = await at.connect(session=client.ready["session"])
        await asyncio.sleep(0.1)
        assert again.text == "w1 w2 w3 w4"
        check_numbers(again)


@simulated
async def test_a_final_made_while_nobody_was_connected_is_sent_on_return() -> None:
    async with place() as at:
        client = await at.connect()
        at.model.holds = True
        await client.speak(speech_of(WORDS))
        cursor = client.ready["cursor"]
        client.cut()
        at.model.holds = False
        at.model.release()
        await asyncio.sleep(1)
        again = await at.connect(session=client.ready["session"], cursor=cursor)
        await asyncio.sleep(0.1)
        assert again.text == "w1 w2"
        last = again.of("final")[-1]
        again.cut()
        third = await at.connect(session=client.ready["session"], cursor=last["cursor"])
        await asyncio.sleep(0.1)
        assert third.ready["seq"] == last["seq"] + 1, "the numbers go on after the cursor that was given"


@simulated
async def test_another_process_goes_on_from_what_was_settled() -> None:
    log = MoodyLog()
    async with place(log) as one:
        two = Place(log)
        client = await one.connect()
        audio = speech_of([*WORDS, *MORE])
        await client.speak(audio[: int(2.5 * SAMPLE_RATE)])
        client.cut()
        async with two.lane.opened():
            again = await two.connect(session=client.ready["session"], cursor=client.of("final")[-1]["cursor"])
            await asyncio.sleep(0.1)
            resume_from = again.ready["resumeFrom"]
            assert resume_from == client.of("ack")[-1]["samples"]
            await again.speak(audio[resume_from:])
            assert (client.text, again.text) == ("w1 w2", "w3 w4")
            assert [final["segment"] for final in again.of("final")] == [1]


@simulated
async def test_a_newer_connection_takes_the_session_over() -> None:
    async with place() as at:
        client = await at.connect()
        newer = await at.connect(session=(await ready(client))["session"])
        assert (await client.wait_closed()).code == 4503
        await newer.speak(speech_of(WORDS))
        assert newer.text == "w1 w2"


@simulated
async def test_what_an_older_connection_still_brings_is_not_heard() -> None:
    async with place() as at:
        older = await at.connect()
        newer = await at.connect(session=(await ready(older))["session"])
        await asyncio.gather(older.speak(speech_of(MORE)), newer.speak(speech_of(WORDS)))
        assert newer.text == "w1 w2"


@simulated
async def test_of_two_connections_that_resume_at_once_one_has_the_session() -> None:
    log = MoodyLog()
    async with place(log) as one, place(log) as other:
        client = await one.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        session = client.ready["session"]
        await one.lane.drain()
        both = await asyncio.gather(other.connect(session=session), other.connect(session=session))
        await asyncio.sleep(0.1)
        assert both[0].live is both[1].live
        assert [client.close_frame.code if client.close_frame else 0 for client in both] == [4503, 0]
        await both[1].speak(speech_of(MORE))
        assert both[1].text == "w1 w2 w3 w4"


@simulated
async def test_what_is_kept_becomes_final_when_nobody_comes_back() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of([*WORDS, (3, 0.4, 0.0)]))
        client.cut()
        await asyncio.sleep(KEPT_S + 2)
        assert [event["text"] for event in await events(at, f"audio/{client.ready['session']}")] == ["w1 w2", "w3"]
        again = await at.connect(session=client.ready["session"])
        await asyncio.sleep(0.1)
        assert again.text == "w1 w2 w3"
        assert again.ready["resumeFrom"] == client.live.session.settled


@simulated
async def test_what_others_have_written_to_its_transcript_keeps_no_session_from_going_on() -> None:
    """Older versions let an application publish there."""
    log = MoodyLog()
    async with place(log) as at, place(log) as other:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.cut()
        session = client.ready["session"]
        for data in (b"[]", b"{}", b'{"type":"final","text":"forged"}', b"\xff"):
            await log.append(Append(topic=f"event/audio/{session}", data=[data], name="note"))
        await at.lane.drain()
        again = await other.connect(session=session)
        await again.speak(speech_of(MORE))
        assert again.text == "w1 w2 w3 w4"


@simulated
async def test_a_client_that_was_cut_before_done_is_told_the_rest() -> None:
    async with place(voices=1) as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        cursor = client.of("final")[-1]["cursor"]
        await client.speak(speech_of([(3, 0.4, 0.0)]))
        client.live.stop()
        client.cut()
        await asyncio.sleep(5)
        await at.connect()  # the only place
        again = await at.connect(session=client.ready["session"], cursor=cursor)
        assert (await again.wait_closed()).code == 1000
        assert [message["type"] for message in again.messages] == ["ready", "final", "done"]
        assert again.text == "w3"
        assert again.messages[-1]["segments"] == 2
        assert again.ready["resumeFrom"] * 1.0 == again.messages[-1]["duration"] * SAMPLE_RATE
        await again.live.feed(speech_of(WORDS), again.attachment)
        assert len(await events(at, f"audio/{client.ready['session']}")) == 2


@simulated
async def test_a_client_that_comes_back_while_the_last_final_is_made_is_told_it() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of([(1, 0.8, 0.0)]))
        at.model.holds = True
        client.live.stop()
        client.cut()
        again = await at.connect(session=client.ready["session"])
        at.model.holds = False
        at.model.release()
        assert (await again.wait_closed()).code == 1000
        assert again.text == "w1"


@simulated
async def test_a_cursor_of_something_else_is_refused_and_harms_nothing() -> None:
    async with place() as at:
        client = await at.connect()
        session = (await ready(client))["session"]
        for cursor in ("nonsense", "e00000000.abc.1", str(client.ready["cursor"])[:-1] + "zz"):
            with pytest.raises(BadRequest):
                await at.connect(session=session, cursor=cursor)
        await client.speak(speech_of(WORDS))
        assert client.text == "w1 w2"


@simulated
async def test_a_session_is_taken_from_a_process_that_still_writes() -> None:
    log = MoodyLog()
    await log.open()
    one = SessionLog(log, new_session("me"), "me")
    await one.create()
    two = SessionLog(log, one.session, "me")
    await two.load()
    await one.append(SessionState(settled=512), [])
    await two.claim({}, None)
    assert two.state.settled == 512
    await two.append(two.state, [])
    with pytest.raises(LogConflict):
        await one.append(SessionState(settled=1024), [])


@simulated
async def test_a_session_that_ended_meanwhile_is_not_taken() -> None:
    log = MoodyLog()
    await log.open()
    one = SessionLog(log, new_session("me"), "me")
    await one.create()
    two = SessionLog(log, one.session, "me")
    await two.load()
    await one.append(one.state, [], close=True)
    await two.claim({}, None)
    assert two.is_over
