"""Tells what every process of one log has open, and only while somebody asks (`trilane top`).

Whoever asks appends a question to a topic that all processes follow, and each appends its answer. Nothing is written
while nobody asks, so a process at rest costs nothing; one that was killed does not answer, and is gone. An answer holds
counts, and names of runs, which stand in the log anyway: no user and nothing that was said.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from itertools import islice
from typing import Literal

import msgspec
import structlog

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Appended, Block, EventLog, Position
from gateway.core.usage import now_ms
from gateway.errors import LogError
from gateway.serving.open_streams import OpenStreams

FLEET = "fleet"
"""The topic over which processes are asked, and answer."""
ASK, REPORT, GONE = "ask", "report", "gone"
"""Names of the events: a question, an answer, and a process's last word."""
MAX_RUNS = 20
"""Maximum runs of one process that its answer names, the oldest first."""

ProcessState = Literal["starting", "ready", "draining"]

log = structlog.get_logger("fleet")
_encode = msgspec.json.Encoder().encode


class WrittenRun(msgspec.Struct, frozen=True, gc=False):
    """A run that is being written."""

    id: str
    tokens: int
    """Visible deltas so far: about as many as tokens."""


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one process has open; counts are of this moment."""

    name: str
    """The process, by a name that no other ever had."""
    unit: str
    version: str
    host: str
    pid: int
    started_ms: int
    state: ProcessState
    streams: dict[str, int]
    """Event streams being read, by lane."""
    runs: int
    sessions: int
    oldest_runs: list[WrittenRun]


decode_report = msgspec.json.Decoder(ProcessReport).decode


class FleetMember:
    """This process, as it answers. Units and lanes say what they have, where there is any."""

    def __init__(self, event_log: EventLog, hub: Hub, streams: OpenStreams) -> None:
        self.name = secrets.token_hex(6)
        self.unit = ""
        self.state: ProcessState = "starting"
        self.sessions: Callable[[], int] = _none
        self.runs: Callable[[], int] = _none
        self.oldest_runs: Callable[[], Iterable[WrittenRun]] = tuple
        self._log = event_log
        self._hub = hub
        self._streams = streams
        self._started_ms = now_ms()
        self._unwatch: Callable[[], None] | None = None
        self._was_asked = False

    async def open(self) -> None:
        """Answers from now on; where the log cannot be read, nobody is answered."""
        try:
            head = await self._log.read(FLEET, NO_EVENTS, max_events=1)
        except LogError as err:
            log.error("this process is not seen by `trilane top`", reason=err.detail)
            return
        self._unwatch = self._hub.watch(FLEET, Position(head.epoch, head.head), self._receive, is_standing=True)

    def close(self) -> None:
        """Answers no more, and says so to whoever has asked."""
        if self._unwatch is not None:
            self._unwatch()
        if self._was_asked:
            self._append(GONE, _encode(self.name))

    def report(self) -> ProcessReport:
        streams: dict[str, int] = {}
        for (lane, _), count in self._streams.states().items():
            streams[lane] = streams.get(lane, 0) + int(count)
        return ProcessReport(
            name=self.name,
            unit=self.unit,
            version=_version(),
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=self._started_ms,
            state=self.state,
            streams=streams,
            runs=self.runs(),
            sessions=self.sessions(),
            oldest_runs=list(islice(self.oldest_runs(), MAX_RUNS)),
        )

    def _receive(self, block: Block) -> None:
        if block.name == ASK:
            self._was_asked = True
            self._append(REPORT, _encode(self.report()))

    def _append(self, name: str, data: bytes) -> None:
        """Appends without waiting: who asked asks again."""
        self._log.append(Append(topic=FLEET, data=[data], name=name)).add_done_callback(_ignore_failure)


def ask() -> Append:
    """Returns the append that asks every process."""
    return Append(topic=FLEET, data=[b"null"], name=ASK)


@cache
def _version() -> str:
    return version("trilane")


def _ignore_failure(append: "asyncio.Future[list[Appended]]") -> None:
    """Looks at the outcome, so that the event loop does not report an error that nobody waits for."""
    if not append.cancelled():
        append.exception()


def _none() -> int:
    """Returns 0: this unit has no lane that has any."""
    return 0
