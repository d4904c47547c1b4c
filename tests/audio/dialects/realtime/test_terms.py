"""An OpenAI session object is translated into the terms of one of our sessions."""

import json

import msgspec
import pytest

from audio.dialects.realtime.messages import (
    WORDS,
    BetaSessionUpdate,
    InputSettings,
    PcmFormat,
    SessionChange,
    SessionUpdate,
    TranscriptionSession,
    decode,
)
from audio.dialects.realtime.terms import apply_change, decode_notes, encode_notes, terms_of
from gateway.errors import BadRequest
from tests.audio.dialects.realtime.caller import MANUAL, Event


def session_of(change: Event | None = None) -> TranscriptionSession:
    fresh = TranscriptionSession(id="sess_0123456789abcdef")
    return apply_change(fresh, msgspec.convert(change or {}, SessionChange))


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
    options = terms_of(session_of({"audio": {"input": {"turn_detection": detection}}})).options
    assert options.endpointing_s == endpointing_s
    assert options.turns


def test_only_what_is_named_is_changed() -> None:
    vad = {"type": "server_vad", "threshold": 0.7}
    now = session_of({"audio": {"input": {"turn_detection": vad, "transcription": {"language": "en"}}}})
    change = {"audio": {"input": {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 100}}}}
    louder = apply_change(now, msgspec.convert(change, SessionChange))
    options = terms_of(louder).options
    assert (options.threshold, options.prefix_s, options.language) == (0.7, 0.1, "en")
    default = apply_change(louder, msgspec.convert({"audio": {"input": {"transcription": None}}}, SessionChange))
    assert terms_of(default).options.language is None
    assert terms_of(default).options.threshold == 0.7


LENIENT = [
    ({"type": None, "audio": None, "include": None}, {}),
    ({"audio": {"input": None}}, {}),
    (
        {"audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16000.0}}}},
        {"turn_detection": None, "format": {"type": "audio/pcm", "rate": 16_000}},
    ),
    (
        {"turn_detection": {"type": "server_vad", "threshold": None, "prefix_padding_ms": 100.0}},
        {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 100}},
    ),
    (
        {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": None}}}},
        {"turn_detection": {"type": "semantic_vad"}},
    ),
    (
        {"input_audio_transcription": {"prompt": "\ud83d", "model": None}},
        {"transcription": {"prompt": "\ufffd", "model": None}},
    ),
]


@pytest.mark.parametrize(("written", "meant"), LENIENT)
@pytest.mark.parametrize("kind", ["session.update", "transcription_session.update"])
def test_null_is_absent_where_it_means_nothing_and_whole_floats_are_integers(
    kind: str, written: Event, meant: Event
) -> None:
    event = decode(json.dumps({"type": kind, "event_id": None, "session": written}))
    assert isinstance(event, SessionUpdate | BetaSessionUpdate)
    assert apply_change(session_of(MANUAL), event.session) == apply_change(
        session_of(MANUAL), msgspec.convert({"audio": {"input": meant}}, SessionChange)
    )


def test_keywords_go_along_with_the_prompt() -> None:
    transcription = {"prompt": "A speech.", "keywords": ["Trilane", "Kennedy"], "model": "gpt-4o-transcribe"}
    options = terms_of(session_of({"audio": {"input": {"transcription": transcription}}})).options
    assert options.prompt == "A speech. Trilane, Kennedy"
    with pytest.raises(BadRequest, match="1000 characters"):
        session_of({"audio": {"input": {"transcription": {"prompt": "x" * 990, "keywords": ["y" * 20]}}}})


def test_times_of_words_come_when_they_are_included() -> None:
    assert not terms_of(session_of({"include": ["item.input_audio_transcription.logprobs"]})).options.words
    session = session_of({"include": [WORDS]})
    assert terms_of(session).options.words
    assert decode_notes(encode_notes(session)) == session
    assert decode_notes("") is None


def test_a_session_takes_pcm_at_24_khz_unless_it_names_another_format() -> None:
    assert terms_of(session_of()).sample_rate == 24_000
    assert InputSettings().format == PcmFormat(rate=24_000)
    assert terms_of(session_of({"audio": {"input": {"format": {"type": "audio/pcma"}}}})).sample_rate == 8000
