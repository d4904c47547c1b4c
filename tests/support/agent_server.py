"""A small agent, an ASGI application behind uvicorn: each of its paths plays a script, and requests are remembered."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import uvicorn

from loadtests.ports import free_port
from tests.support.loop_thread import LoopThread

Script = list[Any]
"""Pieces of a stream in order: bytes to send, seconds to wait, or `hang`, which waits until the client leaves."""


class AgentRequest(msgspec.Struct):
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    left_at: float | None = None
    """The time at which its client left before the script was over, by `time.monotonic`."""
    is_over: bool = False


class AgentServer:
    """The server, on an event loop in a thread of its own."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.requests: list[AgentRequest] = []
        self.scripts: dict[str, Script | list[Script]] = {}
        """What each path plays; of a list of scripts, the first one that is left."""
        self.statuses: dict[str, int] = {}
        self._thread = LoopThread(self._open)

    def __enter__(self) -> "AgentServer":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    def at(self, path: str) -> list[AgentRequest]:
        return [request for request in self.requests if request.path == path]

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        port = int(self.url.rpartition(":")[2])
        server = uvicorn.Server(
            uvicorn.Config(self._app, port=port, interface="asgi3", log_level="warning", lifespan="off")
        )
        task = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = server.force_exit = True
            await task

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        request = AgentRequest(scope["path"], headers, json.loads(body or b"{}"))
        self.requests.append(request)
        status = self.statuses.get(request.path, 200)
        kind = b"text/event-stream" if status == 200 else b"application/json"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        playing = asyncio.create_task(self._play(request, send))
        leaving = asyncio.create_task(self._left(receive))
        await asyncio.wait((playing, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not playing.done():
            request.left_at = time.monotonic()
        playing.cancel()
        leaving.cancel()
        request.is_over = True

    async def _left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _play(self, request: AgentRequest, send: Any) -> None:
        script = self.scripts.get(request.path, [])
        if script and isinstance(script[0], list):
            script = script.pop(0) if len(script) > 1 else script[0]
        for piece in script:
            if isinstance(piece, bytes):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            else:
                await asyncio.sleep(3600 if piece == "hang" else piece)
        await send({"type": "http.response.body", "body": b""})
