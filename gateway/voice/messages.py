"""Defines what a conversation says beside what is heard: turns, replies and their speech, in the wire form of §7."""

from typing import Literal

import msgspec

from audio.messages import Aside, FromServer
from audio.speech.clauses import SkipReason

ReplyState = Literal[
    "thinking",
    "speaking",
    "paused",
    "waiting",
    "spoken",
    "interrupted",
    "stopped",
    "failed",
    "text_only",
    "unspoken",
]
ENDS: frozenset[ReplyState] = frozenset(
    {"waiting", "spoken", "interrupted", "stopped", "failed", "text_only", "unspoken"}
)
"""The states after which nothing of a reply is spoken any more, unless its client asks to read on."""


class TurnMessage(FromServer, tag="turn", frozen=True, kw_only=True):
    """The message that what the user said is a message of the chat, whose run has begun."""

    turn: int | None = None
    """The first sample of it, at 16 kHz; None where it was typed."""
    text: str
    message_id: str
    run: str
    cursor: str
    """The cursor before the run's first chunk."""


class ReplyMessage(FromServer, tag="reply", frozen=True, kw_only=True):
    """The state of a spoken answer."""

    run: str
    state: ReplyState
    samples: int | None = None
    """The sample at which it stands."""
    chars: int | None = None
    """The end of the last word that was heard, in code points of the answer."""
    reason: str = ""
    message_id: str = ""
    """The user's message, while the run that answers it has not begun."""
    restated: bool = False
    """Whether a clause is said again from its start, because other bits speak now."""


class Speech(FromServer, tag="speech", frozen=True, kw_only=True):
    """The message before a clause's first frame."""

    run: str
    clause: int
    text: str
    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")
    at: int


class SkippedText(FromServer, tag="skipped", frozen=True, kw_only=True):
    """The message that a piece of the answer is on screen only."""

    run: str
    start: int = msgspec.field(name="from")
    end: int = msgspec.field(name="to")
    reason: SkipReason


class StandingReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The reply that goes on, as `ready` names it."""

    run: str
    state: ReplyState
    at: int
    restated: bool = False


VoiceMessage = TurnMessage | ReplyMessage | Speech | SkippedText


class SoundFrame(Aside, frozen=True):
    """A piece of a clause's sound, for the client whose turn it is in the queue."""

    frame: bytes
    """`u32le clause · u32le sample in reply · PCM`, s16le, mono, 24 kHz."""
    run: str
    number: int
    """The number of pauses that its reply has had: a frame that a pause has overtaken is not sent."""
