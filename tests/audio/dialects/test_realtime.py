"""OpenAI's Realtime transcription: what a session says as its events, and what its clients say done to a session."""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from audio.attachment import MAX_UNSENT, SocketClose
from audio.decoders.formats import ALAW, decoder
from audio.dialects.realtime.client import RealtimeClient, error_event, open_client
from audio.dialects.realtime.events import Cleared, Realtime, Reply, Standing
from audio.dialects.realtime.messages import WORDS, BufferCleared, Input, PcmFormat, SessionChange, TranscriptionSession
from audio.dialects.realtime.terms import changed, noted, recalled, terms_of
from audio.lane import KEPT_S
from audio.messages import (
    Ack,
    Aside,
    Failure,
    Final,
    Gap,
    Partial,
    Ready,
    ServerMessage,
    SpeechStarted,
    SpeechStopped,
    Start,
    TurnOver,
    Word,
)
from audio.meter import ALLOWANCE_S
from audio.model.fake import spoken
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.segment import Turn
from gateway.errors import BadRequest, NotFound, Overloaded, TooLarge
from routes.audio import close_code
from tests.audio.feeding import drain
from tests.audio.lanes import ME, Place, place
from tests.support.virtual_time import simulated

Event = dict[str, Any]
WORDS_1 = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
WORDS_2 = [(3, 0.4, 0.1), (4, 0.4, 1.0)]
AT_16K = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}}}}
MANUAL = {"audio": {"input": {**AT_16K["audio"]["input"], "turn_detection": None}}}
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


def session_of(change: Event | None = None) -> TranscriptionSession:
    fresh = TranscriptionSession(id="sess_0123456789abcdef")
    return changed(fresh, msgspec.convert(change or {}, SessionChange))


def told(dialect: Realtime, messages: Sequence[ServerMessage | Aside]) -> list[Event]:
    return [msgspec.json.decode(msgspec.json.encode(event)) for message in messages for event in dialect.say(message)]


def final(turn: int, start: float, text: str, **more: Any) -> Final:
    end = start + 1
    given = {"segment": 0, "confidence": 1.0, "language": "en", "cursor": f"c{start}", **more}
    return Final(turn=turn * SAMPLE_RATE, text=text, start=start, end=end, **given)


def partial(turn: int, segment: int, stable: str) -> Partial:
    return Partial(turn=turn * SAMPLE_RATE, segment=segment, text=f"{stable} perhaps", stable=stable, start=0, end=0)


def started(turn: int) -> SpeechStarted:
    return SpeechStarted(at=turn + 0.3, turn=turn * SAMPLE_RATE)


def stopped(turn: int, end: float) -> SpeechStopped:
    return SpeechStopped(at=end - 0.2, turn=turn * SAMPLE_RATE, end=end)


def over(turn: int) -> TurnOver:
    return TurnOver(turn * SAMPLE_RATE)


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["type"] for event in events]


# Messages to events


def test_an_utterance_is_told_in_the_documented_order() -> None:
    events = told(
        Realtime(session_of()),
        [
            Ready(session="s", resume_from=0, cursor="c"),
            started(1),
            partial(1, 0, "hello"),
            partial(1, 0, "hello there"),
            stopped(1, 3.5),
            final(1, 1.0, "Hello there, you."),
            over(1),
            Ack(samples=99),
        ],
    )
    assert kinds(events) == [
        "session.created",
        "input_audio_buffer.speech_started",
        DELTA,
        DELTA,
        "input_audio_buffer.speech_stopped",
        *COMMITTED,
        DELTA,
        COMPLETED,
    ]
    assert events[1]["audio_start_ms"] == 1000, "with what is kept before the speech"
    assert events[4]["audio_end_ms"] == 3500
    [item] = {event["item_id"] for event in events if "item_id" in event}
    assert events[6]["item"] == {
        "id": item,
        "object": "realtime.item",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_audio", "transcript": None}],
    }
    assert "".join(event["delta"] for event in events if event["type"] == DELTA) == "hello there you."
    assert events[-1]["transcript"] == "Hello there, you."
    assert events[-1]["usage"] == {"type": "duration", "seconds": 2.5}
    assert (events[-1]["start_ms"], events[-1]["end_ms"], events[-1]["cursor"]) == (1000, 3500, "c1.0")


def test_each_item_names_the_one_before() -> None:
    events = told(Realtime(session_of()), [started(1), stopped(1, 2), over(1), started(3), stopped(3, 4), over(3)])
    committed = [event for event in events if event["type"] == COMMITTED[0]]
    assert committed[0]["previous_item_id"] is None
    assert committed[1]["previous_item_id"] == committed[0]["item_id"] != committed[1]["item_id"]


def test_an_item_of_several_segments_is_completed_once() -> None:
    events = told(
        Realtime(session_of()),
        [
            started(1),
            partial(1, 0, "one"),
            final(1, 1.0, "One two", words=[Word("One", 1, 1.5, 0.9)]),
            partial(1, 1, "three"),
            stopped(1, 40),
            final(1, 24.0, "three four", words=[], segment=1),
            over(1),
        ],
    )
    [completed] = [event for event in events if event["type"] == COMPLETED]
    assert completed["transcript"] == "One two three four"
    assert completed["words"] == [{"text": "One", "start": 1, "end": 1.5, "probability": 0.9}]
    assert completed["cursor"] == "c24.0"
    assert "".join(event["delta"] for event in events if event["type"] == DELTA) == "one two three four"


def test_the_tail_of_the_deltas_follows_the_words_that_were_shown_however_the_final_puts_them() -> None:
    messages = [started(1), partial(1, 0, "ask not what your"), final(1, 1.0, "And asked not what your country can")]
    deltas = [event["delta"] for event in told(Realtime(session_of()), messages) if event["type"] == DELTA]
    assert deltas == ["ask not what your", " country can"]


def test_an_item_without_words_is_completed_too() -> None:
    events = told(Realtime(session_of()), [started(1), stopped(1, 2), over(1)])
    assert events[-1]["transcript"] == ""
    assert events[-1]["usage"]["seconds"] == 1.0


def test_lost_audio_is_told_and_an_item_of_nothing_else_has_failed() -> None:
    gap = Gap(turn=SAMPLE_RATE, start=1.0, end=2.0, reason="overload")
    events = told(Realtime(session_of()), [started(1), stopped(1, 2), gap, over(1)])
    assert events[-2] == {
        "type": "input_audio_buffer.gap",
        "audio_start_ms": 1000,
        "audio_end_ms": 2000,
        "reason": "overload",
    }
    assert events[-1]["type"] == "conversation.item.input_audio_transcription.failed"
    assert events[-1]["error"]["code"] == "overload"


def test_what_was_heard_beside_a_gap_is_the_transcript() -> None:
    gap = Gap(turn=SAMPLE_RATE, start=1.0, end=2.0, reason="overload")
    events = told(Realtime(session_of()), [started(1), gap, final(1, 2.0, "the rest"), stopped(1, 4), over(1)])
    assert (events[-1]["type"], events[-1]["transcript"]) == (COMPLETED, "the rest")


def test_without_turn_detection_nobody_is_told_of_speech() -> None:
    events = told(Realtime(session_of(MANUAL)), [started(1), stopped(1, 2), final(1, 1.0, "a"), over(1)])
    assert kinds(events) == [*COMMITTED, DELTA, COMPLETED]


def test_what_was_cleared_is_no_item() -> None:
    dialect = Realtime(session_of(MANUAL))
    events = told(dialect, [started(1), partial(1, 0, "no"), Cleared(), Standing([])])
    assert kinds(events) == [DELTA, "input_audio_buffer.cleared"]


def test_what_is_said_again_has_its_old_id_and_no_deltas() -> None:
    messages = [started(1), stopped(1, 2), final(1, 1.0, "one"), over(1)]
    first = told(Realtime(session_of()), messages)
    again = told(Realtime(session_of()), [final(1, 1.0, "one"), Standing([])])
    assert kinds(again) == [*COMMITTED, COMPLETED]
    assert again[-1]["item_id"] == first[-1]["item_id"]
    assert again[-1]["transcript"] == "one"


def test_an_item_that_is_not_over_goes_on_after_a_reconnection() -> None:
    dialect = Realtime(session_of())
    before = told(dialect, [started(1), partial(1, 0, "one")])
    after = told(dialect, [Ready(session="s", resume_from=0, cursor="c"), Standing([Turn(SAMPLE_RATE, None)])])
    assert kinds(after) == ["session.created"]
    rest = told(dialect, [partial(1, 0, "one two"), stopped(1, 3), final(1, 1.0, "one two"), over(1)])
    assert kinds(rest) == [DELTA, "input_audio_buffer.speech_stopped", *COMMITTED, COMPLETED]
    assert rest[0]["delta"] == " two"
    assert rest[0]["item_id"] == before[0]["item_id"]


def test_what_got_lost_on_the_way_to_the_last_connection_is_told() -> None:
    dialect = Realtime(session_of())
    told(dialect, [started(1)])
    events = told(dialect, [Standing([Turn(5 * SAMPLE_RATE, 6 * SAMPLE_RATE), Turn(7 * SAMPLE_RATE, None)])])
    assert kinds(events) == [
        *["input_audio_buffer.speech_stopped", *COMMITTED, COMPLETED],
        *["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", *COMMITTED],
        "input_audio_buffer.speech_started",
    ]


def test_a_failure_is_an_error_and_asides_are_as_they_are() -> None:
    events = told(
        Realtime(session_of()), [Failure(code="x", message="m", retryable=True), Reply(event=BufferCleared())]
    )
    assert (events[0]["error"]["type"], events[0]["error"]["code"]) == ("server_error", "x")
    assert events[1] == {"type": "input_audio_buffer.cleared"}


# Sessions


@pytest.mark.parametrize(
    ("detection", "endpointing_s"),
    [
        (None, None),
        ({"type": "server_vad"}, 0.5),
        ({"type": "server_vad", "silence_duration_ms": 900, "create_response": False}, 0.9),
        ({"type": "semantic_vad"}, 1.0),
        ({"type": "semantic_vad", "eagerness": "low"}, 2.0),
        ({"type": "semantic_vad", "eagerness": "high"}, 0.5),
    ],
)
def test_turn_detection_is_endpointing(detection: Event | None, endpointing_s: float | None) -> None:
    asked = terms_of(session_of({"audio": {"input": {"turn_detection": detection}}})).asked
    assert asked.endpointing_s == endpointing_s
    assert asked.turns


def test_only_what_is_named_is_changed() -> None:
    vad = {"type": "server_vad", "threshold": 0.7}
    now = session_of({"audio": {"input": {"turn_detection": vad, "transcription": {"language": "en"}}}})
    change = {"audio": {"input": {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 100}}}}
    made = changed(now, msgspec.convert(change, SessionChange))
    asked = terms_of(made).asked
    assert (asked.threshold, asked.prefix_s, asked.language) == (0.7, 0.1, "en")
    cleared = changed(made, msgspec.convert({"audio": {"input": {"transcription": None}}}, SessionChange))
    assert terms_of(cleared).asked.language is None
    assert terms_of(cleared).asked.threshold == 0.7


def test_keywords_go_along_with_the_prompt() -> None:
    transcription = {"prompt": "A speech.", "keywords": ["Trilane", "Kennedy"], "model": "gpt-4o-transcribe"}
    asked = terms_of(session_of({"audio": {"input": {"transcription": transcription}}})).asked
    assert asked.prompt == "A speech. Trilane, Kennedy"
    with pytest.raises(BadRequest, match="1000 characters"):
        session_of({"audio": {"input": {"transcription": {"prompt": "x" * 990, "keywords": ["y" * 20]}}}})


def test_times_of_words_come_when_they_are_included() -> None:
    assert not terms_of(session_of({"include": ["item.input_audio_transcription.logprobs"]})).asked.words
    session = session_of({"include": [WORDS]})
    assert terms_of(session).asked.words
    assert recalled(noted(session)) == session
    assert recalled("") is None


def test_a_session_asks_for_pcm_at_24_khz_unless_told_otherwise() -> None:
    assert terms_of(session_of()).sample_rate == 24_000
    assert Input().format == PcmFormat(rate=24_000)
    assert terms_of(session_of({"audio": {"input": {"format": {"type": "audio/pcma"}}}})).sample_rate == 8000


# Clients


class Caller:
    """One connection, at 16 kHz, where nothing is resampled."""

    def __init__(self, client: RealtimeClient) -> None:
        self.client = client
        self.events: list[Event] = []
        self.ending: SocketClose | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while self.ending is None:
            said = await self.client.next()
            if isinstance(said, SocketClose):
                self.ending = said
            else:
                self.events.append(json.loads(said))

    async def send(self, kind: str, **fields: Any) -> None:
        await self.client.obey(json.dumps({"type": kind, **fields}))
        await asyncio.sleep(0.05)

    async def update(self, session: Event) -> None:
        await self.send("session.update", session={"type": "transcription", **session})

    async def append(self, audio: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    async def say(self, samples: Samples) -> None:
        """At the pace of speech."""
        pcm = np.rint(samples * 2**15).astype("<i2").tobytes()
        for at in range(0, len(pcm), 3200):
            await self.append(pcm[at : at + 3200])
            await asyncio.sleep(0.05)

    def cut(self) -> None:
        self._reading.cancel()
        self.client.live.detach(self.client.attachment)

    async def over(self) -> SocketClose:
        await asyncio.wait_for(self._reading, 5)
        assert self.ending is not None
        return self.ending

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def session(self) -> str:
        return self.events[0]["session"]["id"].removeprefix("sess_")

    @property
    def items(self) -> dict[str, str]:
        return {event["item_id"]: event["transcript"] for event in self.of(COMPLETED)}

    @property
    def text(self) -> list[str]:
        return list(self.items.values())


async def call(at: Place, change: Event | None = AT_16K, **start: str) -> Caller:
    fresh = changed(TranscriptionSession(), msgspec.convert(change or {}, SessionChange))
    caller = Caller(await open_client(at.lane, ME, Start(**start), fresh, "test"))
    await asyncio.sleep(0.01)
    return caller


@simulated
async def test_a_session_from_its_creation_to_its_items() -> None:
    async with place() as at:
        caller = await call(at)
        assert caller.events[0]["type"] == "session.created"
        assert caller.events[0]["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": SAMPLE_RATE}
        await caller.say(spoken([*WORDS_1, *WORDS_2]))
        assert caller.text == ["w1 w2", "w3 w4"]
        ids = [event["event_id"] for event in caller.events]
        assert len(set(ids)) == len(ids)
        caller.cut()


@simulated
async def test_a_commit_makes_an_item_of_all_that_was_sent() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.say(spoken([*WORDS_1, *WORDS_2]))
        assert not caller.of(COMMITTED[0])
        assert caller.of(DELTA)
        await caller.send("input_audio_buffer.commit")
        assert caller.text == ["w1 w2 w3 w4"]
        assert not caller.of("input_audio_buffer.speech_started")
        [completed] = caller.of(COMPLETED)
        assert (completed["start_ms"], completed["usage"]["seconds"]) == (0, pytest.approx(3.8, abs=0.04))
        caller.cut()


@simulated
async def test_a_commit_of_next_to_nothing_is_an_error_and_the_session_goes_on() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.send("input_audio_buffer.commit", event_id="mine")
        await caller.append(bytes(2 * 1200))
        await caller.send("input_audio_buffer.commit")
        first, second = (event["error"] for event in caller.of("error"))
        assert first["code"] == "input_audio_buffer_commit_empty"
        assert first["event_id"] == "mine"
        assert first["message"].endswith("Expected at least 100ms of audio, but buffer only has 0.00ms of audio.")
        assert "only has 75.00ms" in second["message"]
        await caller.say(spoken(WORDS_1))
        await caller.send("input_audio_buffer.commit")
        assert caller.text == ["w1 w2"], "what was not committed is still there"
        caller.cut()


@simulated
async def test_clear_forgets_what_was_not_committed() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.say(spoken(WORDS_1))
        await caller.send("input_audio_buffer.clear")
        await caller.say(spoken(WORDS_2))
        await caller.send("input_audio_buffer.commit")
        assert caller.of("input_audio_buffer.cleared")
        assert caller.text == ["w3 w4"]
        caller.cut()


@simulated
@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("nonsense", "invalid_event", None),
        ("[]", "invalid_event", None),
        ("", "invalid_event", None),
        ('{"type":"response.create","event_id":"e"}', "unknown_event", "type"),
        ('{"type":7}', "unknown_event", "type"),
        ('{"event_id":"e"}', "invalid_event", None),
        ('{"type":"input_audio_buffer.append"}', "invalid_event", None),
        ('{"type":"input_audio_buffer.append","audio":"***"}', "invalid_event", "audio"),
        ('{"type":"session.update","session":{"type":"realtime"}}', "invalid_event", "session.type"),
        (
            '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcm","rate":96000}}}}}',
            "invalid_event",
            "session.audio.input.format.rate",
        ),
        (
            '{"type":"session.update","session":{"audio":{"input":{"transcription":{"language":"tlh"}}}}}',
            "bad_language",
            "session.audio.input.transcription.language",
        ),
        ('{"type":"session.update","session":{"audio":{"input":{"transcription":{"language":"\\ud800x"}}}}}', "", None),
    ],
)
async def test_what_cannot_be_understood_is_an_error_and_the_session_stays(
    text: str, code: str, param: str | None
) -> None:
    async with place() as at:
        caller = await call(at)
        await caller.client.obey(text)
        await caller.say(spoken(WORDS_1))
        [error] = caller.of("error")
        assert error["error"]["type"] == "invalid_request_error"
        if code:
            assert (error["error"]["code"], error["error"]["param"]) == (code, param)
        assert caller.text == ["w1 w2"]
        caller.cut()


@simulated
async def test_an_update_is_answered_with_what_is_in_effect_and_holds_from_there() -> None:
    async with place() as at:
        caller = await call(at)
        vad = {"type": "server_vad", "silence_duration_ms": 2000}
        asked = {"turn_detection": vad, "noise_reduction": {"type": "near_field"}, "transcription": {"prompt": "hi"}}
        await caller.update({"audio": {"input": asked}})
        [updated] = caller.of("session.updated")
        told = updated["session"]["audio"]["input"]
        assert told["turn_detection"] == {**vad, "threshold": 0.5, "prefix_padding_ms": 300}
        assert told["format"]["rate"] == SAMPLE_RATE
        assert told["noise_reduction"] is None, "there is none, and it says so"
        await caller.say(spoken([*WORDS_1, *WORDS_2, (5, 0.4, 2.2)]))
        assert caller.text == ["w1 w2 w3 w4 w5"]
        assert at.model.calls[-1][0].prompt == "hi"
        caller.cut()


@simulated
async def test_the_format_may_change_on_the_way() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.say(spoken([(1, 0.4, 0.4)]))
        await caller.update({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 48_000}}}})
        samples = np.repeat(spoken([(2, 0.4, 0.4)]), 3)
        await caller.append(np.rint(samples * 2**15).astype("<i2").tobytes())
        await caller.send("input_audio_buffer.commit")
        assert caller.text[0].startswith("w1 ")
        assert "w2" in caller.text[0]
        caller.cut()


@simulated
async def test_a_message_of_a_mebibyte_is_heard_in_pieces() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        pcm = np.rint(spoken([(number, 0.4, 0.1) for number in range(1, 40)]) * 2**15).astype("<i2").tobytes()
        assert len(pcm) > 600_000
        await caller.append(pcm)
        await caller.send("input_audio_buffer.commit")
        assert caller.text == [" ".join(f"w{number}" for number in range(1, 40))]
        caller.cut()


@simulated
async def test_more_audio_than_real_time_and_its_allowance_is_refused() -> None:
    async with place() as at:
        caller = await call(at)
        for _ in range(int(ALLOWANCE_S) // 10):
            await caller.append(bytes(2 * 10 * SAMPLE_RATE))
        with pytest.raises(TooLarge):
            await caller.append(bytes(2 * 10 * SAMPLE_RATE))
        caller.cut()


# Coming back


@simulated
async def test_a_lost_connection_goes_on_in_the_middle_of_a_word() -> None:
    async with place() as at:
        first = await call(at)
        audio = spoken([*WORDS_1, *WORDS_2])
        half = int(2.3 * SAMPLE_RATE)  # inside w3
        await first.say(audio[:half])
        first.cut()
        await asyncio.sleep(20)
        again = await call(at, None, session=first.session, cursor=first.of(COMPLETED)[-1]["cursor"])
        assert again.events[0]["type"] == "session.created"
        assert again.session == first.session
        assert again.events[0]["session"]["audio"]["input"]["format"]["rate"] == SAMPLE_RATE, "as it was left"
        await again.say(audio[half:])
        assert again.text == ["w3 w4"]
        begun = first.of("input_audio_buffer.speech_started")[-1]["item_id"]
        assert list(again.items) == [begun], "the item that was begun before"
        again.cut()


@simulated
async def test_who_does_not_say_what_it_holds_is_told_the_latest_again_under_the_same_ids() -> None:
    async with place() as at:
        first = await call(at)
        await first.say(spoken([*WORDS_1, *WORDS_2]))
        first.cut()
        again = await call(at, session=first.session)
        assert again.items == first.items
        again.cut()


@simulated
async def test_what_was_said_long_ago_is_not_said_again() -> None:
    async with place() as at:
        first = await call(at)
        await first.say(spoken(WORDS_1))
        await first.say(np.zeros(130 * SAMPLE_RATE, np.float32))
        await first.say(spoken(WORDS_2))
        first.cut()
        again = await call(at, session=first.session)
        assert again.text == ["w3 w4"]
        again.cut()


@simulated
async def test_an_item_completed_while_nobody_was_connected_is_told_on_return() -> None:
    async with place() as at:
        first = await call(at, MANUAL)
        at.model.holds = True
        await first.say(spoken(WORDS_1))
        await first.send("input_audio_buffer.commit")
        first.cut()
        at.model.holds = False
        at.model.release()
        await asyncio.sleep(1)
        again = await call(at, session=first.session, cursor=first.events[0]["cursor"])
        assert again.text == ["w1 w2"]
        assert again.of(COMPLETED)[0]["item_id"] == first.of(COMMITTED[0])[0]["item_id"]
        again.cut()


@simulated
async def test_after_its_time_the_session_goes_on_and_the_gap_is_told() -> None:
    async with place() as at:
        first = await call(at, MANUAL)
        await first.say(spoken(WORDS_1))
        first.cut()
        await asyncio.sleep(KEPT_S + 1)
        again = await call(at, None, session=first.session)
        assert again.text == ["w1 w2"], "what was not committed became final"
        assert again.events[0]["session"]["audio"]["input"]["turn_detection"] is None, "as it was left"
        [gap] = again.of("input_audio_buffer.gap")
        assert (gap["audio_end_ms"], gap["reason"]) == (None, "resumed_elsewhere")
        await again.say(spoken(WORDS_2))
        await again.send("input_audio_buffer.commit")
        assert again.text == ["w1 w2", "w3 w4"]
        again.cut()


@simulated
async def test_a_drain_makes_everything_final_and_sends_its_clients_elsewhere() -> None:
    async with place() as at:
        caller = await call(at, MANUAL)
        await caller.say(spoken(WORDS_1))
        await at.lane.drain()
        assert (await caller.over()).code == 1012
        assert caller.text == ["w1 w2"]


@simulated
async def test_a_full_process_says_so_with_a_code_on_which_the_sdks_come_back() -> None:
    async with place(sessions=1) as at:
        caller = await call(at)
        with pytest.raises(Overloaded) as full:
            await call(at)
        assert close_code(full.value) == 1013
        assert error_event(full.value).error.type == "server_error"
        caller.cut()


@simulated
async def test_a_session_of_someone_else_is_none() -> None:
    async with place() as at:
        caller = await call(at)
        with pytest.raises(NotFound):
            await call(at, session="0" * 36)
        caller.cut()


@simulated
async def test_a_client_that_is_done_leaves_nothing_open() -> None:
    async with place() as at:
        caller = await call(at)
        await caller.say(spoken(WORDS_1)[: SAMPLE_RATE // 2])
        caller.client.live.leave(caller.client.attachment)
        await asyncio.sleep(1)
        assert not at.lane._sessions
        caller.cut()


@simulated
async def test_a_key_made_for_a_language_the_model_does_not_know_opens_nothing() -> None:
    async with place() as at:
        with pytest.raises(BadRequest, match="tlh"):
            await call(at, {"audio": {"input": {"transcription": {"language": "tlh"}}}})


@simulated
async def test_a_flood_of_bad_events_that_nobody_reads_the_answers_of_ends_the_connection() -> None:
    async with place() as at:
        caller = await call(at)
        caller.cut()
        again = await call(at, session=caller.session)
        again._reading.cancel()
        for _ in range(MAX_UNSENT + 1):
            await again.client.obey("{}")
        ending = await again.client.next()
        while not isinstance(ending, SocketClose):
            ending = await again.client.next()
        assert ending.code == 1013


@pytest.mark.parametrize(
    ("code", "sample"), [(0xD5, 8), (0x55, -8), (0xAA, 32_256), (0x2A, -32_256), (0xD4, 24), (0xC5, 264), (0xF5, 528)]
)
def test_a_law_is_that_of_g711(code: int, sample: int) -> None:
    assert round(float(ALAW[code]) * 2**15) == sample


def test_a_law_is_as_long_as_its_bytes() -> None:
    samples = asyncio.run(drain(decoder("alaw", 8000, 1), [bytes([0xD5] * 800), bytes([0x55] * 800)]))
    assert len(samples) == 3200
    assert np.abs(samples).max() < 0.001
