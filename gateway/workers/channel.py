"""What a supervisor and its workers say to one another, over a pair of sockets that only the two of them have.

A message is one line of JSON. A worker whose supervisor is gone reads the end of the stream, however the supervisor
ended; so does the supervisor of a worker.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from gateway.core.sums import Family

MAX_MESSAGE_BYTES = 4_194_304
"""Maximum bytes of one message: the figures of a worker are some ten thousand."""


class WorkerReady(Struct, frozen=True, tag="ready"):
    """The worker accepts connections."""


class WorkerFailed(Struct, frozen=True, tag="failed"):
    """The worker cannot start."""

    detail: str


class WorkerLeaves(Struct, frozen=True, tag="leaves"):
    """The worker accepts no more connections, and ends when nothing is in flight."""


class WorkerFigures(Struct, frozen=True, tag="figures"):
    """The worker's metrics as they are now."""

    figures: list[Family]
    answer_to: int = 0
    """Number of the request that asked for them; 0: they come unasked."""


class SumsRequest(Struct, frozen=True, tag="sums"):
    """The worker asks for the figures of all of them."""

    number: int


class LeaveOrder(Struct, frozen=True, tag="leave"):
    """The worker is to end when nothing is in flight."""

    is_alone: bool
    """Whether others go on to accept connections: then the listener can be closed at once."""


class CutOrder(Struct, frozen=True, tag="cut"):
    """The worker is to end now."""


class FiguresRequest(Struct, frozen=True, tag="count"):
    """The supervisor asks for the worker's figures."""

    number: int


class SumsAnswer(Struct, frozen=True, tag="told"):
    """The figures of all workers, as Prometheus reads them."""

    text: str
    answer_to: int


WorkerMessage = WorkerReady | WorkerFailed | WorkerLeaves | WorkerFigures | SumsRequest
SupervisorMessage = LeaveOrder | CutOrder | FiguresRequest | SumsAnswer
Incoming = TypeVar("Incoming")


def line_of(message: Struct) -> bytes:
    return msgspec.json.encode(message) + b"\n"


class Channel(Generic[Incoming]):
    """One end of the stream. What is sent waits in memory while the other side does not read; see `is_behind`."""

    def __init__(self, incoming: msgspec.json.Decoder[Incoming], sock: socket.socket) -> None:
        """Takes the decoder of the messages that come, and the socket, which the channel closes."""
        self._decoder = incoming
        self._sock = sock

    async def open(self) -> None:
        """Comes before all else."""
        self._reader, self._writer = await asyncio.open_unix_connection(sock=self._sock, limit=MAX_MESSAGE_BYTES)

    async def messages(self) -> AsyncGenerator[Incoming]:
        """Yields what comes until the other side is gone."""
        try:
            while line := await self._reader.readline():
                yield self._decoder.decode(line)
        except (OSError, ValueError):  # reset, half a line, or a message of another release
            return
        finally:
            self._writer.close()

    @property
    def is_behind(self) -> bool:
        """Returns whether the other side has not read all that was sent; what can wait, or can be left out, does."""
        return self._writer.transport.get_write_buffer_size() > 0

    async def close(self) -> None:
        """Closes this end when all that was sent is on its way."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def send(self, message: Struct) -> None:
        if not self._writer.is_closing():
            self._writer.write(line_of(message))
