"""Defines what a session says of its audio: one closed, tagged union, which the dialects put into their own words.

Its JSON is the wire form of `WS /api/audio`, and that of finals and gaps is what the log keeps. A message gets its
`seq` when it is queued for a connection, and a newer partial takes the place of one that was not sent: a partial that a
slow reader never sees leaves no hole.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from audio.model.transcriber import Word


class FromServer(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel", omit_defaults=True):
    """One message without its `seq`. Times are seconds from the session's first sample."""


class Ready(FromServer, tag="ready", frozen=True):
    """The message that the session is open."""

    session: str
    resume_from: int
    """The sample from which the client sends audio, counted at the rate that it named."""
    cursor: str
    language: str | None = None
    """The language that is heard; None while it is not known yet."""
    model: str = ""
    """The name of the speech model."""
    reply: Raw | UnsetType = UNSET
    """The spoken reply that goes on, in a session that is a conversation."""


class OfTurn(FromServer, frozen=True, kw_only=True):
    """A message about one turn: speech without an end in between, heard as one segment or cut into several."""

    turn: int | None = None
    """The first sample of the turn, at 16 kHz; None where the dialect asked for no turns."""
    channel: int | None = None
    """The number of the channel, from 0; None where all are heard as one. Each channel counts its own segments."""


class SpeechStarted(OfTurn, tag="speech_started", frozen=True):
    at: float


class SpeechStopped(OfTurn, tag="speech_stopped", frozen=True):
    at: float
    end: float | None = None
    """The end of the turn; None where the dialect asked for no turns."""


class Partial(OfTurn, tag="partial", frozen=True):
    segment: int
    text: str
    stable: str
    """The beginning of `text` whose words will not change any more; case and punctuation may."""
    start: float
    end: float
    words: list[Word] | None = None
    """The words of `text` with their times, where they were asked for."""
    confidence: float | None = None
    """The mean probability of the last hypothesis' tokens, where words were asked for."""


class Final(OfTurn, tag="final", frozen=True):
    segment: int
    text: str
    start: float
    end: float
    confidence: float
    """The mean probability of the tokens, 0 to 1."""
    language: str
    unsure: bool = False
    """Whether this is probably another language than `language`, or no speech that the model knows."""
    no_speech_prob: float | None = None
    """The probability that nobody spoke, 0 to 1, as the model sees it; with `words`."""
    words: list[Word] | None = None
    cursor: str = ""


class UtteranceEnd(FromServer, tag="utterance_end", frozen=True):
    """The message that nobody has spoken for as long as the client wants to know it, after the finals before it."""

    at: float
    """The end of the last speech."""
    channel: int | None = None
    """The number of the channel, where channels are heard apart."""


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


class Auth(FromServer, tag="auth", frozen=True):
    """Says in how many seconds the token of this connection expires, which then is closed with 4001."""

    expires_in: int


class Failure(FromServer, tag="error", frozen=True):
    code: str
    message: str
    retryable: bool


class Done(FromServer, tag="done", frozen=True):
    duration: float
    segments: int


ServerMessage = (
    Ready
    | SpeechStarted
    | SpeechStopped
    | Partial
    | Final
    | UtteranceEnd
    | Ack
    | Marker
    | Lag
    | Gap
    | Drain
    | Auth
    | Failure
    | Done
)


class Aside(msgspec.Struct, frozen=True):
    """A note to the dialect of one connection, in order with the messages. It has no number and goes nowhere else."""


class TurnOver(Aside, frozen=True):
    """The note that all of a turn is settled."""

    turn: int


def with_cursor(message: Final | Gap, cursor: str) -> Final | Gap:
    """Returns a final with its cursor. A gap has none: it lies before the cursor of the final that follows it."""
    return msgspec.structs.replace(message, cursor=cursor) if isinstance(message, Final) else message


_encode = msgspec.json.Encoder().encode


def encode(message: FromServer, seq: int) -> str:
    """Returns the text frame of a message."""
    body = _encode(message)
    return f'{{"seq":{seq},{body[1:].decode()}'
