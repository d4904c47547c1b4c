"""A stream that a library pulls its bytes from: its thread, and what lies between that and the event loop.

The thread mostly waits for the next bytes. `feed` returns when the thread has used up what it was given, so a frame's
samples come with that frame however fast the machine is. Everything between the two is bounded: at 30 s of samples
that nobody took the thread stops (FLAC silence can grow ten-thousandfold), and bytes that bring no sound are refused.
The pump knows no format: `audio.decoders.containers` does.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from audio.decoders.formats import STALL_BYTES, bad_audio, unlike
from audio.decoders.resample import Resampler
from audio.model.transcriber import SAMPLE_RATE, Samples

MAX_HELD = 30 * SAMPLE_RATE
"""Number of samples waiting to be taken at which the thread stops."""
MAX_WAITING_BYTES = 1024 * 1024
"""Maximum bytes that wait for a thread that has stopped; a client that sends more does not send in real time."""
FREE_PIECES = 2000
"""Pieces of a stream that may be as short as they like."""
MIN_PIECE_S = 0.001
"""Least average length of its pieces from then on: the shortest packets of any real encoder last 2.5 ms."""
TRAILER_BYTES = 4096
"""Maximum bytes that are skipped behind the end of a stream, where tags may stand."""
HEAD_BYTES = 16

Read = Callable[[int], bytes]
"""A function that returns at most so many bytes, as soon as there is one, and none at the end. Blocks its thread."""


class UndecodableStream(Exception):
    """The library cannot decode the stream."""


class PumpedPiece(NamedTuple):
    """Samples that a library decoded: mono, or with a column for each of two channels."""

    samples: Samples
    sample_rate: int


class Kind(NamedTuple):
    """The kind of stream that a client has named."""

    name: str
    magic: bytes
    """The bytes that such a stream begins with."""
    pieces: Callable[[Read, bool], Iterator[PumpedPiece]]
    """Decodes on the thread, two channels apart where the second argument says so.

    Raises UndecodableStream, and BadRequest (`bad_audio`) for what is not taken here.
    """


class Pump:
    """Decodes one stream with a header, which has the last word on rate and channels."""

    def __init__(self, kind: Kind, named_rate: int, *, first: int = 0, is_split: bool = False) -> None:
        self._kind = kind
        self._is_split = is_split
        self._named_rate = self._own_rate = named_rate
        self._first = first
        self._own_samples = 0
        """Number of samples so far, at `_own_rate`."""
        self._resampler: Resampler | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest = asyncio.Event()
        """Set when the thread has nothing to do, or may do no more."""
        self._change = threading.Condition()
        """Guards the attributes below."""
        self._head = b""
        self._input = bytearray()
        self._quiet = 0
        """Number of bytes that the thread took since the last sample."""
        self._output: list[Samples] = []
        self._output_size = self._pieces = 0
        """Number of samples in `_output`."""
        self._is_starved = False
        """Whether the thread waits for bytes."""
        self._is_ending = self._is_closed = self._is_done = False
        self._failure: Exception | None = None

    @property
    def samples(self) -> int:
        return self._first + self._own_samples * self._named_rate // self._own_rate

    async def feed(self, data: bytes) -> Samples:
        with self._change:
            self._accept(data)
            self._is_starved = False
            self._change.notify_all()
        if self._thread is None and not self._start():
            return np.zeros(0, np.float32)
        return await self._take()

    async def flush(self) -> Samples:
        with self._change:
            self._is_ending = True
            self._is_starved = False
            self._change.notify_all()
        return np.zeros(0, np.float32) if self._thread is None else await self._take()

    def close(self) -> None:
        """Tells the thread to end, which it does within one piece."""
        with self._change:
            self._is_closed = True
            self._input = bytearray()
            self._output = []
            self._change.notify_all()

    def _accept(self, data: bytes) -> None:
        self._head += data[: HEAD_BYTES - len(self._head)]
        self._input += data
        if self._is_done and self._failure is None and len(self._input) > TRAILER_BYTES:
            raise bad_audio(f"the {self._kind.name} stream was over, and more follows; send one stream")
        if len(self._input) > MAX_WAITING_BYTES:
            held_s = MAX_HELD // SAMPLE_RATE
            raise bad_audio(f"{MAX_WAITING_BYTES} bytes wait behind {held_s} s of decoded audio; send in real time")

    def _start(self) -> bool:
        """Gives the stream its thread, once it is known to be of its kind."""
        magic = self._kind.magic
        if len(self._head) < len(magic):
            return False
        if not self._head.startswith(magic):
            raise unlike(f"{self._kind.name} (it begins with {magic!r})", self._head)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="audio-pump", daemon=True)
        self._thread.start()
        return True

    async def _take(self) -> Samples:
        """Returns all samples there are, once the thread has nothing to do or may do no more."""
        while not (self._is_starved or self._is_done or self._output_size >= MAX_HELD):
            await self._rest.wait()
            self._rest.clear()
        with self._change:
            samples, self._output, self._output_size = self._output, [], 0
            self._change.notify_all()
        if not samples and self._failure is not None:
            raise self._failure
        return np.concatenate(samples) if samples else np.zeros(0, np.float32)

    # From here on: the thread

    def _work(self) -> None:
        try:
            for piece in self._kind.pieces(self._read, self._is_split):
                self._take_piece(piece)
                if self._is_closed:
                    return
            if self._resampler is not None:
                self._put(self._resampler.flush())
        except UndecodableStream as error:
            if not self._is_ending:  # otherwise the stream was cut, and what was whole has been decoded
                self._failure = self._failure or bad_audio(f"the stream cannot be read as {self._kind.name}: {error}")
        except Exception as error:  # an outer boundary: `feed` raises it
            self._failure = self._failure or error
        finally:
            with self._change:
                self._is_done = True
                self._wake()

    def _read(self, count: int) -> bytes:
        with self._change:
            while not (self._input or self._is_ending or self._is_closed or self._failure):
                self._is_starved = True
                self._wake()
                self._change.wait()
            data = bytes(self._input[:count])
            del self._input[:count]
            self._quiet += len(data)
            if self._quiet <= STALL_BYTES and self._failure is None:
                return data
            # An exception would have to find its way through C; an end of the stream does.
            stall = bad_audio(f"{STALL_BYTES} bytes of the {self._kind.name} stream, and not one sample")
            self._failure = self._failure or stall
            return b""

    def _take_piece(self, piece: PumpedPiece) -> None:
        if self._resampler is None:
            self._own_rate = piece.sample_rate
            self._resampler = Resampler(piece.sample_rate)
        if piece.sample_rate != self._own_rate:
            raise bad_audio(f"the stream changes from {self._own_rate} to {piece.sample_rate} samples a second")
        self._quiet = 0
        self._pieces += 1
        self._own_samples += len(piece.samples)
        if self._pieces > FREE_PIECES and self._own_samples < self._pieces * MIN_PIECE_S * self._own_rate:
            raise bad_audio(f"the {self._kind.name} stream has {self._pieces} packets for {self._own_samples} samples")
        self._put(self._resampler.feed(piece.samples))

    def _put(self, samples: Samples) -> None:
        if not len(samples):
            return
        with self._change:
            self._output.append(samples)
            self._output_size += len(samples)
            while self._output_size >= MAX_HELD and not self._is_closed:
                self._wake()
                self._change.wait()

    def _wake(self) -> None:
        if self._loop is not None and not self._is_closed:
            self._loop.call_soon_threadsafe(self._rest.set)
