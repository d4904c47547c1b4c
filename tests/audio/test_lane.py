"""The audio lane admits sessions, records their finals, checks rights, refuses what is too much, and drains."""

import asyncio

import msgspec
import pytest

from audio.model.desk import WIDEST_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from events.log.port import Block
from events.log.topics import new_session, user_topic
from gateway.access.grants import EVERYTHING, Grants, Principal
from gateway.errors import BadRequest, Forbidden, LogUnavailable, NotFound, Overloaded
from tests.audio.lanes import MoodyLog, check_numbers, events, place, ready
from tests.support.virtual_time import simulated

WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
MORE = [(3, 0.4, 0.1), (4, 0.4, 1.0)]


@simulated
async def test_a_session_from_start_to_done() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        client.live.stop()
        assert (await client.wait_closed()).code == 1000
        assert client.ready["resumeFrom"] == 0
        assert client.text == "w1 w2"
        assert client.messages[-1]["type"] == "done"
        check_numbers(client)


@simulated
async def test_finals_are_in_the_log_before_they_are_sent() -> None:
    log = MoodyLog()
    async with place(log) as at:
        client = await at.connect()
        log.pending = []
        await client.speak(speech_of(WORDS))
        await asyncio.sleep(5)
        assert not client.of("final")
        assert not client.of("ack")
        await log.release()
        await asyncio.sleep(1)
        assert client.text == "w1 w2"


@simulated
async def test_finals_are_events_of_the_session_of_the_user_and_of_a_topic() -> None:
    async with place() as at:
        client = await at.connect(topic="team/standup")
        await client.speak(speech_of(WORDS))
        session = client.ready["session"]
        for topic in (f"audio/{session}", user_topic("me"), "team/standup"):
            [event] = await events(at, topic)
            assert (event["text"], event["session"], event["segment"]) == ("w1 w2", session, 0)


@simulated
async def test_a_session_of_someone_else_is_none() -> None:
    async with place() as at:
        client = await at.connect()
        other = Principal(sub="other", grants=Grants())
        with pytest.raises(NotFound):
            await at.connect(other, session=(await ready(client))["session"])
        with pytest.raises(NotFound):
            await at.connect(session="0" * 36)


@simulated
async def test_nobody_more_is_let_in_while_the_model_is_as_busy_as_it_can_be() -> None:
    async with place() as at:
        desk = (await at.lane.load()).desk
        client = await at.connect()
        await ready(client)
        desk.step_s, desk.busy = WIDEST_S, 0.95
        with pytest.raises(Overloaded, match="too much now"):
            await at.connect()
        client.cut()
        await at.connect(session=client.ready["session"])  # who was let in stays
        await asyncio.sleep(2)
        await at.connect()


@simulated
async def test_rights_and_languages_are_checked_before_anything_is_made() -> None:
    async with place() as at:
        with pytest.raises(Forbidden):
            await at.connect(Principal(sub="me", grants=Grants(audio=False)))
        with pytest.raises(Forbidden):
            await at.connect(Principal(sub="me", grants=Grants()), topic="team/x")
        for topic in (f"audio/{new_session('me')}", "user/me", "user/other", "presence/x"):
            with pytest.raises(Forbidden):
                await at.connect(topic=topic)
        with pytest.raises(BadRequest, match=r"'xx': the model .* it hears English only"):
            await at.connect(language="xx")
        with pytest.raises(BadRequest, match="no speech model 'whisper-99' here"):
            await at.connect(model="whisper-99")
        assert await at.core.log.topics("audio/") == []


@simulated
async def test_a_full_lane_refuses_new_sessions_and_keeps_the_others() -> None:
    async with place(voices=2) as at:
        clients = [await at.connect(), await at.connect()]
        with pytest.raises(Overloaded):
            await at.connect()
        await asyncio.sleep(20)  # they did not speak
        third = await at.connect()
        for client in [*clients, third]:
            await client.speak(speech_of(WORDS))
            assert client.text == "w1 w2"


@simulated
async def test_the_two_sides_of_a_call_are_two_who_may_speak() -> None:
    async with place(voices=3) as at:
        await at.connect(split=True, channels=2)
        with pytest.raises(Overloaded, match="2 people are speaking"):
            await at.connect(split=True, channels=2)
        await at.connect()
    async with place(voices=1) as at:
        await at.connect(split=True, channels=2)  # alone it is served, whatever the machine


@simulated
async def test_a_revoked_key_closes_its_connections_also_one_that_opens_meanwhile() -> None:
    async with place() as at:
        mine = Principal(sub="me", grants=EVERYTHING, key_id="k1")
        clients = [await at.connect(mine), await at.connect(), await at.connect(mine)]
        at.core.keys.take(Block(first=1, data=[b'{"id":"k1","revoked_at":1}'], name="revoked", time_ms=0))
        late = await at.connect(mine)
        for client in (clients[0], clients[2], late):
            assert (await client.wait_closed()).code == 1008
        await clients[1].speak(speech_of(WORDS))
        assert clients[1].text == "w1 w2"


@simulated
async def test_a_drain_sends_clients_away_after_their_last_final() -> None:
    async with place() as at:
        silent, speaking = await at.connect(), await at.connect()
        await speaking.speak(speech_of([*WORDS, (3, 0.4, 0.0)]))
        at.model.holds = True
        await speaking.speak(speech_of([(4, 0.4, 0.7)]))
        draining = asyncio.ensure_future(at.lane.drain())
        assert (await silent.wait_closed()).code == 1012
        await asyncio.sleep(0.5)
        assert speaking.close_frame is None
        at.model.holds = False
        at.model.release()
        assert (await speaking.wait_closed()).code == 1012
        assert speaking.messages[-1] == {
            "seq": len(speaking.messages),
            "type": "drain",
            "resume": speaking.ready["session"],
        }
        assert speaking.text == "w1 w2 w3 w4"
        await draining
        with pytest.raises(Overloaded):
            await at.connect()


@simulated
async def test_frames_that_stop_end_a_segment_by_the_clock() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of([(1, 0.8, 0.0)]))
        await asyncio.sleep(3)
        assert client.text == "w1"


@simulated
async def test_a_lost_connection_does_not_end_a_segment_by_the_clock() -> None:
    async with place() as at:
        client = await at.connect()
        await client.speak(speech_of([(1, 0.8, 0.0)]))
        client.cut()
        await asyncio.sleep(30)
        again = await at.connect(session=client.ready["session"])
        await again.speak(speech_of([(1, 0.4, 1.0)]))
        assert again.text == "w1"


@simulated
async def test_a_slow_model_is_told_as_lag_until_it_is_over() -> None:
    async with place() as at:
        client = await at.connect()
        at.model.holds = True
        await client.speak(speech_of([(number, 0.5, 0.1) for number in range(1, 13)]))
        assert [round(message["seconds"]) for message in client.of("lag")][:2] == [2, 3]
        at.model.holds = False
        at.model.release()
        await client.speak(speech_of([(13, 0.5, 1.0)]))
        await asyncio.sleep(1)
        assert client.of("lag")[-1]["seconds"] == 0
        assert client.text == " ".join(f"w{number}" for number in range(1, 14))


@simulated
async def test_a_log_that_cannot_be_written_ends_the_connection_and_settles_nothing() -> None:
    log = MoodyLog()
    async with place(log) as at:
        client = await at.connect()
        await asyncio.sleep(0.1)
        log.append_failure = LogUnavailable("the disk is full")
        await client.speak(speech_of(WORDS))
        assert (await client.wait_closed()).code == 1013
        assert client.messages[-1]["type"] == "error"
        assert not client.of("ack")
        log.append_failure = None
        again = await at.connect(session=client.ready["session"])
        await asyncio.sleep(0.1)
        assert again.ready["resumeFrom"] == 0
        await again.speak(speech_of(WORDS))
        assert again.text == "w1 w2"


@simulated
async def test_a_session_in_silence_is_told_that_the_log_has_failed() -> None:
    async with place() as at:
        client = await at.connect()
        await client.send_silence(1)
        for end in at.core.on_failure:
            end(LogUnavailable("the file was deleted"))
        assert (await client.wait_closed()).code == 1013
        assert client.messages[-1]["code"] == "log_unavailable"
        again = await at.connect(session=client.ready["session"])
        await again.speak(speech_of(WORDS))
        assert again.text == "w1 w2"


@simulated
async def test_a_reader_that_does_not_read_is_sent_away() -> None:
    async with place() as at:
        client = await at.connect()
        await asyncio.sleep(0.1)
        client._reading.cancel()
        for number in range(600):
            client.live.mark(number)
        ending = await client.attachment.next()
        assert not isinstance(ending, str)
        assert ending.code == 1013


@simulated
async def test_a_session_in_which_nobody_speaks_gives_up_its_place_and_can_be_resumed() -> None:
    async with place() as at:
        at.lane.settings = msgspec.structs.replace(at.lane.settings, session_idle_s=30.0)
        client = await at.connect()
        await client.speak(speech_of(WORDS))
        await client.send_silence(25)
        assert not client.of("error")
        await client.send_silence(10)
        assert (await client.wait_closed()).code == 4002
        [error] = client.of("error")
        assert (error["code"], error["retryable"]) == ("idle", True)
        assert "nobody has spoken for 30 s" in error["message"]
        back = await at.connect(session=client.ready["session"], cursor=client.of("final")[-1]["cursor"])
        assert int(str((await ready(back))["resumeFrom"])) > 2 * SAMPLE_RATE
        await back.speak(speech_of(MORE))
        await asyncio.sleep(25)
        assert not back.of("error")
        assert (client.text, back.text) == ("w1 w2", "w3 w4")
