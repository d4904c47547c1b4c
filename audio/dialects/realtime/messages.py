"""OpenAI's Realtime transcription events (the GA shape), as closed tagged unions: the client's and the server's.

Fields that are not named here are ignored, as OpenAI's own clients send some that mean nothing to a transcript; the
fields in effect stand in `session.created` and `session.updated`. Some events have more fields than OpenAI's (`words`,
`start_ms`, `gaps`, `cursor`): the SDKs keep fields that they do not know. Types of events that they do not know go out
to clients that connect with `?extensions=1` alone, because some take one for an error.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from audio.languages import MAX_TAG
from audio.model.transcriber import Word
from audio.options import MAX_PROMPT
from gateway.core.leniency import lenient_decoder

WORDS = "item.input_audio_transcription.words"
"""An `include` of our own, by which `completed` has the times of the words."""


class WireStruct(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a session. In a change of one, a field that is UNSET stays as it is."""


# The session


class PcmFormat(WireStruct, tag_field="type", tag="audio/pcm", frozen=True):
    """Samples as signed 16 bit, little endian, one channel."""

    rate: Annotated[int, Meta(ge=8000, le=48_000)] = 24_000


class MulawFormat(WireStruct, tag_field="type", tag="audio/pcmu", frozen=True):
    """Samples as G.711 mu-law, at 8 kHz."""


class AlawFormat(WireStruct, tag_field="type", tag="audio/pcma", frozen=True):
    """Samples as G.711 A-law, at 8 kHz."""


AudioFormat = PcmFormat | MulawFormat | AlawFormat
BetaFormat = Literal["pcm16", "g711_ulaw", "g711_alaw"]
"""The formats as the beta of OpenAI's API named them."""
Eagerness = Literal["low", "medium", "high", "auto"]
Threshold = Annotated[float, Meta(ge=0.0, le=1.0)]
PrefixMs = Annotated[int, Meta(ge=0, le=5000)]
SilenceMs = Annotated[int, Meta(ge=100, le=10_000)]
Language = Annotated[str, Meta(min_length=2, max_length=MAX_TAG)]
Prompt = Annotated[str, Meta(max_length=MAX_PROMPT)]
Keywords = Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=50)]


class ServerVad(WireStruct, tag_field="type", tag="server_vad", frozen=True):
    """Turn detection by which a silence ends a turn."""

    threshold: Threshold = 0.5
    prefix_padding_ms: PrefixMs = 300
    silence_duration_ms: SilenceMs = 500


class SemanticVad(WireStruct, tag_field="type", tag="semantic_vad", frozen=True):
    """Turn detection as with ServerVad; the less eager, the longer the silence. Nothing here understands the words."""

    eagerness: Eagerness = "auto"


Vad = ServerVad | SemanticVad


class TranscriptionSettings(WireStruct, frozen=True):
    model: str | None = None
    """Name of the model; None and the names of OpenAI's own models mean the default."""
    language: Language | None = None
    prompt: Prompt | None = None
    keywords: Keywords | None = None


class InputSettings(WireStruct, frozen=True):
    format: AudioFormat = PcmFormat()
    noise_reduction: None = None
    """Noise reduction, always null: this lane has none."""
    transcription: TranscriptionSettings = TranscriptionSettings()
    turn_detection: Vad | None = ServerVad()


class AudioSettings(WireStruct, frozen=True):
    input: InputSettings = InputSettings()


class TranscriptionSession(WireStruct, tag_field="type", tag="transcription", frozen=True):
    id: str = ""
    object: str = "realtime.transcription_session"
    expires_at: int | None = None
    """Time of expiry, always null: the session does not expire."""
    audio: AudioSettings = AudioSettings()
    include: list[str] | None = None


# What a client may change of it


class ServerVadChange(WireStruct, tag_field="type", tag="server_vad", frozen=True):
    threshold: Threshold | UnsetType = UNSET
    prefix_padding_ms: PrefixMs | UnsetType = UNSET
    silence_duration_ms: SilenceMs | UnsetType = UNSET


class SemanticVadChange(WireStruct, tag_field="type", tag="semantic_vad", frozen=True):
    eagerness: Eagerness | UnsetType = UNSET


class TranscriptionChange(WireStruct, frozen=True):
    model: str | UnsetType | None = UNSET
    language: Language | UnsetType | None = UNSET
    prompt: Prompt | UnsetType | None = UNSET
    keywords: Keywords | UnsetType | None = UNSET


class InputChange(WireStruct, frozen=True):
    format: AudioFormat | UnsetType | None = UNSET
    transcription: TranscriptionChange | UnsetType | None = UNSET
    turn_detection: ServerVadChange | SemanticVadChange | UnsetType | None = UNSET


class AudioChange(WireStruct, frozen=True):
    input: InputChange = InputChange()


class SessionChange(WireStruct, frozen=True):
    type: Literal["transcription"] = "transcription"
    audio: AudioChange = AudioChange()
    include: list[str] | UnsetType | None = UNSET
    input_audio_format: BetaFormat | UnsetType | None = UNSET
    """A field of the beta's flat shape, as the two after it."""
    input_audio_transcription: TranscriptionChange | UnsetType | None = UNSET
    turn_detection: ServerVadChange | SemanticVadChange | UnsetType | None = UNSET


# What a client sends


class ClientEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """One text message of a client."""

    event_id: str | None = None
    """The client's own id of the event, which an error about it repeats."""


class SessionUpdate(ClientEvent, tag="session.update", frozen=True):
    session: SessionChange


class BetaSessionUpdate(ClientEvent, tag="transcription_session.update", frozen=True):
    """The update of a session as the beta called it."""

    session: SessionChange


class BufferAppend(ClientEvent, tag="input_audio_buffer.append", frozen=True):
    audio: bytes
    """The audio, in Base64 on the wire."""


class BufferCommit(ClientEvent, tag="input_audio_buffer.commit", frozen=True):
    """Asks to make an item of all audio that belongs to none yet."""


class BufferClear(ClientEvent, tag="input_audio_buffer.clear", frozen=True):
    """Asks to forget all audio that belongs to no item yet."""


RealtimeEvent = SessionUpdate | BetaSessionUpdate | BufferAppend | BufferCommit | BufferClear


class EventHead(msgspec.Struct, frozen=True):
    """The part of an event that says which one it is, for those that are not known."""

    type: str = ""
    event_id: str | None = None


# What the server sends


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """One text message without its `event_id`. Times are milliseconds of all audio that the session got."""


class LostAudio(WireStruct, frozen=True):
    """A span of audio that was not transcribed and will not be."""

    audio_start_ms: int
    audio_end_ms: int | None
    """The end of the audio; None when it is not known."""
    reason: str


class SessionCreated(ServerEvent, tag="session.created", frozen=True):
    session: TranscriptionSession
    cursor: str
    """The cursor that a reconnection sends in `extra_query`, as long as no item is completed."""
    gap: LostAudio | None = None
    """The audio that was lost because another process had the session before."""


class SessionUpdated(ServerEvent, tag="session.updated", frozen=True):
    session: TranscriptionSession


class BufferStarted(ServerEvent, tag="input_audio_buffer.speech_started", frozen=True):
    audio_start_ms: int
    item_id: str


class BufferStopped(ServerEvent, tag="input_audio_buffer.speech_stopped", frozen=True):
    audio_end_ms: int
    item_id: str


class BufferCommitted(ServerEvent, tag="input_audio_buffer.committed", frozen=True):
    item_id: str
    previous_item_id: str | None


class BufferCleared(ServerEvent, tag="input_audio_buffer.cleared", frozen=True):
    pass


class BufferGap(ServerEvent, tag="input_audio_buffer.gap", frozen=True):
    """An event of our own, with the fields of LostAudio."""

    audio_start_ms: int
    audio_end_ms: int | None
    reason: str


class Content(WireStruct, tag_field="type", tag="input_audio", frozen=True):
    transcript: str | None = None


class ItemShape(WireStruct, tag_field="type", tag="message", frozen=True):
    id: str
    object: str = "realtime.item"
    role: str = "user"
    status: str = "completed"
    content: tuple[Content] = (Content(),)


class ItemAdded(ServerEvent, tag="conversation.item.added", frozen=True):
    item: ItemShape
    previous_item_id: str | None


class ItemDone(ServerEvent, tag="conversation.item.done", frozen=True):
    item: ItemShape
    previous_item_id: str | None


class TranscriptDelta(ServerEvent, tag="conversation.item.input_audio_transcription.delta", frozen=True, kw_only=True):
    item_id: str
    content_index: int = 0
    delta: str


class Duration(WireStruct, tag_field="type", tag="duration", frozen=True):
    seconds: float


class Completed(ServerEvent, tag="conversation.item.input_audio_transcription.completed", frozen=True, kw_only=True):
    item_id: str
    content_index: int = 0
    transcript: str
    usage: Duration
    start_ms: int
    end_ms: int
    language: str | None
    unsure: bool
    """Whether a part of it is probably another language than `language`, or no speech that the model knows."""
    cursor: str | None
    """The cursor that a reconnection sends in `extra_query`."""
    words: list[Word] | None
    gaps: list[LostAudio] | None
    """The parts of the item that could not be heard."""


class ErrorBody(WireStruct, frozen=True, kw_only=True):
    type: str = "invalid_request_error"
    code: str | None = None
    message: str
    param: str | None = None
    event_id: str | None = None


class TranscriptionFailed(
    ServerEvent, tag="conversation.item.input_audio_transcription.failed", frozen=True, kw_only=True
):
    item_id: str
    content_index: int = 0
    error: ErrorBody


class ErrorEvent(ServerEvent, tag="error", frozen=True):
    error: ErrorBody


decode: Callable[[str | bytes], RealtimeEvent] = lenient_decoder(RealtimeEvent)
decode_head = msgspec.json.Decoder(EventHead).decode
_encode = msgspec.json.Encoder().encode


def encode(event: ServerEvent, event_id: str) -> str:
    """Returns the text frame of an event."""
    body = _encode(event)
    return f'{{"event_id":"{event_id}",{body[1:].decode()}'
