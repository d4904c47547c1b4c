"""Defines the two ports of an event stream: the source that it reads, and the connection that a server may lend it.

Lanes implement `Source`; `gateway.serving` implements the rest. Both know each other only by these protocols.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

NEVER = float("inf")
"""A time that never comes, by the event loop's clock."""
CARRIER = "trilane.carrier"
"""Name of the ASGI extension under which our uvicorn protocol offers a `ConnectionLender`."""


class Source(Protocol):
    """A cursor on a log, from which an event stream reads."""

    __slots__ = ()
    on_wake: Callable[[], object]
    """Called when something may be due; the event stream sets it."""

    @property
    def ended(self) -> bool:
        """Returns whether nothing more will come."""
        ...

    @property
    def complete(self) -> bool:
        """Returns whether it ended because all of it was read, and not because it is gone."""
        ...

    def poll(self) -> bytes | None:
        """Returns the bytes due now; b"" when none are; None when `catch_up` has to fetch them."""
        ...

    async def catch_up(self) -> None:
        """Fetches one bounded slice of what is due. Raises TrilaneError when it cannot."""
        ...

    def close(self) -> None:
        """Ends the source; nothing else of it is called afterwards. Idempotent."""
        ...

    @property
    def written_s(self) -> float:
        """Returns when the source itself last wrote to the connection, by the event loop's clock."""
        return 0.0

    def follow(self, connection: "LentConnection | None") -> None:
        """Lets the source write to the connection itself from now on, because all that was due is written.

        None takes the connection back.
        """

    def due_at(self, now: float) -> float:
        """Makes due what this time brings; returns when to call it again. Times are those of the event loop's clock."""
        return NEVER


class LentConnection(Protocol):
    """A server's connection that carries one event stream, without a task (`gateway.serving.http`)."""

    transport: asyncio.WriteTransport
    """The transport, to which bytes that `wrap` has made may be written."""

    @property
    def writable(self) -> bool:
        """Returns whether the client reads fast enough to be written to."""
        ...

    def write(self, data: bytes) -> None:
        """Writes one chunk of the body; the caller has checked `writable`, and `data` is not empty."""
        ...

    @staticmethod
    def wrap(data: bytes) -> bytes:
        """Returns the bytes of one chunk, good for every connection of this kind."""
        ...

    def begin(self) -> None:
        """Begins the body; the head was sent, and nothing of the request is needed any more."""
        ...

    def give_back(self) -> None:
        """Returns the connection before `begin`: the request is answered in the usual way after all."""
        ...

    def finish(self, end: bytes) -> None:
        """Writes the last chunk, when there is one, and the end of the body."""
        ...

    def cut(self) -> None:
        """Closes the connection once what was written is sent, without the end of the body."""
        ...


class PumpedStream(Protocol):
    """An event stream, as the connection that carries it sees it."""

    def pump(self) -> None:
        """Writes what is due, because the connection takes more or something may be due."""
        ...

    def hold(self) -> None:
        """Stops writing, because the connection takes no more for now."""
        ...

    def gone(self) -> None:
        """Ends the stream, because the client has left."""
        ...


class ConnectionLender(Protocol):
    """A server's offer to carry event streams without a task each, found in a scope under CARRIER."""

    def carry(self, stream: "PumpedStream") -> LentConnection | None:
        """Lends its connection, which calls the stream's `pump`, `hold` and `gone` from now on; None when it cannot."""
        ...
