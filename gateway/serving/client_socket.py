"""One client's WebSocket as lanes use it: the deadline of a write, the refusal, the close, and the cut.

It works on what ASGI gives an application, so no lane knows the framework. A client that does not read holds nobody up.
"""

import asyncio
from typing import Any, NamedTuple

from gateway.errors import CloseCode, TrilaneError, close_code
from gateway.serving.refusals import note_refusal

ABORT = "trilane.abort"
"""Name of the ASGI extension that cuts the connection at once."""
SEND_S = 20.0
"""Maximum seconds that one message may wait for a client that does not read."""
MAX_REASON = 120
"""Maximum characters of a close's reason: a close frame holds 123 bytes."""


class SocketClose(NamedTuple):
    """The end of a connection: a close code, and the reason in words."""

    code: CloseCode
    reason: str


DRAINING = SocketClose(CloseCode.DRAINING, "this process is shutting down")
REVOKED = SocketClose(CloseCode.NOT_ALLOWED, "the key of this connection was revoked")
LOST = SocketClose(CloseCode.CONNECTION_LOST, "")


class ClientSocket:
    """One client's WebSocket, by the scope, receive and send of ASGI."""

    __slots__ = ("_scope", "_send", "receive")

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._scope = scope
        self._send = send
        self.receive = receive
        """Returns the next message as ASGI has it."""

    async def accept(self, subprotocol: str) -> None:
        """Accepts the connection, under a subprotocol if the client offers it."""
        await self.receive()
        offer = subprotocol if subprotocol in self._scope["subprotocols"] else None
        await self._send({"type": "websocket.accept", "subprotocol": offer, "headers": []})

    async def send(self, message: str | bytes) -> None:
        """Sends a text or a binary message. Raises TimeoutError when the client does not read."""
        text, data = (message, None) if isinstance(message, str) else (None, message)
        async with asyncio.timeout(SEND_S):
            await self._send({"type": "websocket.send", "text": text, "bytes": data})

    async def close(self, close: SocketClose) -> None:
        """Sends a close. Raises TimeoutError when the client does not read."""
        async with asyncio.timeout(SEND_S):
            await self._send({"type": "websocket.close", "code": close.code, "reason": close.reason[:MAX_REASON]})

    async def refuse(self, text: str, error: TrilaneError) -> None:
        """Says in the dialect's own `text` why there is no session, and closes."""
        self.note(error)
        try:
            await self.send(text)
            await self.close(close_of(error))
        except TimeoutError:
            self.abort()

    def note(self, error: TrilaneError) -> None:
        """Has an error counted that ends this connection."""
        note_refusal(error, self._scope)

    def abort(self) -> None:
        """Cuts a connection whose client does not read: not even a close would reach it."""
        extensions: Any = self._scope["extensions"]
        if ABORT in extensions:
            extensions[ABORT]()


def close_of(error: TrilaneError) -> SocketClose:
    return SocketClose(close_code(error), error.detail)
