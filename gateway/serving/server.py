"""Runs uvicorn with a proper end: `Server` drains what is in flight before it lets uvicorn close.

Departs from uvicorn on purpose: it waits for ever on open streams at shutdown and closes the application only after
them; and it dies by the signal that ended it, where an operator wants exit code 0 when nothing was cut.
"""

import asyncio
import errno
import gc
import socket
from collections.abc import Coroutine, MutableMapping
from types import FrameType
from typing import Any, Protocol

import structlog
import uvicorn

from gateway.errors import ConfigurationError, TrilaneError
from gateway.serving.http import StreamProtocol
from gateway.serving.proxies import TrustedProxies
from gateway.settings import Settings

MAX_MESSAGE_BYTES = 1_048_576
"""Maximum bytes of one WebSocket message; routes allow less."""
CLOSE_S = 2
"""Seconds that connections get to send their last bytes, once nothing is in flight any more."""
LATE_REQUEST_S = 0.25
"""Seconds for which a draining process still takes requests, after it has stopped taking connections.

A connection that came just before brings its request just after, and a proxy sends no POST to a second process.
"""

log = structlog.get_logger("server")


class ServedUnit(Protocol):
    """An ASGI application that a server starts and drains."""

    has_websockets: bool
    failure: TrilaneError | None
    """The error that kept it from starting."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None: ...

    def on_start(self) -> None:
        """Takes note that the server accepts connections now."""
        ...

    def on_shutdown(self) -> None:
        """Takes note that the shutdown begins: the unit is not ready any more."""
        ...

    async def drain(self) -> None:
        """Takes no new work, sends readers away, and returns when nothing is in flight."""
        ...


class Server(uvicorn.Server):
    """A server of one unit; a second signal forces it to cut what is in flight."""

    def __init__(self, config: uvicorn.Config, unit: ServedUnit, settings: Settings) -> None:
        super().__init__(config)
        self._unit = unit
        self._settings = settings
        self._cut_requested = asyncio.Event()
        self.cut = False
        """Whether something was still in flight when the process ended."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        # What was loaded to serve stays, and a finished request leaves next to no cycle behind, so full
        # collections find nothing: at the default pace they only stop every stream for 100 ms now and then.
        gc.freeze()
        gc.set_threshold(5000, 20, 100)
        self._unit.on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            self._cut_requested.set()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._unit.on_shutdown()
        settings = self._settings
        log.info("draining", deadline_s=settings.drain_deadline_s)
        try:
            async with asyncio.timeout(settings.drain_deadline_s):
                await self._unless_cut(asyncio.sleep(settings.drain_delay_s))
                for server in self.servers:
                    server.close()
                await self._unless_cut(asyncio.sleep(LATE_REQUEST_S))
                await self._unless_cut(self._unit.drain())
        except TimeoutError:
            self.cut = True
        self.cut = self.cut or self.force_exit
        if self.cut:
            log.warning("drain incomplete: cutting what is still in flight")
        self.force_exit = False  # uvicorn would leave the application open; the log must be closed in any case
        await super().shutdown(sockets)
        self._captured_signals.clear()

    async def _unless_cut(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        cut = asyncio.ensure_future(self._cut_requested.wait())
        try:
            await asyncio.wait((task, cut), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pending in (task, cut):
                pending.cancel()


def check_address(host: str, port: int) -> None:
    """Raises ConfigurationError, with what to do, when this process could not listen on `port` of `host`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as err:
        raise ConfigurationError(f"--host {host!r} is not the name of an address: {err.strerror}") from err
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as err:
                raise ConfigurationError(_refusal(err, host, port)) from err


def _refusal(err: OSError, host: str, port: int) -> str:
    match err.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {host} is taken by another program: stop that one, or choose a port with --port"
        case errno.EACCES:
            return f"port {port} is reserved for the system's own services: choose one above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"this machine has no address {host}: choose one that it has with --host"
        case _:
            return f"cannot listen on port {port} of {host}: {err.strerror}"


def server_config(unit: ServedUnit, settings: Settings, host: str, port: int) -> uvicorn.Config:
    """Returns how uvicorn serves `unit`; one without WebSockets refuses every upgrade."""
    proxies = settings.trusted_proxies
    return uvicorn.Config(
        TrustedProxies(unit, proxies) if proxies else unit,  # pyright: ignore - uvicorn's own type of an ASGI application is narrower than Litestar's
        host=host,
        port=port,
        loop="uvloop",
        http=StreamProtocol,
        ws=_socket_protocol() if unit.has_websockets else "none",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=settings.ping_s,
        ws_per_message_deflate=False,  # 58 KiB a connection
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
        timeout_graceful_shutdown=CLOSE_S,
        proxy_headers=False,  # TrustedProxies reads them
    )


def _socket_protocol() -> type[asyncio.Protocol]:
    from gateway.serving.websocket import SocketProtocol

    return SocketProtocol
