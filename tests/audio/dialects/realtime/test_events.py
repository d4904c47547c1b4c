"""A session's messages become OpenAI's Realtime transcription events."""

from collections.abc import Sequence
from typing import Any

import msgspec

from audio.dialects.realtime.events import BufferReset, Realtime, ReplayEnd, Reply
from audio.dialects.realtime.messages import BufferCleared, SessionChange, TranscriptionSession
from audio.dialects.realtime.terms import apply_change
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
    TurnOver,
)
from audio.model.transcriber import SAMPLE_RATE, Word
from audio.segment import Turn
from tests.audio.dialects.realtime.caller import COMMITTED, COMPLETED, DELTA, MANUAL, Event


def session_of(change: Event | None = None) -> TranscriptionSession:
    fresh = TranscriptionSession(id="sess_0123456789abcdef")
    return apply_change(fresh, msgspec.convert(change or {}, SessionChange))


def events_of(dialect: Realtime, messages: Sequence[ServerMessage | Aside]) -> list[Event]:
    return [
        msgspec.json.decode(msgspec.json.encode(event)) for message in messages for event in dialect.events_of(message)
    ]


def final(turn: int, start: float, text: str, **more: Any) -> Final:
    end = start + 1
    fields = {"segment": 0, "confidence": 1.0, "language": "en", "cursor": f"c{start}", **more}
    return Final(turn=turn * SAMPLE_RATE, text=text, start=start, end=end, **fields)


def partial(turn: int, segment: int, stable: str) -> Partial:
    return Partial(turn=turn * SAMPLE_RATE, segment=segment, text=f"{stable} perhaps", stable=stable, start=0, end=0)


def start(turn: int) -> SpeechStarted:
    return SpeechStarted(at=turn + 0.3, turn=turn * SAMPLE_RATE)


def stop(turn: int, end: float) -> SpeechStopped:
    return SpeechStopped(at=end - 0.2, turn=turn * SAMPLE_RATE, end=end)


def end(turn: int) -> TurnOver:
    return TurnOver(turn * SAMPLE_RATE)


def kinds(events: Sequence[Event]) -> list[str]:
    return [event["type"] for event in events]


def test_an_utterance_comes_in_the_documented_order() -> None:
    events = events_of(
        Realtime(session_of()),
        [
            Ready(session="s", resume_from=0, cursor="c"),
            start(1),
            partial(1, 0, "hello"),
            partial(1, 0, "hello there"),
            stop(1, 3.5),
            final(1, 1.0, "Hello there, you."),
            end(1),
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
    events = events_of(
        Realtime(session_of()),
        [start(1), stop(1, 2), end(1), start(3), stop(3, 4), end(3)],
    )
    commits = [event for event in events if event["type"] == COMMITTED[0]]
    assert commits[0]["previous_item_id"] is None
    assert commits[1]["previous_item_id"] == commits[0]["item_id"] != commits[1]["item_id"]


def test_an_item_of_several_segments_is_completed_once() -> None:
    events = events_of(
        Realtime(session_of()),
        [
            start(1),
            partial(1, 0, "one"),
            final(1, 1.0, "One two", words=[Word("One", 1, 1.5, 0.9)]),
            partial(1, 1, "three"),
            stop(1, 40),
            final(1, 24.0, "three four", words=[], segment=1),
            end(1),
        ],
    )
    [completion] = [event for event in events if event["type"] == COMPLETED]
    assert completion["transcript"] == "One two three four"
    assert completion["words"] == [{"text": "One", "start": 1, "end": 1.5, "probability": 0.9}]
    assert completion["cursor"] == "c24.0"
    assert "".join(event["delta"] for event in events if event["type"] == DELTA) == "one two three four"


def test_the_tail_of_the_deltas_follows_the_words_that_were_shown_however_the_final_puts_them() -> None:
    messages = [
        start(1),
        partial(1, 0, "ask not what your"),
        final(1, 1.0, "And asked not what your country can"),
    ]
    deltas = [event["delta"] for event in events_of(Realtime(session_of()), messages) if event["type"] == DELTA]
    assert deltas == ["ask not what your", " country can"]


def test_an_item_without_words_is_completed_too() -> None:
    events = events_of(Realtime(session_of()), [start(1), stop(1, 2), end(1)])
    assert events[-1]["transcript"] == ""
    assert events[-1]["usage"]["seconds"] == 1.0


def test_lost_audio_is_reported_and_an_item_of_nothing_else_has_failed() -> None:
    gap = Gap(turn=SAMPLE_RATE, start=1.0, end=2.0, reason="overload")
    dialect = Realtime(session_of())
    assert not [one for one in events_of(dialect, [start(1), stop(1, 2), gap, end(1)]) if one["type"].endswith(".gap")]
    dialect.has_extensions = True
    events = events_of(dialect, [start(1), stop(1, 2), gap, end(1)])
    assert events[-2] == {
        "type": "input_audio_buffer.gap",
        "audio_start_ms": 1000,
        "audio_end_ms": 2000,
        "reason": "overload",
    }
    assert events[-1]["type"] == "conversation.item.input_audio_transcription.failed"
    assert events[-1]["error"]["code"] == "overload"


def test_speech_beside_a_gap_is_the_transcript() -> None:
    gap = Gap(turn=SAMPLE_RATE, start=1.0, end=2.0, reason="overload")
    messages = [start(1), gap, final(1, 2.0, "the rest"), gap, stop(1, 4), end(1)]
    events = events_of(Realtime(session_of()), messages)
    assert (events[-1]["type"], events[-1]["transcript"]) == (COMPLETED, "the rest")
    assert events[-1]["gaps"] == [{"audio_start_ms": 1000, "audio_end_ms": 2000, "reason": "overload"}]


def test_without_turn_detection_no_event_is_about_speech() -> None:
    events = events_of(Realtime(session_of(MANUAL)), [start(1), stop(1, 2), final(1, 1.0, "a"), end(1)])
    assert kinds(events) == [*COMMITTED, DELTA, COMPLETED]


def test_cleared_audio_makes_no_item() -> None:
    dialect = Realtime(session_of(MANUAL))
    events = events_of(dialect, [start(1), partial(1, 0, "no"), BufferReset(), ReplayEnd([])])
    assert kinds(events) == [DELTA, "input_audio_buffer.cleared"]


def test_an_item_that_is_sent_again_keeps_its_id_and_has_no_deltas() -> None:
    messages = [start(1), stop(1, 2), final(1, 1.0, "one"), end(1)]
    first = events_of(Realtime(session_of()), messages)
    again = events_of(Realtime(session_of()), [final(1, 1.0, "one"), ReplayEnd([])])
    assert kinds(again) == [*COMMITTED, COMPLETED]
    assert again[-1]["item_id"] == first[-1]["item_id"]
    assert again[-1]["transcript"] == "one"


def test_an_item_that_is_not_over_goes_on_after_a_reconnection() -> None:
    dialect = Realtime(session_of())
    before = events_of(dialect, [start(1), partial(1, 0, "one")])
    after = events_of(dialect, [Ready(session="s", resume_from=0, cursor="c"), ReplayEnd([Turn(SAMPLE_RATE, None)])])
    assert kinds(after) == ["session.created"]
    rest = events_of(dialect, [partial(1, 0, "one two"), stop(1, 3), final(1, 1.0, "one two"), end(1)])
    assert kinds(rest) == [DELTA, "input_audio_buffer.speech_stopped", *COMMITTED, COMPLETED]
    assert rest[0]["delta"] == " two"
    assert rest[0]["item_id"] == before[0]["item_id"]


def test_events_lost_with_the_last_connection_are_sent_again() -> None:
    dialect = Realtime(session_of())
    events_of(dialect, [start(1)])
    events = events_of(dialect, [ReplayEnd([Turn(5 * SAMPLE_RATE, 6 * SAMPLE_RATE), Turn(7 * SAMPLE_RATE, None)])])
    assert kinds(events) == [
        *["input_audio_buffer.speech_stopped", *COMMITTED, COMPLETED],
        *["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", *COMMITTED],
        "input_audio_buffer.speech_started",
    ]


def test_a_failure_becomes_an_error_and_asides_pass_unchanged() -> None:
    events = events_of(
        Realtime(session_of()), [Failure(code="x", message="m", retryable=True), Reply(event=BufferCleared())]
    )
    assert (events[0]["error"]["type"], events[0]["error"]["code"]) == ("server_error", "x")
    assert events[1] == {"type": "input_audio_buffer.cleared"}
