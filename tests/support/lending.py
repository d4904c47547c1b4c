"""Tests of a lent connection share an application that streams or echoes, and requests to cut anywhere."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.support.raw_client import RawClient, request
from tests.support.raw_server import on_each_loop
from tests.support.streams import Feed, stream

KIB = 1024
GONE_S = 1.0
KEEP_ALIVE_S = 0.2
NOTE = b"GET /smuggled HTTP/1.1\r\n"
SECOND = request("POST", "/second", b"y" * 2000, f"x-note: {NOTE.decode().strip()}", "x-more: 1")
THIRD = request("GET", "/third")


def on_both(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test on our protocol and on uvicorn's, on asyncio's event loop and on the gateway's."""
    return pytest.mark.parametrize("http", ["ours", "httptools"])(on_each_loop(test))


class Site:
    """Streams from `/stream`, once the body is read, and echoes every other request."""

    def __init__(self, **how: Any) -> None:
        self.how = how
        self.feeds: list[Feed] = []
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        if scope["path"] == "/unread":
            await self._stream(scope, receive, send)
            return
        body = await body_of(receive)
        if scope["path"] == "/stream":
            await self._stream(scope, receive, send)
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(2 * KEEP_ALIVE_S)
        text = echo_of(scope["method"], scope["path"], body)
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _stream(self, scope: Any, receive: Any, send: Any) -> None:
        feed = Feed()
        self.feeds.append(feed)
        await stream(feed, **self.how)(scope, receive, send)

    def end(self) -> None:
        self.feeds[-1].say(b"said")
        self.feeds[-1].end()


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def echo_of(method: str, path: str, body: bytes) -> bytes:
    return f"{method} {path} {len(body)} {hashlib.sha256(body).hexdigest()}".encode()


async def assert_echoes(client: RawClient, body: bytes = b"") -> None:
    """Sends two more requests and checks that each gets its own answer."""
    await client.send(request("POST", "/second", body))
    assert (await client.answer()).body == echo_of("POST", "/second", body)
    await client.send(request("GET", "/third"))
    assert (await client.answer()).body == echo_of("GET", "/third", b"")
