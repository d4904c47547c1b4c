"""One of several workers: serves a unit on sockets that its supervisor bound, and drains when that one says so.

Departs from a server that is alone: a second signal does not cut, because what stops a service or a terminal may
signal every process of it and the supervisor too; the order to cut comes from the supervisor alone. A supervisor that
is gone is an order to leave.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from itertools import count
from types import FrameType
from typing import Protocol

import msgspec

from gateway.core.process import Core
from gateway.core.sums import Family, counted
from gateway.core.telemetry import Metrics
from gateway.errors import ConfigurationError, Overloaded, TrilaneError
from gateway.serving.listening import refusal
from gateway.serving.server import ServedUnit, Server, server_config
from gateway.settings import Settings
from gateway.workers.channel import (
    Channel,
    CutOrder,
    FiguresRequest,
    LeaveOrder,
    SumsAnswer,
    SumsRequest,
    SupervisorMessage,
    WorkerFailed,
    WorkerFigures,
    WorkerLeaves,
    WorkerReady,
    line_of,
)

TELL_S = 1.0
"""Seconds after which changed figures are told unasked: what a worker that is killed had counted since is lost."""
SUMS_S = 3.0
"""Seconds that the supervisor has to tell the figures of all workers."""
FAREWELL_S = 2.0
"""Seconds that the last figures have to reach the supervisor."""
FAILED_STATUS = 3
"""Exit status of a worker that cannot start."""


class WorkerUnit(ServedUnit, Protocol):
    """A unit whose metrics a worker tells."""

    @property
    def core(self) -> Core: ...
    def reload(self, settings: Settings) -> None:
        """Has new settings hold for new work, as far as they can change while it runs. Raises ConfigurationError."""
        ...


class SupervisorLink:
    """A worker's end of the channel."""

    def __init__(self, sock: socket.socket, metrics: Metrics) -> None:
        self._channel: Channel[SupervisorMessage] = Channel(msgspec.json.Decoder(SupervisorMessage), sock)
        self._metrics = metrics
        self._numbers = count(1)
        self._awaited: dict[int, asyncio.Future[bytes]] = {}
        self._told: list[Family] = []
        metrics.sums = self.sums

    async def open(self) -> None:
        await self._channel.open()

    async def obey(self, server: "WorkerServer") -> None:
        """Does what the supervisor asks, until it is gone; then the server leaves."""
        async for message in self._channel.messages():
            match message:
                case LeaveOrder(is_alone=is_alone):
                    server.leave(is_alone=is_alone)
                case CutOrder():
                    server.cut_now()
                case FiguresRequest(number=number):
                    self._tell(number)
                case SumsAnswer(text=text, answer_to=number):
                    if (answer := self._awaited.get(number)) is not None and not answer.done():
                        answer.set_result(text.encode())
        server.leave(is_alone=True)

    async def tell_changes(self) -> None:
        """Tells the figures whenever something was counted. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(TELL_S)
            if not self._channel.is_behind and counted(self._metrics.families()) != counted(self._told):
                self._tell()

    def _tell(self, answer_to: int = 0) -> None:
        self._told = self._metrics.families()
        self.say(WorkerFigures(self._told, answer_to))

    def say(self, message: msgspec.Struct) -> None:
        self._channel.send(message)

    async def farewell(self) -> None:
        """Tells the last figures, and closes when they are on their way."""
        self._tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._channel.close()

    async def sums(self) -> bytes:
        """Returns the figures of all workers. Raises Overloaded when the supervisor does not tell them."""
        number = next(self._numbers)
        answer = self._awaited[number] = asyncio.get_running_loop().create_future()
        self.say(SumsRequest(number))
        try:
            async with asyncio.timeout(SUMS_S):
                return await answer
        except TimeoutError as err:
            raise Overloaded("the supervisor does not tell the figures of all workers", retry_after="1") from err
        finally:
            del self._awaited[number]


class WorkerServer(Server):
    """A server on inherited sockets that leaves when it is told to, and never cuts by itself."""

    def __init__(
        self, unit: WorkerUnit, settings: Settings, listeners: list[socket.socket], link: SupervisorLink
    ) -> None:
        host, port = listeners[0].getsockname()[:2]
        super().__init__(server_config(unit, settings, host, port), unit, settings)
        self._listeners = listeners
        self._link = link
        self.is_last_on_port = False

    def serve_until_told(self) -> None:
        """Serves until the supervisor, or a signal, ends it. Raises ConfigurationError when it cannot start."""
        unit = self._unit
        try:
            self.run(self._listeners)
        except SystemExit:
            if unit.failure is None:
                raise
            raise ConfigurationError(unit.failure.detail) from None
        except OSError as err:
            raise ConfigurationError(refusal(err, self.config.host, self.config.port)) from err
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one, on the way out

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._link.open()
        self._talk = [asyncio.create_task(self._link.obey(self)), asyncio.create_task(self._link.tell_changes())]
        await super().startup(sockets)
        self._link.say(WorkerReady())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._link.say(WorkerLeaves())
        await super().shutdown(sockets)
        await self._link.farewell()
        for task in self._talk:
            task.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    def leave(self, *, is_alone: bool) -> None:
        """Ends when nothing is in flight; `is_alone`: others accept on, so the listener can be closed at once."""
        if is_alone:
            self.drain_delay_s = 0
        self.is_last_on_port = not is_alone
        self.should_exit = True


def work(
    load: Callable[[], Settings],
    make_unit: Callable[[Settings], WorkerUnit],
    listeners: Sequence[int],
    channel: int,
) -> int:
    """Serves until the supervisor, or a signal, ends it; returns the exit code: 0 when nothing was cut.

    `listeners` and `channel` are descriptors of inherited sockets. What keeps it from starting is told to the
    supervisor, and nothing is written here.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all of its processes
        signal.signal(number, signal.SIG_IGN)
    sockets = [socket.socket(fileno=fd) for fd in (channel, *listeners)]
    for sock in sockets:
        os.set_inheritable(sock.fileno(), False)  # else a process that a unit starts would keep the port
    link_socket, *listening = sockets
    spare = link_socket.dup()  # stays open when the server has closed its own
    try:
        settings = load()
        unit = make_unit(settings)
        server = WorkerServer(unit, settings, listening, SupervisorLink(link_socket, unit.core.metrics))
        server.serve_until_told()
    except TrilaneError as err:
        spare.sendall(line_of(WorkerFailed(err.detail)))
        return FAILED_STATUS
    return 1 if server.cut or not server.started else 0
