"""Serves routes that fail in every way in which ours could: `python -m tests.support.failing_server PORT`."""

import sys
from typing import Any

from litestar import WebSocket, get, websocket
from litestar.types import ASGIApp

from events.lane import EventsLane
from events.log.source import Source
from gateway.commands.serve import serve
from gateway.core.process import Core
from gateway.serving.sse import EventStream
from gateway.settings import Settings, load
from gateway.units import MountedLane, Unit
from routes import events
from routes.streams import after_the_request

BUG = "a bug of ours,\r\nwhich says\x1b[2J two lines"


class BrokenSource(Source):
    """A stream that begins well, and whose log then fails with what is no error of ours."""

    ended = complete = False
    on_wake: Any = None

    def poll(self) -> bytes | None:
        return None

    async def catch_up(self) -> None:
        raise RuntimeError(BUG)

    def close(self) -> None:
        """Has nothing to free."""


@get("/request", opt={"open": True})
async def request() -> None:
    raise RuntimeError(BUG)


@get("/stream", opt={"open": True})
async def stream(core: Core) -> ASGIApp:
    return after_the_request(EventStream(BrokenSource(), ping_s=15, open_streams=core.streams))


@websocket("/socket", opt={"open": True})
async def socket(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.receive_text()
    raise RuntimeError(BUG)


@websocket("/handshake", opt={"open": True})
async def handshake(socket: WebSocket[Any, Any, Any]) -> None:
    raise RuntimeError(BUG)


def failing_unit(settings: Settings) -> Unit:
    unit = Unit(
        "events",
        settings,
        [lambda core, lanes: MountedLane("events", EventsLane(core), events.ROUTES)],
        [request, stream, socket, handshake],
    )
    unit.has_websockets = True
    return unit


if __name__ == "__main__":
    sys.exit(serve(load(), "events", failing_unit, "127.0.0.1", int(sys.argv[1])))
