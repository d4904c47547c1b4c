"""Answers with the head of an event stream that are over at once."""

from functools import partial

from litestar.types import ASGIApp, Receive, Scope, Send

from gateway.serving.sse import HEADERS, OK, EventStream

OUTSIDE = "trilane.outside"


def outside(stream: EventStream) -> ASGIApp:
    """Has the unit write the stream when the framework is done with its request.

    Else the framework's frames, and its request, live as long as the stream: 3 KiB of each, on a server without a
    protocol of ours.
    """

    async def hand_over(scope: Scope, receive: Receive, send: Send) -> None:
        scope[OUTSIDE] = partial(stream, scope, receive, send)  # pyright: ignore - a key that Litestar's type does not know

    return hand_over


def whole(frame: bytes) -> ASGIApp:
    """A stream of one frame, with status 200: a browser gives up for ever on any other."""
    return _answer(200, OK + frame)


def head_of() -> ASGIApp:
    return _answer(200, b"")


def nothing() -> ASGIApp:
    """204: do not come back."""
    return _answer(204, b"")


def _answer(status: int, body: bytes) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*HEADERS] if status == 200 else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer
