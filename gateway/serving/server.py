"""Runs uvicorn with a proper end: `Server` drains what is in flight before it lets uvicorn close.

Departs from uvicorn on purpose: it waits for ever on open streams at shutdown and closes the application only after
them; it drops idle connections, on one of which a request may be under way; and it dies by the signal that ended it,
where an operator wants exit code 0 when nothing was cut.
"""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, MutableMapping
from types import FrameType
from typing import Any, Protocol

import structlog
import uvicorn
from uvicorn.middleware.proxy_headers import _TrustedHosts  # pyright: ignore[reportPrivateUsage] - it reads networks

from gateway.errors import TrilaneError
from gateway.serving.addresses import AddressCounts
from gateway.serving.http import StreamConnection, StreamProtocol
from gateway.serving.listening import bind, has_waiting, hold_off
from gateway.serving.proxies import TrustedProxies
from gateway.settings import Settings

MAX_MESSAGE_BYTES = 1_048_576
"""Maximum bytes of one WebSocket message; routes allow less."""
HANDSHAKE_S = 0.05
"""Seconds that a connection under way may take to be there: one round trip to a proxy."""
TAKE_S = 2.0
"""Seconds in which connections that are there are taken, before the listener closes."""
ANSWER_S = 0.5
"""Seconds from the close of the listener in which a request that is there counts as new work, and is taken."""
IDLE_S = 1.0
"""Seconds from the close of the listener in which an open connection may send its next request."""
UPLOAD_S = 10.0
"""Seconds from the close of the listener in which the body of a request may come."""
LOOK_S = 0.02
"""Seconds between two looks at the connections."""
LAST_ANSWER = (b"connection", b"close")
"""The header of an answer behind which the connection is closed."""
CLOSE_S = 2
"""Seconds that connections get to send their last bytes, once nothing is in flight any more."""

NOISE = "Invalid HTTP request received."
"""What uvicorn logs of each connection that speaks something else."""
NOISE_S = 10.0
"""Seconds between two lines of it: a client could fill a disk with them."""
UNFINISHED = (
    "ASGI callable returned without completing handshake.",
    "ASGI callable returned without completing response.",
)
"""What uvicorn logs as errors of sockets that were refused with an answer, and of answers that were cut on purpose.

`Refusals` takes note of the first, and whoever cuts an answer of the second.
"""

log = structlog.get_logger("server")


class SeldomNoise(logging.Filter):
    """Passes NOISE once in NOISE_S, UNFINISHED never, and everything else."""

    _next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg != NOISE:
            return record.msg not in UNFINISHED
        now = time.monotonic()
        is_due = now >= self._next_s
        if is_due:
            self._next_s = now + NOISE_S
        return is_due


_seldom_noise = SeldomNoise()


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
        self.drain_delay_s = settings.drain_delay_s
        self.is_last_on_port = True
        """Whether nobody accepts on the same sockets when this server has left."""
        self.cut = False
        """Whether something was still in flight when the process ended."""
        self.on_hangup: Callable[[], None] | None = None
        """Called at each SIGHUP; None leaves that signal to the system."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        # What was loaded to serve stays, and a finished request leaves next to no cycle behind, so full
        # collections find nothing: at the default pace they only stop every stream for 100 ms now and then.
        gc.freeze()
        gc.set_threshold(5000, 20, 100)
        if self.on_hangup is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.on_hangup)
        self._unit.on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.cut_now()
        self.should_exit = True

    def cut_now(self) -> None:
        """Ends without waiting for what is in flight."""
        self.should_exit = self.force_exit = True
        self._cut_requested.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._unit.on_shutdown()
        settings = self._settings
        log.info("draining", deadline_s=settings.drain_deadline_s)
        try:
            async with asyncio.timeout(settings.drain_deadline_s):
                await self._unless_cut(asyncio.sleep(self.drain_delay_s))
                await self._unless_cut(self._take_last())
                for server in self.servers:
                    server.close()
                await self._unless_cut(self._settle())
                await self._unless_cut(self._unit.drain())
        except TimeoutError:
            self.cut = True
        self.cut = self.cut or self.force_exit
        if self.cut:
            log.warning("drain incomplete: cutting what is still in flight")
        self.force_exit = False  # uvicorn would leave the application open; the log must be closed in any case
        await super().shutdown(sockets)
        self._captured_signals.clear()

    async def _take_last(self) -> None:
        """Takes what the system has accepted, while it lets nobody else in: the port closes behind an empty queue."""
        listeners = [sock.fileno() for server in self.servers for sock in server.sockets]
        if not self.is_last_on_port or not all([hold_off(listener) for listener in listeners]):
            return
        await asyncio.sleep(HANDSHAKE_S)
        for _ in range(round(TAKE_S / LOOK_S)):
            if not any(has_waiting(listener) for listener in listeners):
                return
            await asyncio.sleep(LOOK_S)

    async def _settle(self) -> None:
        """Serves what is under way on open connections, each of which closes behind its next answer.

        A connection that was taken just before the listener closed has sent nothing yet, and a proxy may have sent a
        request on one that it keeps: refused or dropped, it would be an error of a client who did nothing wrong.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.server_state.default_headers = [*self.server_state.default_headers, LAST_ANSWER]
        while True:
            await asyncio.sleep(LOOK_S)  # first of all: a connection that was just taken is not known yet
            if not self._is_work_under_way(loop.time() - began):
                break
        for connection in list(self.server_state.connections):
            if isinstance(connection, StreamProtocol | StreamConnection):
                connection.shutdown()

    def _is_work_under_way(self, since_s: float) -> bool:
        """Tells whether a connection may still bring new work, `since_s` after the listener was closed."""
        http = [link for link in self.server_state.connections if isinstance(link, StreamProtocol)]
        return (
            (since_s < ANSWER_S and bool(http))
            or (since_s < IDLE_S and any(connection.is_idle for connection in http))
            or (since_s < UPLOAD_S and any(connection.is_uploading for connection in http))
        )

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
    for sock in bind(host, port):
        sock.close()


def server_config(unit: ServedUnit, settings: Settings, host: str, port: int) -> uvicorn.Config:
    """Returns how uvicorn serves `unit`; one without WebSockets refuses every upgrade."""
    proxies = settings.trusted_proxies
    logging.getLogger("uvicorn.error").addFilter(_seldom_noise)
    return uvicorn.Config(
        TrustedProxies(unit, proxies) if proxies else unit,  # pyright: ignore - uvicorn's own type of an ASGI application is narrower than Litestar's
        host=host,
        port=port,
        loop="uvloop",
        http=_http_protocol(settings),
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


def _http_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """Returns the protocol of new connections, which counts them where an address may have only so many."""
    limit = settings.limits.connections_per_address
    if not limit:
        return StreamProtocol

    class CountedProtocol(StreamProtocol):
        addresses = AddressCounts(limit, _TrustedHosts(settings.trusted_proxies))

    return CountedProtocol


def _socket_protocol() -> type[asyncio.Protocol]:
    from gateway.serving.websocket import SocketProtocol

    return SocketProtocol
