"""Sessions of `WS /api/audio` are spoken in real time; each records what it was told and when, and every fault.

A frame of 100 ms is sent when its last sample has been spoken, never before: a delay of the figures has that in it.
Every session checks the contract: numbers without holes, stable text that stays, one final for each segment.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from loadtests.bench.audio.speech import RATE, Samples
from loadtests.bench.audio.words import TimedWord

PROTOCOL = Subprotocol("trilane.audio.v1")
START = {"type": "start", "sampleRate": RATE, "encoding": "pcm_s16le", "language": "en"}
FRAME_S = 0.1
PATIENCE_S = 60.0
"""Seconds that a session may take to end after its audio."""

Message = dict[str, Any]


@dataclass
class SpokenSegment:
    """Holds what was said about one stretch of speech."""

    stable: list[TimedWord] = field(default_factory=list[TimedWord])
    """The stable prefix of each partial, with its time."""
    text: str = ""
    """The text as it stands."""
    shown_at_s: float | None = None
    """Time at which the first word of it was shown."""
    start_s: float = 0.0
    end_s: float = 0.0
    final: TimedWord | None = None


@dataclass
class SpokenSession:
    """Holds one session. Times are seconds since the first sample was spoken."""

    seconds: float = 0.0
    """Seconds of audio."""
    late_s: float = 0.0
    """Seconds that the client itself was late with a frame, at worst."""
    received_bytes: int = 0
    segments: dict[int, SpokenSegment] = field(default_factory=dict[int, SpokenSegment])
    texts: list[TimedWord] = field(default_factory=list[TimedWord])
    """All that a reader sees, each time that it changes."""
    lags_s: list[float] = field(default_factory=list[float])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    seq: int = 0
    is_done: bool = False
    gaps_s: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Audio that the server says it did not hear: from, to."""
    refused_s: float | None = None
    """Seconds from the beginning of the connection to its refusal."""
    refused_codes: list[int] = field(default_factory=list[int])
    """The close codes of refusals."""

    @property
    def finals(self) -> list[SpokenSegment]:
        return [segment for _, segment in sorted(self.segments.items()) if segment.final is not None]

    @property
    def text(self) -> str:
        """Returns the final text, and the current one where there is no final yet."""
        return " ".join(segment.text for _, segment in sorted(self.segments.items()))

    def fault(self, name: str) -> None:
        self.faults[name] = self.faults.get(name, 0) + 1

    def hear(self, message: Message, at_s: float) -> None:
        """Takes one message."""
        self.seq += 1
        if message["seq"] != self.seq:
            self.fault("numbers with holes")
            self.seq = message["seq"]
        match message["type"]:
            case "partial":
                self._partial(message, at_s)
            case "final":
                self._final(message, at_s)
            case "lag":
                self.lags_s.append(message["seconds"])
            case "gap":
                self.gaps_s.append((message["start"], message["end"]))
                self.fault(f"gap {message['reason']}")
            case "error" | "drain":
                self.fault(f"{message['type']} {message.get('code') or ''}".strip())
            case "done":
                self.is_done = True
            case _:
                pass

    def _partial(self, message: Message, at_s: float) -> None:
        segment = self.segments.setdefault(message["segment"], SpokenSegment())
        if segment.final is not None:
            self.fault("partials after their final")
        before, stable = segment.stable[-1].word if segment.stable else "", message["stable"]
        if not _begins(stable, before):
            self.fault("stable words taken back")
        if not _begins(message["text"], stable):
            self.fault("partials without their stable prefix")
        segment.stable.append(TimedWord(stable, at_s))
        self._show(segment, message, at_s)

    def _final(self, message: Message, at_s: float) -> None:
        segment = self.segments.setdefault(message["segment"], SpokenSegment())
        if segment.final is not None:
            self.fault("segments with two finals")
        segment.final = TimedWord(message["text"], at_s)
        self._show(segment, message, at_s)
        segment.end_s = message["end"]

    def _show(self, segment: SpokenSegment, message: Message, at_s: float) -> None:
        if segment.shown_at_s is None and message["text"]:
            segment.shown_at_s, segment.start_s = at_s, message["start"]
        segment.text = message["text"]
        self.texts.append(TimedWord(self.text, at_s))

    def close(self, code: int | None) -> None:
        """Notes that the connection is over."""
        if code != 1000 or not self.is_done:
            self.fault(f"closed with {code}" if self.is_done else f"closed with {code} before `done`")
        for segment in self.segments.values():
            if segment.final is None:
                self.fault("segments without a final")


async def speak(url: str, samples: Samples, *, pace: float = 1.0, wait_s: float = 0.0) -> SpokenSession:
    """Runs one session from `start` to `done`, after waiting so long; `pace` 1 is real time."""
    await asyncio.sleep(wait_s)
    session = SpokenSession(seconds=len(samples) / RATE)
    dialled_at = time.monotonic()
    try:
        async with asyncio.timeout(session.seconds / pace + PATIENCE_S), open_session(url) as socket:
            first = json.loads(await socket.recv())
            session.hear(first, 0.0)
            if first["type"] == "error":
                await socket.wait_closed()
                session.refused_s = time.monotonic() - dialled_at
                session.refused_codes.append(socket.close_code or 0)
                return session
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(_listen(socket, session, began))
                group.create_task(_play(socket, session, samples, began, pace))
            session.close(socket.close_code)
    except TimeoutError:
        session.fault(f"no end within {PATIENCE_S:g} s")
    except (OSError, ConnectionClosed) as err:
        session.fault(f"no session: {err}")
    return session


@asynccontextmanager
async def open_session(url: str) -> AsyncGenerator[ClientConnection]:
    """Opens a connection that has said `start`; what comes first is its `ready`, or why not."""
    async with connect(url, subprotocols=[PROTOCOL], compression=None, max_size=None, proxy=None) as socket:
        await socket.send(json.dumps(START))
        yield socket


async def together(sessions: Sequence[Awaitable[SpokenSession]], at_once: int) -> list[SpokenSession]:
    """Runs all sessions, so many at a time, and returns them in the order given."""
    room = asyncio.Semaphore(at_once)

    async def one(session: Awaitable[SpokenSession]) -> SpokenSession:
        async with room:
            return await session

    return list(await asyncio.gather(*(one(session) for session in sessions)))


def _begins(text: str, words: str) -> bool:
    return not words or f"{text} ".startswith(f"{words} ")


def pcm(samples: Samples) -> bytes:
    """Returns the samples as 16-bit integers."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


async def frames(data: bytes, bytes_per_s: int, began: float, pace: float, send: Callable[[bytes], Any]) -> float:
    """Sends each frame when it has been spoken; returns how late it was, at worst."""
    size = int(FRAME_S * bytes_per_s)
    late_s = 0.0
    for at in range(0, len(data), size):
        frame = data[at : at + size]
        due = began + (at + len(frame)) / bytes_per_s / pace
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        late_s = max(late_s, time.monotonic() - due)
        await send(frame)
    return late_s


async def _play(socket: ClientConnection, session: SpokenSession, samples: Samples, began: float, pace: float) -> None:
    with suppress(ConnectionClosed):  # the listener tells
        session.late_s = await frames(pcm(samples), 2 * RATE, began, pace, socket.send)
        await socket.send('{"type":"stop"}')


async def _listen(socket: ClientConnection, session: SpokenSession, began: float) -> None:
    with suppress(ConnectionClosed):
        async for text in socket:
            at_s = time.monotonic() - began
            session.received_bytes += len(text)
            session.hear(json.loads(text), at_s)
