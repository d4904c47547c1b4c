"""Translates an OpenAI session object into the terms of a session of ours, and applies updates to it. Pure.

An update changes only what it names. Null restores the default, except that without turn detection the client commits.
What this lane does not do (noise reduction, log probabilities) stays null whatever the client asks for: the session
that it is sent is the one in effect.
"""

from typing import TypeVar, assert_never

import msgspec
from msgspec import UNSET

from audio.decoders.formats import Encoding
from audio.dialects.realtime.beta import input_change
from audio.dialects.realtime.messages import (
    WORDS,
    AlawFormat,
    AudioFormat,
    AudioSettings,
    InputChange,
    InputSettings,
    MulawFormat,
    PcmFormat,
    SemanticVad,
    SemanticVadChange,
    ServerVad,
    ServerVadChange,
    SessionChange,
    TranscriptionSession,
    TranscriptionSettings,
    Vad,
)
from audio.languages import code_of
from audio.model.shelf import asked_model
from audio.options import MAX_PROMPT, SessionOptions, SessionTerms, with_keywords
from gateway.errors import BadRequest

EAGER_S = {"low": 2.0, "medium": 1.0, "auto": 1.0, "high": 0.5}
"""Seconds of silence that end a turn, by the eagerness of its detection."""
G711_RATE = 8000

SessionPartT = TypeVar("SessionPartT", bound=msgspec.Struct)


def apply_change(session: TranscriptionSession, change: SessionChange) -> TranscriptionSession:
    """Returns the session after an update. Raises BadRequest for a field that stands twice, or too long a prompt."""
    include = session.include
    if change.include is not UNSET:
        include = [WORDS] if WORDS in (change.include or []) else None
    audio = AudioSettings(input=_input(session.audio.input, input_change(change)))
    if len(prompt_of(audio.input.transcription)) > MAX_PROMPT:
        raise BadRequest(f"prompt and keywords have more than {MAX_PROMPT} characters", code="prompt_too_long")
    return msgspec.structs.replace(session, audio=audio, include=include)


def _input(now: InputSettings, change: InputChange) -> InputSettings:
    result = now
    if change.format is not UNSET:
        result = msgspec.structs.replace(result, format=change.format or PcmFormat())
    if change.transcription is not UNSET:
        update = change.transcription
        transcription = TranscriptionSettings() if update is None else _merge(now.transcription, update)
        result = msgspec.structs.replace(result, transcription=transcription)
    if change.turn_detection is not UNSET:
        result = msgspec.structs.replace(result, turn_detection=_vad(now.turn_detection, change.turn_detection))
    return result


def _vad(now: Vad | None, change: ServerVadChange | SemanticVadChange | None) -> Vad | None:
    match change:
        case None:
            return None
        case ServerVadChange():
            return _merge(now if isinstance(now, ServerVad) else ServerVad(), change)
        case SemanticVadChange():
            return _merge(now if isinstance(now, SemanticVad) else SemanticVad(), change)


def _merge(now: SessionPartT, change: msgspec.Struct) -> SessionPartT:
    fields = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return msgspec.structs.replace(now, **fields)


def prompt_of(settings: TranscriptionSettings) -> str:
    return with_keywords(settings.prompt, settings.keywords or [])


def terms_of(session: TranscriptionSession) -> SessionTerms:
    """Returns what the session asks of the lane."""
    settings = session.audio.input
    detection = settings.turn_detection
    options = SessionOptions(
        words=WORDS in (session.include or []),
        endpointing_s=_endpointing_s(detection),
        language=code_of(language) if (language := settings.transcription.language) is not None else None,
        model=asked_model(settings.transcription.model or ""),
        prompt=prompt_of(settings.transcription),
        turns=True,
    )
    if isinstance(detection, ServerVad):
        options = msgspec.structs.replace(
            options, threshold=detection.threshold, prefix_s=detection.prefix_padding_ms / 1000
        )
    return SessionTerms(encoding_of(settings.format)[1], options)


def _endpointing_s(detection: Vad | None) -> float | None:
    match detection:
        case None:
            return None
        case ServerVad():
            return detection.silence_duration_ms / 1000
        case SemanticVad():
            return EAGER_S[detection.eagerness]


def encoding_of(form: AudioFormat) -> tuple[Encoding, int]:
    """Returns the encoding, as the decoders call it, and its sample rate."""
    match form:
        case PcmFormat():
            return "pcm_s16le", form.rate
        case MulawFormat():
            return "mulaw", G711_RATE
        case AlawFormat():
            return "alaw", G711_RATE
        case _:
            assert_never(form)


def encode_notes(session: TranscriptionSession) -> str:
    """Returns the notes that are left in the session's log."""
    return msgspec.json.encode(session).decode()


def decode_notes(notes: str) -> TranscriptionSession | None:
    """Returns the session of some notes, and None when there are none."""
    return msgspec.json.decode(notes, type=TranscriptionSession) if notes else None
