"""Wraps the framework: gives each request or socket an id, each answer its security headers, and writes event streams.

A handler may leave an event stream in the scope (`routes.streams`), which is written when the framework is done.
HEAD is answered wherever GET is, by the same handler, and the body is left out; a handler that would begin something
for the body can ask the scope (`routes.streams.is_head`).
"""

import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.request_context import CURRENT, context_of
from gateway.errors import MESSAGES
from gateway.serving.refusals import REFUSALS, Refusals
from routes.security_headers import completed
from routes.streams import HEAD, STREAM

CLIENT_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~-]{1,64}")


class Edge:
    """An ASGI application around the framework's."""

    def __init__(self, app: Any, refusals: Refusals) -> None:
        self._app = app
        self._refusals = refusals
        self.start_failed = False
        """Whether the application could not start. The command line reports why, so no traceback is printed here."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            self._enter(scope)
            await self._app(scope, receive, send)

    def _enter(self, scope: Any) -> bytes:
        """Begins the context of a request or socket; returns its id."""
        request_id = _request_id(scope["headers"])
        scope["request_id"] = text = request_id.decode()
        scope[REFUSALS] = self._refusals
        CURRENT.set(context_of(text, scope["headers"]))
        return request_id

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        request_id = self._enter(scope)
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET", HEAD: True}, _headers_only(send)

        ids = [(b"x-request-id", request_id)]
        if scope["path"].startswith(MESSAGES):
            ids.append((b"request-id", request_id))  # where Anthropic's clients look for it

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = completed([*message["headers"], *ids], scope)
            await send(message)

        await self._app(scope, receive, send_with_id)
        stream: Callable[[], Awaitable[None]] | None = scope.pop(STREAM, None)
        if stream is not None:
            await stream()

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_without_traceback(message: Any) -> None:
            await send({**message, "message": ""} if self.start_failed and "message" in message else message)

        await self._app(scope, receive, send_without_traceback)


def _headers_only(send: Any) -> Any:
    """Returns a `send` that ends an answer where its body would begin; a stream then sees its client leave."""
    has_ended = False

    async def send_head(message: Any) -> None:
        nonlocal has_ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not has_ended:
            has_ended = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head


def _request_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Returns the client's own id when it is a short plain token, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and CLIENT_REQUEST_ID.fullmatch(value):
            return value
    return b"%016x" % random.getrandbits(64)
