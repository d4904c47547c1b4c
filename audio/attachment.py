"""The messages that wait for one connection of a session: in order, numbered and bounded."""

import asyncio
from collections import deque
from collections.abc import Sequence

from audio.messages import Aside, Failure, Final, FromServer, Gap, Partial, encode
from gateway.errors import CloseCode
from gateway.serving.client_socket import SocketClose

MAX_UNSENT = 512
"""Maximum number of messages that a client may be behind; past it the connection is closed.

Partials hardly count, since a newer one replaces the one that waits.
"""


DONE = SocketClose(CloseCode.DONE, "done")
IDLE = SocketClose(CloseCode.IDLE, "nobody has spoken for long: come back to this session")
TAKEN_OVER = SocketClose(CloseCode.TAKEN_OVER, "the session was taken over by a newer connection")


class QueuedMessage:
    """One message that waits. A partial may be replaced, and a final is not ready until the log has it."""

    __slots__ = ("is_ready", "message", "seq")

    def __init__(self, message: FromServer | Aside, seq: int, *, is_ready: bool) -> None:
        self.message = message
        self.seq = seq
        self.is_ready = is_ready


class Attachment:
    """One connection's place in a session.

    A message gets its number when it is put in. A newer partial takes the place and the number of one that was not sent
    yet, so a slow reader sees the newest text and no hole in the numbers.
    """

    __slots__ = ("_backlog", "_close", "_is_cut", "_news", "_queue", "_replay_count", "key_id", "seq")

    def __init__(self, seq: int) -> None:
        """`seq` is the number of the last message that the client holds."""
        self.seq = seq
        self.key_id = ""
        """The id of the stored key that the client signed in with; empty for other credentials."""
        self._queue: deque[QueuedMessage] = deque()
        self._backlog: list[QueuedMessage] | None = []
        """Messages that came before `release`; None from then on."""
        self._close: SocketClose | None = None
        self._replay_count = 0
        """Number of messages that the client is sent again; they do not count as being behind."""
        self._is_cut = False
        """Whether the connection ended at once, so that nothing more is put in."""
        self._news = asyncio.Event()

    def put(self, message: FromServer | Aside, *, is_ready: bool = True) -> QueuedMessage:
        """Queues a message, which goes out once it and all before it are ready. An aside takes no number."""
        if self._is_cut:
            return QueuedMessage(message, 0, is_ready=is_ready)
        if self._backlog is not None:
            self._backlog.append(QueuedMessage(message, 0, is_ready=is_ready))
            return self._backlog[-1]
        if isinstance(message, Partial):
            for queued in self._queue:
                if isinstance(queued.message, Partial) and _is_same_segment(queued.message, message):
                    queued.message = message
                    return queued
        queued = QueuedMessage(message, self._number(message), is_ready=is_ready)
        self._queue.append(queued)
        if len(self._queue) > MAX_UNSENT + self._replay_count:
            reason = f"the reader is {MAX_UNSENT} messages behind"
            self.end(SocketClose(CloseCode.TRY_LATER, reason), at_once=True)
        self._news.set()
        return queued

    def release(self, first: Sequence[FromServer]) -> None:
        """Queues `first`, then what came since the connection was made, less the finals and gaps that `first` has."""
        backlog, self._backlog = self._backlog or [], None
        self._replay_count = max(0, len(first) - 1)
        identities = {_identity(message) for message in first}
        for message in first:
            self.put(message)
        for queued in backlog:
            if not isinstance(queued.message, Final | Gap) or _identity(queued.message) not in identities:
                queued.seq = self._number(queued.message)
                self._queue.append(queued)

    def _number(self, message: FromServer | Aside) -> int:
        if not isinstance(message, Aside):
            self.seq += 1
        return self.seq

    def confirm(self, queued: QueuedMessage, message: FromServer) -> None:
        """Makes a message ready that waited for the log, in the form that it has now."""
        queued.message = message
        queued.is_ready = True
        self._news.set()

    def end(self, close: SocketClose, *, at_once: bool = False) -> None:
        """Ends the connection after all that is queued, or `at_once` without sending it."""
        if self._close is None or at_once:
            self._close = close
        if at_once:
            self._is_cut = True
            self._queue.clear()
        self._news.set()

    def fail(self, failure: Failure, close: SocketClose) -> None:
        """Ends the connection with a failure, and drops what will never be ready."""
        self._queue = deque(queued for queued in self._queue if queued.is_ready)
        self.put(failure)
        self.end(close)

    async def next(self) -> str | SocketClose:
        """Returns the text of the next message, or how the connection ends."""
        while not isinstance(queued := await self.take(), SocketClose):
            if not isinstance(queued.message, Aside):
                return encode(queued.message, queued.seq)
        return queued

    async def take(self) -> QueuedMessage | SocketClose:
        """Returns the next message or aside, or how the connection ends."""
        while True:
            if self._queue and self._queue[0].is_ready:
                return self._queue.popleft()
            if self._close is not None and not self._queue:
                return self._close
            self._news.clear()
            await self._news.wait()


def _is_same_segment(one: Partial, other: Partial) -> bool:
    return one.segment == other.segment and one.channel == other.channel


def _identity(message: FromServer | Aside) -> tuple[str, float, int | None]:
    if isinstance(message, Final | Gap):
        return type(message).__name__, message.start, message.channel
    return type(message).__name__, -1.0, None
