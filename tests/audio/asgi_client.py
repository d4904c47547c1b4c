"""An AsgiClient drives a WebSocket as an ASGI application sees it, without a server or a framework in between."""

import asyncio
import json
from typing import Any

from audio.dialects.conversation import ClientSocket
from gateway.serving.client_socket import ABORT


class AsgiClient:
    """Sends what a test wants to the application, and keeps what the application sends back."""

    def __init__(self, *subprotocols: str) -> None:
        self.subprotocol: str | None = None
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self.is_aborted = False
        self.serving: asyncio.Task[None] | None = None
        """The application's call for this connection, when a test keeps it here."""
        self.reads = asyncio.Event()
        """Cleared: the client does not read, and what is sent to it waits."""
        self.reads.set()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox.put_nowait({"type": "websocket.connect"})
        self._scope = {"type": "websocket", "subprotocols": list(subprotocols), "extensions": {ABORT: self._abort}}

    @property
    def socket(self) -> ClientSocket:
        return ClientSocket(self._scope, self._outbox.get, self._take)

    def send(self, message: bytes | str | dict[str, Any]) -> None:
        if isinstance(message, dict):
            message = json.dumps(message)
        key = "bytes" if isinstance(message, bytes) else "text"
        self._outbox.put_nowait({"type": "websocket.receive", key: message})

    def leave(self, code: int = 1006) -> None:
        self._outbox.put_nowait({"type": "websocket.disconnect", "code": code})

    async def _take(self, message: dict[str, Any]) -> None:
        await self.reads.wait()
        match message["type"]:
            case "websocket.accept":
                self.subprotocol = message["subprotocol"]
            case "websocket.close":
                self.close_code, self.close_reason = message["code"], message["reason"]
            case _:
                self.messages.append(json.loads(message["text"]))

    def _abort(self) -> None:
        self.is_aborted = True

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]
