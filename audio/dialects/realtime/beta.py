"""The flat shape of a session, as the Realtime API's beta had it and many clients still send it. Pure.

Each flat field (`input_audio_format`, `input_audio_transcription`, `turn_detection`) has a place in the GA shape, and
is understood in every update. One that stands in both places is refused. Noise reduction stays null, as in the GA
shape. `transcription_session.update` is answered in the flat shape with `transcription_session.updated`; all other
events are those of the GA.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from audio.dialects.realtime.messages import (
    AlawFormat,
    AudioFormat,
    BetaFormat,
    InputChange,
    MulawFormat,
    PcmFormat,
    ServerEvent,
    SessionChange,
    TranscriptionSession,
    TranscriptionSettings,
    Vad,
    WireStruct,
)
from gateway.errors import BadRequest

FORMATS: dict[BetaFormat, AudioFormat] = {
    "pcm16": PcmFormat(),
    "g711_ulaw": MulawFormat(),
    "g711_alaw": AlawFormat(),
}


class BetaSession(WireStruct, frozen=True):
    """A session in the flat shape."""

    id: str
    object: str
    expires_at: int | None
    input_audio_format: BetaFormat
    input_audio_transcription: TranscriptionSettings
    turn_detection: Vad | None
    input_audio_noise_reduction: None = None
    include: list[str] | None = None


class BetaSessionUpdated(ServerEvent, tag="transcription_session.updated", frozen=True):
    session: BetaSession


def input_change(change: SessionChange) -> InputChange:
    """Returns what an update changes of the input, its flat fields included.

    Raises BadRequest for a field that stands in both places.
    """
    form = change.input_audio_format
    flat: dict[str, Any] = {
        "format": FORMATS[form] if isinstance(form, str) else form,
        "transcription": change.input_audio_transcription,
        "turn_detection": change.turn_detection,
    }
    flat = {name: value for name, value in flat.items() if value is not UNSET}
    for name in flat:
        if getattr(change.audio.input, name) is not UNSET:
            field = name if name == "turn_detection" else f"input_audio_{name}"
            raise BadRequest(
                f"`{field}` and `audio.input.{name}` are one setting; send one of them",
                code="invalid_value",
                extra={"param": f"session.{field}"},
            )
    return msgspec.structs.replace(change.audio.input, **flat)


def flat_session(session: TranscriptionSession) -> BetaSession:
    """Returns a session in the flat shape, which has no rates: `pcm16` is PCM of any."""
    settings = session.audio.input
    return BetaSession(
        id=session.id,
        object=session.object,
        expires_at=session.expires_at,
        input_audio_format=next(name for name, form in FORMATS.items() if type(form) is type(settings.format)),
        input_audio_transcription=settings.transcription,
        turn_detection=settings.turn_detection,
        include=session.include,
    )
