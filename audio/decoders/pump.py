"""A stream that a library pulls its bytes from: one thread for it, and what lies between that and the event loop.

The thread mostly waits for the next bytes. `feed` comes back when it has used up what it was given, so a frame's
samples belong to that frame however fast the machine is. Everything between the two is bounded: at 30 s of samples
that nobody took the thread stands still (FLAC silence can grow ten-thousandfold), and bytes that bring no sound are
refused. Knows no format: `audio.decoders.containers` does.
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
"""Samples that wait to be taken; the thread stands still above it."""
MAX_WAITING_BYTES = 1024 * 1024
"""Of a stream that is held back and comes on all the same."""
TRAILER_BYTES = 4096
"""Passed over behind a stream's end: tags."""
HEAD_BYTES = 16

Read = Callable[[int], bytes]
"""At most so many bytes, as soon as there is one; none at the end. Blocks its thread."""


class UndecodableStream(Exception):
    """The library gave the stream up, and says why."""


class PumpedPiece(NamedTuple):
    """Decoded, mono."""

    samples: Samples
    sample_rate: int


class Kind(NamedTuple):
    """What a stream is said to be."""

    name: str
    magic: bytes
    """It begins so."""
    pieces: Callable[[Read], Iterator[PumpedPiece]]
    """Runs on the thread. Raises Unreadable, and BadRequest (`bad_audio`) for what is not taken here."""


class Pump:
    """One stream with a header, which has the last word on rate and channels."""

    def __init__(self, kind: Kind, named_rate: int, *, first: int = 0) -> None:
        self._kind = kind
        self._named_rate = self._own_rate = named_rate
        self._first = first
        self._heard = 0
        """Samples at `_own_rate`."""
        self._resampler: Resampler | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rested = asyncio.Event()
        self._changed = threading.Condition()
        """Guards what follows."""
        self._head = b""
        self._waiting = bytearray()
        self._quiet = 0
        """Bytes that the thread took since the last sample."""
        self._ready: list[Samples] = []
        self._held = 0
        """Samples in `_ready`."""
        self._starved = False
        """The thread waits for bytes."""
        self._ended = self._closed = self._done = False
        self._failure: Exception | None = None

    @property
    def samples(self) -> int:
        return self._first + self._heard * self._named_rate // self._own_rate

    async def feed(self, data: bytes) -> Samples:
        with self._changed:
            self._accept(data)
            self._starved = False
            self._changed.notify_all()
        if self._thread is None and not self._start():
            return np.zeros(0, np.float32)
        return await self._take()

    async def end(self) -> Samples:
        with self._changed:
            self._ended = True
            self._starved = False
            self._changed.notify_all()
        return np.zeros(0, np.float32) if self._thread is None else await self._take()

    def close(self) -> None:
        """The thread ends by itself, within one piece."""
        with self._changed:
            self._closed = True
            self._waiting = bytearray()
            self._ready = []
            self._changed.notify_all()

    def _accept(self, data: bytes) -> None:
        self._head += data[: HEAD_BYTES - len(self._head)]
        self._waiting += data
        if self._done and self._failure is None and len(self._waiting) > TRAILER_BYTES:
            raise bad_audio(f"the {self._kind.name} stream was over, and more follows; send one stream")
        if len(self._waiting) > MAX_WAITING_BYTES:
            held_s = MAX_HELD // SAMPLE_RATE
            raise bad_audio(f"{MAX_WAITING_BYTES} bytes wait behind {held_s} s of decoded audio; send in real time")

    def _start(self) -> bool:
        """Gives the stream its thread, once it is known to be worth one."""
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
        """All samples there are, once the thread has nothing to do or may do no more."""
        while not (self._starved or self._done or self._held >= MAX_HELD):
            await self._rested.wait()
            self._rested.clear()
        with self._changed:
            taken, self._ready, self._held = self._ready, [], 0
            self._changed.notify_all()
        if not taken and self._failure is not None:
            raise self._failure
        return np.concatenate(taken) if taken else np.zeros(0, np.float32)

    # From here on, the thread.

    def _work(self) -> None:
        try:
            for piece in self._kind.pieces(self._read):
                self._hear(piece)
                if self._closed:
                    return
            if self._resampler is not None:
                self._put(self._resampler.end())
        except UndecodableStream as error:
            if not self._ended:  # Otherwise the stream was cut, and what was whole has been heard.
                self._failure = self._failure or bad_audio(f"the stream cannot be read as {self._kind.name}: {error}")
        except Exception as error:  # An outer boundary: whoever feeds is told.
            self._failure = self._failure or error
        finally:
            with self._changed:
                self._done = True
                self._wake()

    def _read(self, count: int) -> bytes:
        with self._changed:
            while not (self._waiting or self._ended or self._closed or self._failure):
                self._starved = True
                self._wake()
                self._changed.wait()
            taken = bytes(self._waiting[:count])
            del self._waiting[:count]
            self._quiet += len(taken)
            if self._quiet <= STALL_BYTES and self._failure is None:
                return taken
            # An exception would have to find its way through C; an end of the stream does.
            stalled = bad_audio(f"{STALL_BYTES} bytes of the {self._kind.name} stream, and not one sample")
            self._failure = self._failure or stalled
            return b""

    def _hear(self, piece: PumpedPiece) -> None:
        if self._resampler is None:
            self._own_rate = piece.sample_rate
            self._resampler = Resampler(piece.sample_rate)
        if piece.sample_rate != self._own_rate:
            raise bad_audio(f"the stream changes from {self._own_rate} to {piece.sample_rate} samples a second")
        self._quiet = 0
        self._heard += len(piece.samples)
        self._put(self._resampler.feed(piece.samples))

    def _put(self, samples: Samples) -> None:
        if not len(samples):
            return
        with self._changed:
            self._ready.append(samples)
            self._held += len(samples)
            while self._held >= MAX_HELD and not self._closed:
                self._wake()
                self._changed.wait()

    def _wake(self) -> None:
        if self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._rested.set)
