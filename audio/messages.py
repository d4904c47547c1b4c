"""The words of `WS /api/audio`, as closed tagged unions: what a client may say, and what it is told.

Every message of the server gets `seq` when it is sent, not when it is made: a partial that a slow reader never sees
leaves no hole.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

SUBPROTOCOL = "trilane.audio.v1"
MAX_FRAME_BYTES = 65_536
MAX_PROMPT = 1000
"""Characters: Whisper reads 223 tokens of a prompt."""

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "ogg_opus", "webm_opus", "flac", "wav"]


class FromClient(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", forbid_unknown_fields=True
):
    """One text message."""


class Start(FromClient, tag="start", frozen=True):
    """Opens a session, or resumes one."""

    session: str | None = None
    cursor: str | None = None
    """With `session`: of the last final that the client holds."""
    seq: Annotated[int, Meta(ge=0)] | None = None
    """With `session`: of the last message that the client holds."""
    sample_rate: Annotated[int, Meta(ge=8000, le=48_000)] = 16_000
    encoding: Encoding = "pcm_s16le"
    channels: Annotated[int, Meta(ge=1, le=2)] = 1
    language: Annotated[str, Meta(min_length=2, max_length=16)] | None = None
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] = ""
    topic: str | None = None
    """Finals are published there too."""
    interim_results: bool = True
    words: bool = False
    endpointing_ms: Annotated[int, Meta(ge=100, le=10_000)] = 500


class Flush(FromClient, tag="flush", frozen=True):
    """Make final what was heard so far."""


class Stop(FromClient, tag="stop", frozen=True):
    """No more audio."""


class Mark(FromClient, tag="marker", frozen=True):
    """To be sent back when all audio before it has been heard."""

    id: Annotated[str, Meta(max_length=128)] | int


class Keepalive(FromClient, tag="keepalive", frozen=True):
    """The client is there, and says nothing."""


ClientMessage = Start | Flush | Stop | Mark | Keepalive


class FromServer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """One message, less its `seq`. Times are seconds from the session's first sample."""


class Ready(FromServer, tag="ready", frozen=True):
    session: str
    resume_from: int
    """Samples, at the rate that the client named in `start`."""
    cursor: str


class OfTurn(FromServer, frozen=True, kw_only=True):
    """Said of one turn: what was spoken without an end between, as one segment or as several that were cut."""

    turn: int | None = None
    """The sample at 16 kHz that it begins with. Only said where a dialect asks for turns."""


class SpeechStarted(OfTurn, tag="speech_started", frozen=True):
    at: float


class SpeechStopped(OfTurn, tag="speech_stopped", frozen=True):
    at: float
    end: float | None = None
    """Where the turn ends; as `turn`."""


class Partial(OfTurn, tag="partial", frozen=True):
    segment: int
    text: str
    stable: str
    start: float
    end: float


class Word(msgspec.Struct, frozen=True):
    text: str
    start: float
    end: float
    probability: float


class Final(OfTurn, tag="final", frozen=True):
    segment: int
    text: str
    start: float
    end: float
    confidence: float
    """Mean probability of the tokens, 0 to 1."""
    language: str
    words: list[Word] | None = None
    cursor: str = ""


class Ack(FromServer, tag="ack", frozen=True):
    samples: int


class Marker(FromServer, tag="marker", frozen=True):
    id: str | int


class Lag(FromServer, tag="lag", frozen=True):
    seconds: float


class Gap(OfTurn, tag="gap", frozen=True):
    start: float
    end: float
    reason: str


class Drain(FromServer, tag="drain", frozen=True):
    resume: str


class Failure(FromServer, tag="error", frozen=True):
    code: str
    message: str
    retryable: bool


class Done(FromServer, tag="done", frozen=True):
    duration: float
    segments: int


ServerMessage = (
    Ready | SpeechStarted | SpeechStopped | Partial | Final | Ack | Marker | Lag | Gap | Drain | Failure | Done
)


class Aside(msgspec.Struct, frozen=True):
    """What passes to a dialect in order with the messages, and is for nobody else: it has no number."""


class TurnOver(Aside, frozen=True):
    """All of a turn is settled."""

    turn: int


def with_cursor(message: Final | Gap, cursor: str) -> Final | Gap:
    """A gap has none: it lies before the cursor of the final that follows it."""
    return msgspec.structs.replace(message, cursor=cursor) if isinstance(message, Final) else message


decode = msgspec.json.Decoder(ClientMessage).decode
_encode = msgspec.json.Encoder().encode


def encode(message: ServerMessage, seq: int) -> str:
    """The text frame of a message."""
    body = _encode(message)
    return f'{{"seq":{seq},{body[1:].decode()}'
