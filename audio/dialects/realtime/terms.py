"""What an OpenAI session object means for a session of ours, and how a change changes it. Pure.

Only what a change names is changed; null puts a thing back to its default, but without turn detection it is the client
that commits. What this lane does not do (noise reduction, log probabilities) stays null whatever is asked for: the
session that is told is the one in effect.
"""

from typing import TypeVar, assert_never

import msgspec
from msgspec import UNSET

from audio.decoders.formats import KnownEncoding
from audio.dialects.realtime.messages import (
    WORDS,
    AlawFormat,
    Audio,
    Format,
    Input,
    InputChange,
    MulawFormat,
    PcmFormat,
    SemanticVad,
    SemanticVadChange,
    ServerVad,
    ServerVadChange,
    SessionChange,
    Transcription,
    TranscriptionSession,
    Vad,
)
from audio.live_session import SessionTerms
from audio.messages import MAX_PROMPT
from audio.options import SessionOptions
from gateway.errors import BadRequest

EAGER_S = {"low": 2.0, "medium": 1.0, "auto": 1.0, "high": 0.5}
"""Silence that ends a turn."""
G711_RATE = 8000

StructT = TypeVar("StructT", bound=msgspec.Struct)


def changed(session: TranscriptionSession, change: SessionChange) -> TranscriptionSession:
    """Raises BadRequest when that cannot be."""
    include = session.include
    if change.include is not UNSET:
        include = [WORDS] if WORDS in (change.include or []) else None
    audio = Audio(input=_input(session.audio.input, change.audio.input))
    made = msgspec.structs.replace(session, audio=audio, include=include)
    if len(prompt_of(made.audio.input.transcription)) > MAX_PROMPT:
        raise BadRequest(f"prompt and keywords have more than {MAX_PROMPT} characters", code="prompt_too_long")
    return made


def _input(now: Input, change: InputChange) -> Input:
    made = now
    if change.format is not UNSET:
        made = msgspec.structs.replace(made, format=change.format or PcmFormat())
    if change.transcription is not UNSET:
        asked = change.transcription
        transcription = Transcription() if asked is None else _merged(now.transcription, asked)
        made = msgspec.structs.replace(made, transcription=transcription)
    if change.turn_detection is not UNSET:
        made = msgspec.structs.replace(made, turn_detection=_vad(now.turn_detection, change.turn_detection))
    return made


def _vad(now: Vad | None, change: ServerVadChange | SemanticVadChange | None) -> Vad | None:
    match change:
        case None:
            return None
        case ServerVadChange():
            return _merged(now if isinstance(now, ServerVad) else ServerVad(), change)
        case SemanticVadChange():
            return _merged(now if isinstance(now, SemanticVad) else SemanticVad(), change)


def _merged(now: StructT, change: msgspec.Struct) -> StructT:
    named = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return msgspec.structs.replace(now, **named)


def prompt_of(asked: Transcription) -> str:
    """Whisper knows no keywords, but spells as its prompt does."""
    return " ".join(part for part in (asked.prompt, ", ".join(asked.keywords or [])) if part)


def terms_of(session: TranscriptionSession) -> SessionTerms:
    """What the lane is asked for."""
    given = session.audio.input
    detection = given.turn_detection
    asked = SessionOptions(
        words=WORDS in (session.include or []),
        endpointing_s=_endpointing_s(detection),
        language=given.transcription.language,
        prompt=prompt_of(given.transcription),
        turns=True,
    )
    if isinstance(detection, ServerVad):
        asked = msgspec.structs.replace(
            asked, threshold=detection.threshold, prefix_s=detection.prefix_padding_ms / 1000
        )
    return SessionTerms(encoding_of(given.format)[1], asked)


def _endpointing_s(detection: Vad | None) -> float | None:
    match detection:
        case None:
            return None
        case ServerVad():
            return detection.silence_duration_ms / 1000
        case SemanticVad():
            return EAGER_S[detection.eagerness]


def encoding_of(form: Format) -> tuple[KnownEncoding, int]:
    """As the decoders call it, and its rate."""
    match form:
        case PcmFormat():
            return "pcm_s16le", form.rate
        case MulawFormat():
            return "mulaw", G711_RATE
        case AlawFormat():
            return "alaw", G711_RATE
        case _:
            assert_never(form)


def noted(session: TranscriptionSession) -> str:
    """For the session's record."""
    return msgspec.json.encode(session).decode()


def recalled(notes: str) -> TranscriptionSession | None:
    """What was noted; None: nothing was."""
    return msgspec.json.decode(notes, type=TranscriptionSession) if notes else None
