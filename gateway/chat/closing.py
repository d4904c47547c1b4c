"""The end of a run that this process owns decides what becomes of the chat's queue.

An answer that came to its end is followed by the answer to what waits first: the append that ends the one starts the
other, so no process can die between the two. Any other end leaves the queue as it is, until somebody goes on with it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from events.log.port import Append
from gateway.chat.ending import RunEnding
from gateway.chat.inbox import Inbox


class Successor(Protocol):
    """A run that is to start with the append that ends another."""

    @property
    def appends(self) -> list[Append]: ...

    def begin(self) -> None:
        """Lets it run: its appends are in the log."""
        ...

    def cancel(self) -> None:
        """Lets go of what it holds: it never began."""
        ...


Follow = Callable[[RunEnding, Inbox], Awaitable[Successor | None]]
"""A function that prepares the answer to what waits first, for a chat in the state that it notes in the inbox."""


class Closing:
    """What a run's journal settles."""

    def __init__(self, ending: RunEnding, inbox: Inbox, follow: Follow | None) -> None:
        """`follow` is None when nothing is to follow, whatever waits."""
        self.finished = ending.finished
        self.chat = inbox.topic
        self._ending = ending
        self._inbox = inbox
        self._follow = follow
        self._successor: Successor | None = None

    async def appends(self, expect: int) -> list[Append]:
        self.cancel()
        inbox = self._inbox
        if self._follow is not None and inbox.queue.waiting and not inbox.is_gone:
            self._successor = await self._follow(self._ending, inbox)
        head = None if inbox.is_gone else inbox.head
        more = self._successor.appends if self._successor is not None else []
        is_left = bool(inbox.queue.waiting) and self._successor is None
        return [*self._ending.appends(expect, head, is_followed=is_left), *more]

    async def chat_changed(self) -> None:
        await self._inbox.refresh()

    def begin(self) -> None:
        """Lets what follows run, once the end is in the log."""
        if self._successor is not None:
            self._successor.begin()
            self._successor = None

    def cancel(self) -> None:
        """Lets go of what was to follow. Idempotent."""
        if self._successor is not None:
            self._successor.cancel()
            self._successor = None
