"""A live session records each final before it says it, keeps track of who is attached, and ends in one of its ways."""

import asyncio

import pytest

from audio.attachment import TAKEN_OVER, Attachment
from audio.live_session import LAG_S, LAG_STEP_S, SILENCE_S
from audio.model.fake import speech_of
from audio.model.transcriber import SAMPLE_RATE
from audio.options import SessionOptions, SessionTerms
from audio.session_log import SessionLog
from gateway.errors import LogUnavailable
from gateway.serving.client_socket import SocketClose
from tests.audio.live_stage import Stage, silence
from tests.support.readers import settle
from tests.support.virtual_time import simulated

WORDS = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
OPEN = [(1, 0.4, 0.1), (2, 0.4, 0.1)]
"""Words of a segment that is not over."""
MANUAL = SessionOptions(endpointing_s=None)


# What is said


@simulated
async def test_a_final_and_what_it_settles_are_said_once_they_are_recorded() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(WORDS))
    stage.log.pending = []
    assert stage.work() > 0
    assert await client.kinds() == ["ready", "speech_started", "speech_stopped"]
    await stage.log.release()
    final, ack = await client.messages()
    assert (final["type"], final["text"], ack["type"]) == ("final", "w1 w2", "ack")
    assert (await stage.records())[-1]["settled"] == ack["samples"]
    assert final["cursor"] != stage.cursor


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
@simulated
async def test_positions_are_told_in_the_clients_own_samples(rate: int) -> None:
    stage = await Stage().open()
    client = stage.attach(rate)
    await client.send(speech_of(WORDS))
    stage.work()
    *_, ack = await client.messages()
    assert ack["samples"] == stage.live.session.settled * rate // SAMPLE_RATE
    again = stage.attach(rate)
    assert (await again.messages())[0]["resumeFrom"] == len(speech_of(WORDS)) * rate // SAMPLE_RATE


@simulated
async def test_samples_that_are_no_whole_frame_yet_count_as_heard() -> None:
    stage = await Stage().open()
    await stage.attach().send(silence(1.0)[:1000])
    assert (stage.live.position, stage.live.session.position) == (1000, 512)


@simulated
async def test_long_audio_is_heard_a_second_at_a_time() -> None:
    stage = await Stage().open()
    client = stage.attach()
    hearing = asyncio.ensure_future(client.send(silence(3)))
    await asyncio.sleep(0)
    assert stage.live.position == SAMPLE_RATE
    await hearing
    assert stage.live.position == 3 * SAMPLE_RATE


# Who is attached


@simulated
async def test_a_newer_connection_ends_the_one_before_and_that_one_is_heard_no_more() -> None:
    stage = await Stage().open()
    old = stage.attach()
    hearing = asyncio.ensure_future(old.send(silence(3)))
    await asyncio.sleep(0)
    new = stage.attach()
    await hearing
    await old.send(silence(1))
    assert stage.live.position == SAMPLE_RATE
    assert await old.messages() == []
    assert old.ending == TAKEN_OVER
    assert (await new.messages())[0]["resumeFrom"] == SAMPLE_RATE


@simulated
async def test_only_the_connection_it_has_is_detached() -> None:
    stage = await Stage().open()
    old = stage.attach()
    new = stage.attach()
    await asyncio.sleep(5)
    stage.live.detach(old.attachment)
    assert (stage.live.attachment, stage.live.detached_at) == (new.attachment, 0.0)
    stage.live.detach(new.attachment)
    assert (stage.live.attachment, stage.live.detached_at) == (None, 5.0)


@simulated
async def test_a_connection_without_a_session_gets_no_more_of_what_is_said() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(WORDS))
    stage.live.detach(client.attachment)
    stage.work()
    await settle()
    assert "final" not in await client.kinds()
    assert [message.text for message in (await stage.session_log.replay(None))[1]] == ["w1 w2"]  # type: ignore[union-attr]


@simulated
async def test_another_process_that_goes_on_with_the_session_ends_it_here() -> None:
    stage = await Stage().open()
    client = stage.attach()
    there = SessionLog(stage.log, stage.session_log.session, "me")
    await there.load()
    await there.append(there.state, [])
    await settle()
    await client.messages()
    assert (client.ending, stage.ends) == (TAKEN_OVER, 1)
    assert stage.urgency() is None


@simulated
async def test_a_client_that_comes_back_has_the_session_recorded_as_its_own() -> None:
    stage = await Stage().open()
    stage.attach()
    stage.live.record_replay(None, 4, 2)
    await stage.live.recording.wait()
    where = (await stage.records())[-1]
    assert (where.get("replayed_after", 0), where["replayed_head"], where["replayed_seq"]) == (0, 2, 5)


# Time


@pytest.mark.parametrize(("endpointing_s", "ends_s"), [(0.5, SILENCE_S), (3.0, 3.0), (None, None)])
@simulated
async def test_frames_that_stop_end_a_segment_as_silence_does(
    endpointing_s: float | None, ends_s: float | None
) -> None:
    stage = await Stage(SessionOptions(endpointing_s=endpointing_s)).open()
    client = stage.attach()
    await client.send(speech_of(OPEN))
    stage.live.tick((ends_s or 100) - 0.01)
    assert stage.live.session.is_open
    stage.live.tick(ends_s or 100)
    assert stage.live.session.is_open is (ends_s is None)


@simulated
async def test_frames_that_stop_because_the_connection_is_lost_end_nothing() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(OPEN))
    stage.live.detach(client.attachment)
    stage.live.tick(100.0)
    assert stage.live.session.is_open


@simulated
async def test_lag_is_told_when_it_is_worth_it_when_it_changes_and_when_it_is_over() -> None:
    stage = await Stage(SessionOptions(interim_results=False)).open()
    client = stage.attach()
    heard_s = 0.0
    for word, step_s in enumerate((LAG_S - 0.5, 0.6, LAG_STEP_S / 2, LAG_STEP_S), 1):
        audio = speech_of([(word, step_s, 0.0)])
        await client.send(audio)
        heard_s += step_s
        stage.live.tick(0.0)
    stage.live.flush()
    stage.work()
    stage.live.tick(0.0)
    stage.live.tick(0.0)
    lags = [message["seconds"] for message in await client.messages() if message["type"] == "lag"]
    assert lags == [pytest.approx(2.1, abs=0.1), pytest.approx(3.6, abs=0.1), 0.0]


# How it ends


@simulated
async def test_a_session_that_is_stopped_says_its_finals_and_is_done_once() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(OPEN))
    stage.live.stop()
    assert stage.ends == 0
    stage.work()
    await settle()
    kinds = await client.kinds()
    assert kinds[-1] == "done"
    assert "final" in kinds
    assert (client.ending, stage.ends) == (SocketClose(1000, "done"), 1)
    assert (await stage.log.read(stage.session_log.topic, 0)).closed
    assert stage.urgency() is None


@simulated
async def test_a_client_that_does_not_wait_has_its_finals_made_for_whoever_follows() -> None:
    stage = await Stage().open()
    client, stranger = stage.attach(), Attachment(0)
    await client.send(speech_of(OPEN))
    stage.live.abandon(stranger)
    assert stage.live.attachment is client.attachment
    stage.live.abandon(client.attachment)
    stage.work()
    await settle()
    assert len((await stage.session_log.replay(None))[1]) == 1
    assert stage.ends == 1


@simulated
async def test_a_client_that_says_where_turns_end_and_leaves_has_what_it_did_not_commit_forgotten() -> None:
    stage = await Stage(MANUAL).open()
    client = stage.attach()
    await client.send(speech_of(OPEN))
    stage.live.abandon(client.attachment)
    stage.work()
    await settle()
    assert (await stage.session_log.replay(None))[1] == []


@pytest.mark.parametrize("resends", [True, False])
@simulated
async def test_a_drain_leaves_open_only_what_the_client_can_send_again(resends: bool) -> None:
    stage = await Stage().open()
    client = stage.attach(resends=resends)
    await client.send(speech_of(OPEN))
    stage.live.drain()
    assert stage.ends == (1 if resends else 0)
    stage.work()
    await settle()
    kinds = await client.kinds()
    assert (kinds[-1], "final" in kinds) == ("drain", not resends)
    assert (client.ending.code, stage.ends) == (1012, 1)


@simulated
async def test_a_drain_waits_for_finals_that_are_due() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(WORDS))
    stage.live.drain()
    assert stage.ends == 0
    stage.work()
    await settle()
    assert (await client.kinds())[-2:] == ["ack", "drain"]
    assert stage.ends == 1


@simulated
async def test_a_session_that_nobody_comes_back_to_is_made_final_and_lives_on_in_the_log() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(OPEN))
    stage.live.detach(client.attachment)
    stage.live.expire()
    stage.work()
    await settle()
    assert (stage.ends, len((await stage.session_log.replay(None))[1])) == (1, 1)
    assert not (await stage.log.read(stage.session_log.topic, 0)).closed


@simulated
async def test_a_log_that_cannot_be_written_ends_the_connection_with_a_reason() -> None:
    stage = await Stage().open()
    client = stage.attach()
    await client.send(speech_of(WORDS))
    stage.log.append_failure = LogUnavailable("disk full")
    stage.work()
    await settle()
    kinds = await client.messages()
    assert (kinds[-1]["type"], kinds[-1]["code"], kinds[-1]["retryable"]) == ("error", "log_unavailable", True)
    assert "final" not in [message["type"] for message in kinds]
    assert (client.ending.code, stage.ends) == (1013, 1)


@simulated
async def test_a_session_that_was_over_when_its_client_came_back_is_done_at_once() -> None:
    stage = await Stage().open()
    client = stage.attach()
    stage.live.report_done()
    assert await client.kinds() == ["ready", "done"]
    assert (client.ending, stage.ends) == (SocketClose(1000, "done"), 1)


# What is asked


@simulated
async def test_new_terms_hold_from_now_on_and_go_with_the_session() -> None:
    stage = await Stage().open()
    stage.attach()
    stage.live.reconfigure(SessionTerms(8000, MANUAL), "notes")
    await stage.live.recording.wait()
    assert (stage.live.session.options, stage.live.client_samples(SAMPLE_RATE)) == (MANUAL, 8000)
    assert (await stage.records())[-1]["notes"] == "notes"


@simulated
async def test_commit_and_clear_reach_the_last_sample() -> None:
    stage = await Stage(MANUAL).open()
    client = stage.attach()
    for act in (stage.live.clear, stage.live.commit):
        await client.send(speech_of([(1, 0.5, 0.0)])[:-100])
        assert stage.live.uncommitted == 7900
        act()
        assert stage.live.uncommitted == 0
    stage.work()
    await settle()
    assert [message["text"] for message in await client.messages() if message["type"] == "final"] == ["w1"]


@simulated
async def test_a_session_requests_the_model_whenever_something_came() -> None:
    stage = await Stage().open()
    client = stage.attach()
    for act in (stage.live.flush, stage.live.stop, stage.live.drain, lambda: stage.live.mark("m")):
        before = stage.desk.requests
        act()
        assert stage.desk.requests == before + 1
    before = stage.desk.requests
    await client.send(silence(0.01))
    assert stage.desk.requests == before, "not for less than a frame"
