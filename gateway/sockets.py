"""uvicorn's WebSocket protocol, able to cut a connection whose client does not read.

uvicorn closes a connection when what it wrote is flushed, which for such a client is never; an application that knows
better finds `transport.abort` in the scope's extensions under ABORT. A server without this works the same, and keeps
such a connection until the system drops it.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

ABORT = "trilane.abort"


class SocketProtocol(WebSocketsSansIOProtocol):
    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.handshake_initiated and hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = self.transport.abort  # pyright: ignore - its type knows two extensions
