"""What the session's log keeps of a conversation, so that any process goes on with it at the same sample. Pure.

It stands with the session's state, in the same fenced append, and is written before a client is told what it says. No
sound is kept: a clause that is made again by the same voice is the same samples.
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.voice.heard import SpokenClause
from gateway.voice.messages import ENDS, ReplyState, StandingReply
from gateway.voice.reply import ReplyPlace, SpokenReply

LEFT_S = 60.0
"""Seconds for which a reply whose listener is gone waits for them; then the rest of it is only read."""


class ReplyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A reply as it was recorded last."""

    run: str
    state: ReplyState
    samples: int = 0
    """The sample that was heard."""
    chars: int = 0
    """The end of the last word that was heard."""
    next_char: int = 0
    number: int = 0
    is_code_known: bool = False
    clauses: tuple[SpokenClause, ...] = ()
    """The clauses that were made, and were not heard to their end."""
    engine: str = ""
    """The fingerprint of the voice that made them; empty for one that never makes the same."""
    at_ms: int = 0
    """When this was recorded, in milliseconds since 1970."""

    @classmethod
    def of(cls, reply: SpokenReply, run_id: str, engine: str, now: float, now_ms: int) -> "ReplyRecord":
        samples, chars = reply.heard(now)
        is_over = reply.state in ENDS
        return cls(
            run=run_id,
            state=reply.state,
            samples=samples,
            chars=chars,
            next_char=reply.next_char,
            number=reply.number,
            is_code_known=reply.is_code_known,
            clauses=() if is_over else tuple(clause for clause in reply.clauses if clause.until > samples),
            engine=engine,
            at_ms=now_ms,
        )

    def is_left(self, now_ms: int) -> bool:
        """Tells whether it is too old to be gone on with."""
        return now_ms - self.at_ms > LEFT_S * 1000

    def place(self, played: int, engine: str) -> tuple[ReplyPlace, bool]:
        """Returns where to go on, of a client that has played so much, and whether a clause is said again for that.

        `engine` is the fingerprint of the voice that goes on.
        """
        end = self.clauses[-1].until if self.clauses else self.samples
        at = min(max(self.samples, played), end)
        clauses = tuple(clause for clause in self.clauses if clause.until > at)
        is_restated = bool(clauses) and clauses[0].at < at and not (engine and engine == self.engine)
        at = clauses[0].at if is_restated else at
        return ReplyPlace(clauses, at, self.chars, self.next_char, self.number, self.is_code_known), is_restated


class ConversationRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """A conversation as it was recorded last."""

    taken: int = 0
    """The sample, at 16 kHz, before which all that was said is in a turn, or was not meant to be answered."""
    reply: ReplyRecord | None = None
    """The newest reply."""


_decode = msgspec.json.Decoder(ConversationRecord).decode
_encode = msgspec.json.Encoder().encode


def encode_record(record: ConversationRecord) -> Raw:
    return Raw(_encode(record))


def decode_conversation(raw: Raw | UnsetType) -> ConversationRecord:
    """Returns what a session's state says of its conversation; nothing was said in one without any."""
    return ConversationRecord() if isinstance(raw, UnsetType) else _decode(raw)


def encode_standing(standing: StandingReply | None) -> Raw | UnsetType:
    return UNSET if standing is None else Raw(_encode(standing))
