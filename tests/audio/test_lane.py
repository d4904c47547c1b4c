"""Sessions of a lane: recorded, resumed, taken over, drained, refused."""

import asyncio
import json

import pytest

from audio.lane import KEPT_S
from audio.model.desk import WIDEST_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from events.log.topics import stored, user_topic
from gateway.access.grants import Grants, Principal
from gateway.errors import BadRequest, Forbidden, LogUnavailable, NotFound, Overloaded
from tests.audio.lanes import Client, MoodyLog, Place, place
from tests.support.virtual_time import simulated

WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
MORE = [(3, 0.4, 0.1), (4, 0.4, 1.0)]


async def events(at: Place, topic: str) -> list[dict[str, object]]:
    topic_events = await at.core.log.read(stored(topic), 0)
    return [json.loads(data) for block in topic_events.blocks for data in block.data]


def check_numbers(client: Client, first: int = 1) -> None:
    assert [message["seq"] for message in client.messages] == list(range(first, first + len(client.messages)))


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


async def ready(client: Client) -> dict[str, object]:
    await asyncio.sleep(0.01)
    return client.ready


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
async def test_rights_and_languages_are_checked_before_anything_is_made() -> None:
    async with place() as at:
        with pytest.raises(Forbidden):
            await at.connect(Principal(sub="me", grants=Grants(audio=False)))
        with pytest.raises(Forbidden):
            await at.connect(Principal(sub="me", grants=Grants()), topic="team/x")
        with pytest.raises(BadRequest):
            await at.connect(language="xx")
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
        log.failure = LogUnavailable("the disk is full")
        await client.speak(speech_of(WORDS))
        assert (await client.wait_closed()).code == 1013
        assert client.messages[-1]["type"] == "error"
        assert not client.of("ack")
        log.failure = None
        again = await at.connect(session=client.ready["session"])
        await asyncio.sleep(0.1)
        assert again.ready["resumeFrom"] == 0
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
