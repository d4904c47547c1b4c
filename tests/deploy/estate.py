"""An estate is what stands behind the doors: an engine of the log, the way to it, and two processes of each unit."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.loop_thread import LoopThread
from tests.support.namespace import Namespace
from tests.support.outage_proxy import OutageProxy
from tests.support.postgres_server import PostgresServer
from tests.support.redis_servers import RedisServer

ENGINES = ("redis", "postgres")
LEAVE_S = 150.0
"""Seconds within which a process that drains has ended."""


class Server(Protocol):
    """A server of the log, as both kinds are."""

    port: int

    def kill(self) -> None: ...
    def start(self) -> object: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Network(OutageProxy):
    """The way to a server, which can be cut as by a pulled cable.

    It leads through a namespace where one can be made. Elsewhere the connections stay, and what is sent is held back.
    """

    def __init__(self, target_port: int, namespace: Namespace | None) -> None:
        super().__init__(target_port)
        self.host = namespace.address if namespace is not None else "127.0.0.1"
        self._namespace = namespace
        self._flows = asyncio.Event()
        self._flows.set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _listen(self) -> socket.socket:
        return self._namespace.listen() if self._namespace is not None else super()._listen()

    async def __aenter__(self) -> "Network":
        self._loop = asyncio.get_running_loop()
        await super().__aenter__()
        return self

    def hold(self) -> None:
        """Lets nothing pass, in either direction, until `release`; connections stay open."""
        if self._namespace is not None:
            self._namespace.cut()
        else:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._flows.clear)

    def release(self) -> None:
        if self._namespace is not None:
            self._namespace.join()
        else:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(self._flows.set)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        try:
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()


class Estate:
    """Two processes of each unit on one log."""

    def __init__(self, server: Server, network: Network, log: str, folder: Path, upstream: UpstreamThread) -> None:
        self.server, self.network, self.log = server, network, log
        self.upstream = upstream
        self._folder = folder
        self.chats: list[Gateway] = []
        self.events: list[Gateway] = []
        self.audios: list[Gateway] = []

    @property
    def processes(self) -> list[Gateway]:
        return [*self.audios, *self.chats, *self.events]

    @property
    def addresses(self) -> dict[str, str]:
        """Returns where the processes are that the files of `deploy/proxies` name; there may be none of audio."""
        units = {"chat": (8001, self.chats), "events": (8002, self.events), "audio": (8003, self.audios or self.events)}
        return {
            f"{unit}-{number}:{port}": f"127.0.0.1:{gateway.port}"
            for unit, (port, gateways) in units.items()
            for number, gateway in enumerate(gateways, 1)
        }

    def start(self, *, with_audio: bool = False, **env: str) -> None:
        def two_of(unit: str) -> list[Gateway]:
            made = [serving(self._folder, self.upstream.url, TRILANE_LOG=self.log, **env) for _ in range(2)]
            for gateway in made:
                gateway.unit = unit
            return made

        self.chats, self.events = two_of("chat"), two_of("events")
        self.audios = two_of("audio") if with_audio else []
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, self.processes))

    def stop(self) -> None:
        for gateway in self.processes:
            gateway.stop()


def leave(gateway: Gateway) -> int:
    """Sends SIGTERM, and returns the exit code of the process once it has drained."""
    gateway.signal(signal.SIGTERM)
    return gateway.wait(LEAVE_S)


@contextmanager
def log_server(engine: str, folder: Path) -> Iterator[tuple[Server, str]]:
    """Runs a server of the log; yields it with a URL whose `PORT` is to be replaced."""
    if engine == "redis":
        server = RedisServer(folder / "redis", "--appendonly", "yes")
        try:
            server.start()
            yield server, "redis://127.0.0.1:PORT/0"
        finally:
            server.kill()
        return
    with PostgresServer() as postgres:
        yield postgres, postgres.url().replace(str(postgres.port), "PORT")


@contextmanager
def estate_on(engine: str, folder: Path, upstream: UpstreamThread) -> Iterator[Estate]:
    """Yields an estate whose log is there, and no process yet."""
    with ExitStack() as stack:
        server, url = stack.enter_context(log_server(engine, folder))
        namespace = stack.enter_context(Namespace()) if Namespace.can_be_made() else None
        network = Network(server.port, namespace)
        thread = LoopThread(lambda: network)
        thread.start()
        stack.callback(thread.stop)
        estate = Estate(
            server, network, url.replace("127.0.0.1:PORT", f"{network.host}:{network.port}"), folder, upstream
        )
        stack.callback(estate.stop)
        yield estate
