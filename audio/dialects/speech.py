"""OpenAI's speech API, for its SDKs and for everyone: a request's fields, and the bytes of its answer.

Its text may have Markdown, of which only the words are said; what is left out is told in the header
`x-trilane-warning`. OpenAI's names of voices and models stand for ours, others are refused by name. A field with a
value that it cannot have is refused with the field, the value and what is allowed; unknown fields are ignored, as
OpenAI does.
"""

import base64
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from audio.dialects.form_fields import bad_value
from audio.model.booth import Booth
from audio.model.voice import MAX_SPEED, MIN_SPEED, SpeechTask
from audio.speech.clauses import Skipped
from audio.speech.encoder import SPEECH_FORMATS, SpeechFormat
from audio.speech.lane import tasks_of
from audio.speech.script import SpeechScript, SpokenLine
from gateway.errors import BadRequest, TrilaneError, openai_error_fields

MAX_INPUT = 4096
"""Maximum characters of a text, and of the instructions: OpenAI's own limit."""
MODEL_NAMES = ("tts-", "gpt-")
"""The beginnings of the names of OpenAI's models, which its clients must send: here they mean the voice's own."""
STREAM_FORMATS = ("audio", "sse")
BYTES_PER_TOKEN, TOKENS_PER_S = 4, 20
"""How the tokens of `speech.audio.done` are estimated: those that OpenAI's own voices take for a text and its sound."""


class VoiceId(msgspec.Struct, frozen=True):
    """A voice as an object, which OpenAI's API takes too."""

    id: str


class SpokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request."""

    input: str
    voice: str | VoiceId = ""
    model: str = ""
    response_format: str = "mp3"
    speed: float = 1.0
    stream_format: str = "audio"
    instructions: str = ""


class SpeechOrder(NamedTuple):
    """A request that was checked: what is said, and in which format it is answered."""

    tasks: Sequence[SpeechTask]
    format: SpeechFormat
    is_events: bool
    """Whether the sound is sent as events."""
    warnings: Sequence[str]
    characters: int


def order_of(request: SpokenRequest, booth: Booth) -> SpeechOrder:
    """Returns what a request asks for. Raises BadRequest, which names the field, the value and what it may be."""
    for name, text in (("input", request.input), ("instructions", request.instructions)):
        if len(text) > MAX_INPUT:
            raise bad_value(name, text[:20] + "…", f"{len(text)} characters, and at most {MAX_INPUT} can be said")
    model = request.model.strip()
    if model and model != booth.voice.model and not model.startswith(MODEL_NAMES):
        raise BadRequest(
            f"there is no voice model {model[:80]!r} here; there is {booth.voice.model}",
            code="model_not_found",
            extra={"param": "model"},
        )
    voice = booth.name_of(request.voice if isinstance(request.voice, str) else request.voice.id)
    if request.response_format not in SPEECH_FORMATS:
        raise bad_value("response_format", request.response_format, f"want one of {', '.join(SPEECH_FORMATS)}")
    if not MIN_SPEED <= request.speed <= MAX_SPEED:
        raise bad_value("speed", f"{request.speed:g}", f"want {MIN_SPEED:g} to {MAX_SPEED:g}")
    if request.stream_format not in STREAM_FORMATS:
        raise bad_value("stream_format", request.stream_format, f"want one of {', '.join(STREAM_FORMATS)}")
    lines, skipped = _lines(request.input, booth)
    tasks = tasks_of(lines, voice, request.speed, request.instructions)
    is_events, warnings = request.stream_format == "sse", _warnings(skipped)
    return SpeechOrder(tasks, request.response_format, is_events, warnings, len(request.input))


def _lines(text: str, booth: Booth) -> tuple[list[SpokenLine], list[Skipped]]:
    script = SpeechScript(booth.voice.can_say, code_notice="")
    pieces = [*script.feed(text), *script.flush()]
    lines = [piece for piece in pieces if isinstance(piece, SpokenLine)]
    skipped = [piece for piece in pieces if isinstance(piece, Skipped)]
    if lines:
        return lines, skipped
    reasons = ", ".join(sorted({piece.reason for piece in skipped})) or "no words"
    raise bad_value("input", text[:40], f"the voice has nothing to say of it ({reasons})")


def _warnings(skipped: Sequence[Skipped]) -> list[str]:
    return [f"not said: characters {piece.start} to {piece.end} ({piece.reason})" for piece in skipped[:20]]


# The events


def delta(sound: bytes) -> bytes:
    """Returns the event of some bytes of sound."""
    return _event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})


def done(characters: int, seconds: float) -> bytes:
    """Returns the event after the last sound."""
    tokens = -(-characters // BYTES_PER_TOKEN), round(seconds * TOKENS_PER_S)
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
    return _event({"type": "speech.audio.done", "usage": usage})


def failure(error: TrilaneError) -> bytes:
    """Returns the event that tells of an error in the middle of the sound."""
    return _event({"error": {"message": error.detail, **openai_error_fields(error)}})


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode(value)
