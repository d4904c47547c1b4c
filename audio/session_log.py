"""Keeps what any process needs to continue a session in the log. The only part of the lane that uses the log.

A session has two topics. `event/audio/<session>` has its finals and gaps, one event each, for whoever may follow it;
`audio/<session>` has the session's state. Both are appended to in one step, which names the offset that the second
topic must be at: of two processes that hold a session, one wins, and the other learns that it has lost it.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from audio.messages import Final, Gap, with_cursor
from audio.model.transcriber import SAMPLE_RATE
from audio.session_state import ChargeAudio, SessionState, portions_of
from events.log.hub import Hub
from events.log.port import Append, Appended, Block, EventLog, Position, read_to_head
from events.log.topics import SESSION, stored, user_topic
from events.log.vector import VectorPosition, decode_vector, is_epoch, tag_of
from gateway.core.leases import Reservation, Reserved
from gateway.core.usage import UsageOutcome, now_ms, reserved, settled
from gateway.errors import BadRequest, LogConflict, LogError, NotFound

MAX_RECENT = 256
CLAIM_TRIES = 5
FINAL = "transcript-final"
GAP = "transcript-gap"
STATE = "where"
"""Name of the events that hold a session's state."""
_encode = msgspec.json.Encoder().encode


class NumberedEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An event of the transcript, as far as the lane itself reads it."""

    seq: int = 0


def topic_of(session: str) -> str:
    return SESSION + session


def _nothing(sub: str, before: SessionState, after: SessionState) -> None:
    """Charges nobody."""


class SessionLog:
    """The two topics of one session."""

    def __init__(
        self,
        log: EventLog,
        session: str,
        sub: str,
        extra_topic: str | None = None,
        charge: ChargeAudio = _nothing,
    ) -> None:
        """`extra_topic` is a topic of the events lane to which finals are published, too."""
        self._charge = charge
        self.session = session
        self.topic = topic_of(session)
        self.state = SessionState()
        self._left: SessionState | None = None
        """The state in which another process left the session; its portions are settled with the next."""
        self._untold: list[list[Reservation]] = []
        """Portions that no state has said yet."""
        self._log = log
        self._sub = sub
        self._final_topics: list[str] = sorted({user_topic(sub), *([extra_topic] if extra_topic else [])})
        """Topics that a final with words goes to besides the session's own."""
        self.is_over = False
        """Whether the session is done: nothing will be appended."""
        self._next = 1
        """The offset of the next state."""
        self._state_epoch = ""
        self._epoch = ""
        """The epoch of the transcript's topic."""

    async def create(self, model: str = "", key: str = "", taken: Reserved | None = None) -> str:
        """Makes both topics and reserves the usage row; returns the cursor before all events.

        `taken`: what was taken of rates for it.
        """
        self.state = SessionState(started_ms=now_ms(), model=model, key=key).holding(taken or {})
        try:
            transcript, state, _ = await self._log.append(
                Append(topic=stored(self.topic), data=[], owner=self._sub),
                Append(topic=self.topic, data=[_encode(self.state)], name=STATE, owner=self._sub, expect=1),
                reserved(self._sub, self.session, "session"),
            )
        except LogError:
            self._untold = self.state.portions
            raise
        self._epoch, self._state_epoch, self._next = transcript.epoch, state.epoch, 2
        return self._cursor(0)

    async def load(self) -> None:
        """Loads the session's state. Raises NotFound."""
        topic = await self._log.read(self.topic, 0, max_events=1)
        if not topic.epoch or not topic.head:
            raise NotFound(f"there is no session {self.session!r}, or it is too old", code="session_unknown")
        self.is_over = topic.closed
        last = await self._log.read(self.topic, topic.head - 1, max_events=1)
        self.state = msgspec.json.decode(last.blocks[-1].data[-1], type=SessionState)
        if self.state.kind != "session":
            raise NotFound(f"{self.session!r} is a file, which cannot be continued", code="session_unknown")
        self._state_epoch, self._next = topic.epoch, topic.head + 1
        transcript = await self._log.read(stored(self.topic), 0, max_events=1)
        self._epoch = transcript.epoch

    def take_over(self, taken: Reserved) -> None:
        """Goes on with what this process has taken of rates; what another had taken is settled with the next state."""
        self._left, self._untold = self.state, portions_of(taken)
        self.state = msgspec.structs.replace(self.state, portions=self._untold, since=self.state.audio)

    async def claim(self, taken: Reserved, cursor: str | None) -> None:
        """Takes the session over from whichever process has it, as it stands in the log by then. Raises LogError.

        That process may write until it learns of this, and whoever began with what it wrote over would have lost.
        Nothing is taken for a cursor that is none of the session's: its client will be refused.
        """
        for tries_left in reversed(range(CLAIM_TRIES)):
            self.take_over(taken)
            if self.is_over or not await self._is_own(cursor):
                return
            try:
                await self.append(self.state, [])
                return
            except LogConflict:
                if not tries_left:
                    raise
                await self.load()

    def extend(self, taken: Reserved) -> None:
        """Notes another portion, in the next state."""
        portions = portions_of(taken)
        self.state = msgspec.structs.replace(self.state, portions=[*self.state.portions, *portions])
        self._untold = [*self._untold, *portions]

    def release(self) -> None:
        """Gives back the portions that no state says."""
        if self._untold:
            self._charge(self._sub, SessionState(portions=self._untold), SessionState())

    def watch(self, hub: Hub, on_loss: Callable[[], None]) -> Callable[[], None]:
        """Calls `on_loss` when another process continues the session. Returns the call that ends this."""

        def notice(block: Block) -> None:
            if block.first >= self._next:
                on_loss()

        return hub.watch(self.topic, Position(self._state_epoch, self._next - 1), notice)

    def append(
        self, state: SessionState, transcript: Sequence[tuple[Final | Gap, int]], *, close: bool = False
    ) -> asyncio.Future[list[Appended]]:
        """Records a state, with the finals and gaps until there and their numbers; `close`: and the session's end.

        The future raises LogConflict when another connection has the session now, and LogUnavailable.
        """
        left, before, self._left, self._untold = self._left, self.state, None, []
        self.state = state = state.paid() if close else state
        appends = [*self._transcript_appends(transcript), self._state_append(state, close=close)]
        if close:
            appends += closing(self.session, self._sub, state, "finish")
        self._next += 1
        append = self._log.append(*appends)
        if left is not None and left.portions:
            self._charge_after(append, left, msgspec.structs.replace(left, portions=[]))
        if state.charged > before.charged or (before.portions and not state.portions):
            self._charge_after(append, before, state)
        return append

    def _charge_after(self, append: asyncio.Future[list[Appended]], before: SessionState, after: SessionState) -> None:
        append.add_done_callback(lambda append: is_done(append) and self._charge(self._sub, before, after))

    def _state_append(self, state: SessionState, *, close: bool) -> Append:
        return Append(topic=self.topic, data=[_encode(state)], name=STATE, expect=self._next, close=close)

    def _transcript_appends(self, transcript: Sequence[tuple[Final | Gap, int]]) -> list[Append]:
        appends: list[Append] = []
        for message, seq in transcript:
            name = FINAL if isinstance(message, Final) else GAP
            data = _encode({**msgspec.to_builtins(message), "seq": seq, "session": self.session})
            topics = [self.topic, *self._topics_besides(message)]
            appends += [Append(topic=stored(topic), data=[data], name=name) for topic in topics]
        return appends

    def _topics_besides(self, message: Final | Gap) -> list[str]:
        return self._final_topics if isinstance(message, Final) and message.text else []

    def cursors(self, transcript: Sequence[Final | Gap], results: Sequence[Appended]) -> list[str]:
        """Returns the cursor of each message, from the results of its appends."""
        cursors: list[str] = []
        at = 0
        for message in transcript:
            cursors.append(self._cursor(results[at].last))
            at += 1 + len(self._topics_besides(message))
        return cursors

    async def replay(self, cursor: str | None) -> tuple[str, list[Final | Gap]]:
        """Returns the cursor, or the first there is, and the messages after it. Raises BadRequest as `seq_at` does."""
        after = self.offset(cursor)
        messages = [with_cursor(message, self._cursor(offset)) for offset, message in await self._read(after)]
        return self._cursor(after), messages

    async def _read(self, after: int) -> list[tuple[int, Final | Gap]]:
        """Returns all messages after an offset, each with its own."""
        return [
            (offset, msgspec.json.decode(data, type=Final | Gap))
            async for piece in read_to_head(self._log, stored(self.topic), after)
            for block in piece.blocks
            if block.name in (FINAL, GAP)
            for offset, data in enumerate(block.data, block.first)
        ]

    async def recent(self, seconds: float) -> str:
        """Returns the cursor before the messages of the last seconds that are settled, MAX_RECENT at most.

        It never lies inside a turn: a client that has seen half of one cannot say so.
        """
        head = (await self._log.read(stored(self.topic), 0, max_events=1)).head
        first = max(0, head - MAX_RECENT)
        messages = await self._read(first)
        since_s = self.state.settled / SAMPLE_RATE - seconds
        at = next((at for at, (_, message) in enumerate(messages) if message.end > since_s), len(messages))
        while 0 < at < len(messages) and _is_same_turn(messages[at - 1][1], messages[at][1]):
            at -= 1
        return self._cursor(messages[at - 1][0] if at else first)

    def record_replay(self, after: int, count: int, seq: int) -> None:
        """Notes that a client was sent `count` messages after an offset again, under the numbers after `seq`."""
        self.state = msgspec.structs.replace(
            self.state, replayed_after=after, replayed_head=after + count, replayed_seq=seq, ending="interrupted"
        )

    async def seq_at(self, cursor: str | None) -> int:
        """Returns the number of the message that a cursor came with. Raises BadRequest for another topic's cursor."""
        offset, state = self.offset(cursor), self.state
        if not offset:
            return 0
        if state.replayed_after < offset <= state.replayed_head:
            return state.replayed_seq + offset - state.replayed_after
        piece = await self._log.read(stored(self.topic), offset - 1, max_events=1)
        if not piece.blocks or piece.blocks[0].first != offset:
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        return msgspec.json.decode(piece.blocks[0].data[0], type=NumberedEvent).seq

    async def _is_own(self, cursor: str | None) -> bool:
        try:
            await self.seq_at(cursor)
        except BadRequest:
            return False
        return True

    def offset(self, cursor: str | None) -> int:
        """Returns the offset of a cursor, and 0 for None. Raises BadRequest for another topic's cursor."""
        if cursor is None:
            return 0
        vector = decode_vector(cursor)
        if vector is None or vector.tag != tag_of((self.topic,)) or len(vector.positions) != 1:
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        position = vector.positions[0]
        if position.offset and not is_epoch(position.epoch, self._epoch):
            raise BadRequest("this cursor is not of this session", code="bad_cursor")
        return position.offset

    def _cursor(self, offset: int) -> str:
        vector = VectorPosition(tag_of((self.topic,)), (self.topic,), [Position(self._epoch, offset)], is_fixed=True)
        return vector.encode() or ""


def is_done(append: asyncio.Future[list[Appended]]) -> bool:
    """Returns whether the log has taken what was appended."""
    return not append.cancelled() and append.exception() is None


def closing(session: str, sub: str, state: SessionState, outcome: UsageOutcome) -> list[Append]:
    """Returns what is appended with the last state of a session, or of a file, which closes its topic."""
    appends = [Append(topic=stored(topic_of(session)), data=[], close=True)] if state.kind == "session" else []
    return [*appends, settled(sub, state.row(session, outcome))] if state.started_ms else appends


def _is_same_turn(one: Final | Gap, other: Final | Gap) -> bool:
    return one.turn is not None and one.turn == other.turn
