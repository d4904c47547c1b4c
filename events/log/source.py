"""What a response reads from, and what a server may lend it to write to: the two ports of `gateway.serving.sse`."""

import asyncio
from collections.abc import Callable
from typing import Protocol

NEVER = float("inf")
CARRIER = "trilane.carrier"
"""Name of the ASGI extension under which our uvicorn protocol offers itself."""


class Source(Protocol):
    """What a response reads from: a cursor on a log."""

    __slots__ = ()
    on_wake: Callable[[], object]
    """Called when something may be due; the response sets it."""

    @property
    def ended(self) -> bool:
        """Nothing more will come."""
        ...

    @property
    def complete(self) -> bool:
        """It ended because all of it was read; else it is gone."""
        ...

    def poll(self) -> bytes | None:
        """What is due; b"" when nothing is; None when `catch_up` has to fetch it."""
        ...

    async def catch_up(self) -> None: ...
    def close(self) -> None: ...

    @property
    def written_s(self) -> float:
        """When it last wrote to the connection itself, by the event loop's clock."""
        return 0.0

    def follow(self, connection: "LentConnection | None") -> None:
        """All that was due is written: from now on it may `put` what is due itself. None: no longer."""

    def due_at(self, now: float) -> float:
        """Makes due what the clock says, by the event loop's clock; and when it wants to be asked again."""
        return NEVER


class LentConnection(Protocol):
    """A server's connection that carries one event stream, without a task (`gateway.serving.http`)."""

    transport: asyncio.WriteTransport
    """Takes what `wrap` has made."""

    @property
    def writable(self) -> bool: ...
    def write(self, data: bytes) -> None:
        """One chunk of the body; the caller has looked at `writable`, and `data` is not empty."""
        ...

    @staticmethod
    def wrap(data: bytes) -> bytes:
        """One chunk of any body, for many connections of this kind."""
        ...

    def begin(self) -> None:
        """The head was sent: nothing of the request is needed any more."""
        ...

    def give_back(self) -> None:
        """Before `begin`: the request is answered in the usual way after all."""
        ...

    def finish(self, end: bytes) -> None:
        """Writes the last chunk, when there is one, and the end of the body."""
        ...

    def cut(self) -> None:
        """Closes the connection once what was written is sent, without the end of the body."""
        ...


class PumpedStream(Protocol):
    """A stream that a connection carries."""

    def pump(self) -> None:
        """The connection takes more, or something may be due."""
        ...

    def hold(self) -> None:
        """The connection takes no more for now."""
        ...

    def gone(self) -> None:
        """The client has left."""
        ...


class ConnectionLender(Protocol):
    """What a server offers a response under the name CARRIER."""

    def carry(self, stream: "PumpedStream") -> LentConnection | None:
        """From now on the connection calls the stream's `pump` and `gone`; None when it cannot."""
        ...
