"""What the log knows of a session, so that any process can go on with it. The only part of the lane that uses the log.

Two topics: `event/audio/<session>` has what was said, one event for each final or gap, for whoever may follow it; and
`audio/<session>` has where the session stands. Both are appended to as one, with the offset that is expected in the
second: of two processes that hold a session, one wins, and the other learns that it has lost it.
"""

import asyncio
import hmac
import secrets
from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from audio.messages import Final, Gap, with_cursor
from audio.model.transcriber import SAMPLE_RATE
from events.log.hub import Hub
from events.log.port import Append, Appended, Block, EventLog, Position
from events.log.topics import stored, user_topic
from events.log.vector import VectorPosition, decode_vector, is_epoch, tag_of
from gateway.errors import BadRequest, NotFound

MAX_RECENT = 256
FINAL = "transcript-final"
GAP = "transcript-gap"
_encode = msgspec.json.Encoder().encode


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a session stands, after one event of its log. The newest is all that is needed to go on."""

    settled: int = 0
    """Samples at 16 kHz."""
    segments: int = 0
    language: str | None = None
    notes: str = ""
    """A dialect's own: what a client asked for that does not say it again when it comes back."""
    replayed_after: int = 0
    """When its client came back last: the offset that it held,"""
    replayed_head: int = 0
    """the newest offset then,"""
    replayed_seq: int = 0
    """and the number of the message before the first of those between."""


class SpokenEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event of what was said, as far as the lane itself reads it."""

    seq: int = 0


def new_session(sub: str) -> str:
    """A name that shows whose it is to one who knows the user, and cannot be guessed."""
    chance = secrets.token_hex(10)
    return f"{chance}{_proof(chance, sub)}"


def is_owner(session: str, sub: str) -> bool:
    chance, proof = session[:20], session[20:]
    return len(session) == 36 and session.isalnum() and hmac.compare_digest(proof, _proof(chance, sub))


def _proof(chance: str, sub: str) -> str:
    return sha256(f"{chance}\n{sub}".encode()).hexdigest()[:16]


def topic_of(session: str) -> str:
    return f"audio/{session}"


class SessionLog:
    """One session's two topics."""

    def __init__(self, log: EventLog, session: str, sub: str, extra: str | None = None) -> None:
        """`extra`: a topic of the events lane that finals are told too."""
        self.session = session
        self.topic = topic_of(session)
        self.where = SessionState()
        self._log = log
        self._sub = sub
        self._extra = extra
        self.is_over = False
        """It is done: nothing will be added."""
        self._next = 1
        """The offset of the next event of `audio/<session>`."""
        self._where_epoch = ""
        self._epoch = ""
        """Of what was said."""

    async def create(self) -> str:
        """Makes both topics; the cursor before all."""
        said, where = await self._log.append(
            Append(topic=stored(self.topic), data=[], owner=self._sub),
            Append(topic=self.topic, data=[_encode(self.where)], name="where", owner=self._sub, expect=1),
        )
        self._epoch, self._where_epoch, self._next = said.epoch, where.epoch, 2
        return self._cursor(0)

    async def load(self) -> None:
        """Where the session stands. Raises NotFound."""
        found = await self._log.read(self.topic, 0, max_events=1)
        if not found.epoch or not found.head:
            raise NotFound(f"there is no session {self.session!r}, or it is too old", code="session_unknown")
        self.is_over = found.closed
        last = await self._log.read(self.topic, found.head - 1, max_events=1)
        self.where = msgspec.json.decode(last.blocks[-1].data[-1], type=SessionState)
        self._where_epoch, self._next = found.epoch, found.head + 1
        said = await self._log.read(stored(self.topic), 0, max_events=1)
        self._epoch = said.epoch

    def watch(self, hub: Hub, lost: Callable[[], None]) -> Callable[[], None]:
        """Calls `lost` when another process goes on with the session; returns how to end that."""

        def see(block: Block) -> None:
            if block.first >= self._next:
                lost()

        return hub.watch(self.topic, Position(self._where_epoch, self._next - 1), see)

    def append(
        self, where: SessionState, said: Sequence[tuple[Final | Gap, int]], *, close: bool = False
    ) -> asyncio.Future[list[Appended]]:
        """Records where the session stands, with what was said until there and its numbers.

        Raises (by the future) LogConflict when another connection has the session now, LogUnavailable.
        """
        self.where = where
        appends = [*self._said(said), self._append(where, close=close)]
        if close:
            appends.append(Append(topic=stored(self.topic), data=[], close=True))
        self._next += 1
        return self._log.append(*appends)

    def _append(self, where: SessionState, *, close: bool) -> Append:
        return Append(topic=self.topic, data=[_encode(where)], name="where", expect=self._next, close=close)

    def _said(self, said: Sequence[tuple[Final | Gap, int]]) -> list[Append]:
        appends: list[Append] = []
        for message, seq in said:
            name = FINAL if isinstance(message, Final) else GAP
            data = _encode({**msgspec.to_builtins(message), "seq": seq, "session": self.session})
            appends.append(Append(topic=stored(self.topic), data=[data], name=name))
            if name == FINAL and isinstance(message, Final) and message.text:
                also = {user_topic(self._sub), *([self._extra] if self._extra else [])}
                appends += [Append(topic=stored(topic), data=[data], name=name) for topic in sorted(also)]
        return appends

    def cursors(self, said: Sequence[Final | Gap], done: Sequence[Appended]) -> list[str]:
        """The cursor of each of what was said, from what its append came to."""
        own: list[str] = []
        at = 0
        for message in said:
            own.append(self._cursor(done[at].last))
            is_told = isinstance(message, Final) and bool(message.text)
            at += 1 + (len({user_topic(self._sub), *([self._extra] if self._extra else [])}) if is_told else 0)
        return own

    async def since(self, cursor: str | None) -> tuple[str, list[Final | Gap]]:
        """The cursor, or the first there is, and what was said after it. Raises BadRequest as `seq_at` does."""
        after = self.offset(cursor)
        return self._cursor(after), [
            with_cursor(said, self._cursor(offset)) for offset, said in await self._read(after)
        ]

    async def _read(self, at: int) -> list[tuple[int, Final | Gap]]:
        """All that was said after an offset, with its own."""
        messages: list[tuple[int, Final | Gap]] = []
        while True:
            found = await self._log.read(stored(self.topic), at)
            for block in found.blocks:
                for number, data in enumerate(block.data, block.first):
                    messages.append((number, msgspec.json.decode(data, type=Final | Gap)))
            at = found.blocks[-1].last if found.blocks else found.head
            if at >= found.head:
                return messages

    async def recent(self, seconds: float) -> str:
        """The cursor before what was said of the last seconds that are settled, MAX_RECENT events at most.

        Never one inside a turn: who has seen half of one cannot say so.
        """
        head = (await self._log.read(stored(self.topic), 0, max_events=1)).head
        first = max(0, head - MAX_RECENT)
        said = await self._read(first)
        since_s = self.where.settled / SAMPLE_RATE - seconds
        at = next((at for at, (_, message) in enumerate(said) if message.end > since_s), len(said))
        while 0 < at < len(said) and said[at][1].turn is not None and said[at][1].turn == said[at - 1][1].turn:
            at -= 1
        return self._cursor(said[at - 1][0] if at else first)

    def came_back(self, after: int, count: int, seq: int) -> None:
        """A client was sent `count` messages after offset `after` anew, under the numbers after `seq`."""
        self.where = msgspec.structs.replace(
            self.where, replayed_after=after, replayed_head=after + count, replayed_seq=seq
        )

    async def seq_at(self, cursor: str | None) -> int:
        """The number of the message that a cursor came with. Raises BadRequest when it is not of this session."""
        offset, where = self.offset(cursor), self.where
        if not offset:
            return 0
        if where.replayed_after < offset <= where.replayed_head:
            return where.replayed_seq + offset - where.replayed_after
        found = await self._log.read(stored(self.topic), offset - 1, max_events=1)
        if not found.blocks or found.blocks[0].first != offset:
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        return msgspec.json.decode(found.blocks[0].data[0], type=SpokenEvent).seq

    def offset(self, cursor: str | None) -> int:
        """What a cursor stands for; None is the beginning. Raises BadRequest when it is not of this session."""
        if cursor is None:
            return 0
        told = decode_vector(cursor)
        if told is None or told.tag != tag_of((self.topic,)) or len(told.positions) != 1:
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        position = told.positions[0]
        if position.offset and not is_epoch(position.epoch, self._epoch):
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        return position.offset

    def _cursor(self, offset: int) -> str:
        stand = VectorPosition(tag_of((self.topic,)), (self.topic,), [Position(self._epoch, offset)], is_fixed=True)
        return stand.encode() or ""
