"""Makes the answers of event streams: one written after the framework's part, and those that end at once."""

from collections.abc import Mapping, Sequence
from functools import partial

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.serving.sse import HEADERS, OK, EventStream

STREAM = "trilane.stream"
"""Key of the scope under which a handler leaves its event stream for `routes.edge`."""
HEAD = "trilane.head"
"""Key of the scope that says that a GET was a HEAD."""


def is_head(scope: Mapping[str, object]) -> bool:
    """Returns whether the body of the answer will be left out."""
    return HEAD in scope


def after_the_request(stream: EventStream) -> ASGIApp:
    """Returns an answer that is written once the framework is done with the request.

    A stream that the framework writes keeps the framework's frames and its request alive: 3 KiB per reader, on a
    server without our protocol.
    """

    async def leave_in_scope(scope: Scope, receive: Receive, send: Send) -> None:
        scope[STREAM] = partial(stream, scope, receive, send)  # pyright: ignore - a key that Litestar's type does not know

    return leave_in_scope


def whole(frame: bytes) -> ASGIApp:
    """Returns a stream of one frame, with status 200: a browser gives up for ever on any other."""
    return _answer(200, OK + frame, HEADERS)


def accepted(body: bytes) -> ASGIApp:
    """Returns a 202 with JSON, for work that goes on by itself."""
    return _answer(202, body, [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))])


def headers_only() -> ASGIApp:
    """Returns the answer to HEAD for a stream that is not begun for it."""
    return _answer(200, b"", HEADERS)


def nothing() -> ASGIApp:
    """Returns a 204, which tells a browser not to come back."""
    return _answer(204, b"")


def _answer(status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer
