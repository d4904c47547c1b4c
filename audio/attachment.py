"""What is to be said on one connection of a session: in order, numbered, bounded."""

import asyncio
from collections import deque
from typing import NamedTuple

from audio.messages import Aside, Failure, Final, Gap, Partial, ServerMessage, encode

MAX_UNSENT = 512
"""Messages a client may be behind. Partials replace one another and hardly count; past it the connection is closed."""


class SocketClose(NamedTuple):
    """How a connection ends: a WebSocket close code, and why."""

    code: int
    reason: str


class Unsent:
    """One message that waits: a partial for the next one, a final for the log."""

    __slots__ = ("is_ready", "message", "seq")

    def __init__(self, message: ServerMessage | Aside, seq: int, *, is_ready: bool) -> None:
        self.message = message
        self.seq = seq
        self.is_ready = is_ready


class Attachment:
    """One connection's place in a session.

    Numbers are given when a message is put, and a newer partial takes the place and the number of one that was not sent
    yet, so a slow reader sees the newest text and no hole in the numbers.
    """

    __slots__ = ("_ending", "_held", "_is_cut", "_news", "_replayed", "_unsent", "seq")

    def __init__(self, seq: int) -> None:
        """`seq`: of the last message that the client holds."""
        self.seq = seq
        self._unsent: deque[Unsent] = deque()
        self._held: list[Unsent] | None = []
        self._ending: SocketClose | None = None
        self._replayed = 0
        """Messages that it is sent anew; they do not count as being behind."""
        self._is_cut = False
        """It ended at once: nothing more is said."""
        self._news = asyncio.Event()

    def put(self, message: ServerMessage | Aside, *, is_ready: bool = True) -> Unsent:
        """Says a message, once it `is_ready` and all before it are said. An aside takes no number."""
        if self._is_cut:
            return Unsent(message, 0, is_ready=is_ready)
        if self._held is not None:
            self._held.append(Unsent(message, 0, is_ready=is_ready))
            return self._held[-1]
        if isinstance(message, Partial):
            for unsent in self._unsent:
                if isinstance(unsent.message, Partial) and unsent.message.segment == message.segment:
                    unsent.message = message
                    return unsent
        unsent = Unsent(message, self._number(message), is_ready=is_ready)
        self._unsent.append(unsent)
        if len(self._unsent) > MAX_UNSENT + self._replayed:
            self.end(SocketClose(1013, f"the reader is {MAX_UNSENT} messages behind"), at_once=True)
        self._news.set()
        return unsent

    def release(self, first: list[ServerMessage]) -> None:
        """Says `first`, then what came meanwhile and is not among it; from now on, what comes."""
        held, self._held = self._held or [], None
        self._replayed = max(0, len(first) - 1)
        said = {_identity(message) for message in first}
        for message in first:
            self.put(message)
        for unsent in held:
            if not isinstance(unsent.message, Final | Gap) or _identity(unsent.message) not in said:
                unsent.seq = self._number(unsent.message)
                self._unsent.append(unsent)

    def _number(self, message: ServerMessage | Aside) -> int:
        if not isinstance(message, Aside):
            self.seq += 1
        return self.seq

    def ready(self, unsent: Unsent, message: ServerMessage) -> None:
        """What waited for the log is there, and reads so."""
        unsent.message = message
        unsent.is_ready = True
        self._news.set()

    def end(self, ending: SocketClose, *, at_once: bool = False) -> None:
        """Ends the connection when all is said; at once: without saying it."""
        if self._ending is None or at_once:
            self._ending = ending
        if at_once:
            self._is_cut = True
            self._unsent.clear()
        self._news.set()

    def fail(self, failure: Failure, ending: SocketClose) -> None:
        """Ends the connection, though some of what waits for the log will never be there."""
        self._unsent = deque(unsent for unsent in self._unsent if unsent.is_ready)
        self.put(failure)
        self.end(ending)

    @property
    def is_ending(self) -> bool:
        return self._ending is not None

    async def next(self) -> str | SocketClose:
        """The next message as text, or how the connection ends."""
        while not isinstance(said := await self.take(), SocketClose):
            if not isinstance(said.message, Aside):
                return encode(said.message, said.seq)
        return said

    async def take(self) -> Unsent | SocketClose:
        """The next message, or how the connection ends."""
        while True:
            if self._unsent and self._unsent[0].is_ready:
                return self._unsent.popleft()
            if self._ending is not None and not self._unsent:
                return self._ending
            self._news.clear()
            await self._news.wait()


def _identity(message: ServerMessage | Aside) -> tuple[str, float]:
    return type(message).__name__, message.start if isinstance(message, Final | Gap) else -1.0
