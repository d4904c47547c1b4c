"""An upstream that answers with files, byte by byte as recorded: a request's model names the file.

`NAME.sse` is the body; `NAME.head`, where there is one, its status (`status`), content type (`ct`) and headers (`h`).
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.loop_thread import LoopThread


class CasesUpstream:
    """The server, on an event loop in a thread of its own."""

    def __init__(self, folder: Path, more: Mapping[str, bytes] | None = None) -> None:
        """Serves the files in `folder`, and the bodies in `more` by their names."""
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self._folder = folder
        self._more = more or {}
        self._thread = LoopThread(self._open)

    def __enter__(self) -> "CasesUpstream":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line[:15] == b"content-length:"), 0)
                body = json.loads(await reader.readexactly(length)) if length else {}
                self.requests.append(body)
                writer.write(self._answer(body.get("model", "")))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, model: str) -> bytes:
        path = self._folder / f"{model}.head"
        told = json.loads(path.read_text()) if path.exists() else {}
        body = self._more[model] if model in self._more else (self._folder / f"{model}.sse").read_bytes()
        content_type = {"content-type": told.get("ct", "text/event-stream")} if told.get("ct", "-") else {}
        headers = {**content_type, **told.get("h", {}), "content-length": str(len(body))}
        lines = [f"HTTP/1.1 {told.get('status', '200 OK')}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body
