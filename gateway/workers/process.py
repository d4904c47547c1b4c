"""One worker as its supervisor sees it: a process that was started, is ready, leaves, and has ended.

A worker is a new process of the same command and not a fork: threads, locks and open files of the supervisor are none
of its business. It inherits the bound sockets and its end of the channel, nothing else.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import msgspec
import structlog

from gateway.core.sums import Family
from gateway.workers.channel import (
    Channel,
    CutOrder,
    FiguresRequest,
    LeaveOrder,
    SumsAnswer,
    SumsRequest,
    WorkerFailed,
    WorkerFigures,
    WorkerLeaves,
    WorkerMessage,
    WorkerReady,
)

FIGURES_S = 0.5
"""Seconds that a worker has to tell its figures; the last that it told count for one that is late."""
CUT_S = 5.0
"""Seconds that a worker has to end after it was told to end now, until it is killed."""

log = structlog.get_logger("supervisor")


def own_command() -> list[str]:
    """Returns how this process was started, without its arguments: `python -m gateway`, or the installed script."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


class WorkerProcess:
    """A process that serves. `run` starts it, hears what it says and returns when it has ended."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: dict[str, str],
        listeners: Sequence[socket.socket],
        sums: Callable[[], Awaitable[bytes]],
    ) -> None:
        """`arguments` are those of the command; `sums` returns the figures of all workers."""
        self._arguments = arguments
        self._environ = environ
        self._listeners = [sock.fileno() for sock in listeners]
        self._sums = sums
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel[WorkerMessage] | None = None
        self._numbers = count(1)
        self._awaited: dict[int, asyncio.Event] = {}
        self._is_unwanted = False
        self.figures: list[Family] = []
        """The figures that it told last."""
        self.failure = ""
        """Why it cannot start, in its own words."""
        self.started_at = time.monotonic()
        self.is_ready = False
        self.settled = asyncio.Event()
        """Set once it is ready, or never will be."""
        self.left = asyncio.Event()
        """Set once it accepts no more connections."""
        self.ended = asyncio.Event()
        self.exit_code = 0
        """Its exit status, or the negative number of the signal that ended it; of a process that has ended."""

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self.started_at

    def end(self) -> dict[str, object]:
        """Returns how it ended, for a log line."""
        if self.exit_code >= 0:
            return {"worker": self.pid, "status": self.exit_code}
        with contextlib.suppress(ValueError):
            return {"worker": self.pid, "signal": signal.Signals(-self.exit_code).name}
        return {"worker": self.pid, "signal": -self.exit_code}

    @property
    def reason(self) -> str:
        """Returns why it never was ready."""
        end = self.end()
        how = f"status {end['status']}" if "status" in end else end["signal"]
        return self.failure or f"a worker ended with {how} before it was ready: see what it wrote before this line"

    # Its life

    async def run(self) -> None:
        try:
            await self._live()
        except OSError as err:
            self.failure = f"a worker cannot be started: {err.strerror}"
            self.exit_code = 1
        for event in (self.settled, self.left, self.ended):
            event.set()

    async def _live(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptors = [*self._listeners, theirs.fileno()]
            options = [*(f"--listener={fd}" for fd in self._listeners), f"--channel={theirs.fileno()}"]
            self._process = await asyncio.create_subprocess_exec(
                *(*own_command(), *self._arguments, *options),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=descriptors,
            )
        if self._is_unwanted:
            self._signal(signal.SIGTERM)
        channel = Channel(msgspec.json.Decoder(WorkerMessage), ours)
        await channel.open()
        self._channel = channel
        async with asyncio.TaskGroup() as answers:
            async for message in channel.messages():
                self._hear(message, answers)
        self.exit_code = await self._process.wait()

    def _hear(self, message: WorkerMessage, answers: asyncio.TaskGroup) -> None:
        match message:
            case WorkerReady():
                self.is_ready = True
                self.settled.set()
            case WorkerFailed(detail=detail):
                self.failure = detail
            case WorkerLeaves():
                self.left.set()
            case WorkerFigures(figures=figures, answer_to=number):
                self.figures = figures
                if number in self._awaited:
                    self._awaited[number].set()
            case SumsRequest(number=number):
                answers.create_task(self._tell_sums(number))

    async def _tell_sums(self, number: int) -> None:
        text = await self._sums()
        assert self._channel is not None
        self._channel.send(SumsAnswer(text.decode(), number))

    async def count(self) -> None:
        """Brings `figures` up to date, as far as the worker answers in time."""
        if self._channel is None or self._channel.is_behind or self.ended.is_set():
            return
        number = next(self._numbers)
        answered = self._awaited[number] = asyncio.Event()
        self._channel.send(FiguresRequest(number))
        try:
            async with asyncio.timeout(FIGURES_S):
                await answered.wait()
        except TimeoutError:
            log.warning("a worker does not tell its figures: the last that it told are counted", worker=self.pid)
        finally:
            del self._awaited[number]

    # Its end

    def leave(self, *, is_alone: bool) -> None:
        """Has it end when nothing is in flight; `is_alone`: the others go on. One that is not ready ends at once."""
        if self.is_ready and self._channel is not None:
            self._channel.send(LeaveOrder(is_alone))
        else:
            self._is_unwanted = True
            self._signal(signal.SIGTERM)

    def cut(self) -> None:
        """Has it end now."""
        if self._channel is not None:
            self._channel.send(CutOrder())

    async def ended_within(self, timeout_s: float) -> bool:
        """Waits for its end, cuts it when that takes longer, and kills it in the end; returns whether it had time."""
        if await self._has_ended(timeout_s):
            return True
        self.cut()
        if not await self._has_ended(CUT_S):
            log.error("a worker does not end: it is killed", worker=self.pid)
            self._signal(signal.SIGKILL)
            await self.ended.wait()
        return False

    async def _has_ended(self, timeout_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.ended.wait()
        return self.ended.is_set()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
