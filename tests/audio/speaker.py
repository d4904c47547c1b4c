"""A Speaker follows the contract of `WS /api/audio`: it keeps what is not acknowledged, resumes, and sends again."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import websockets
from websockets.asyncio.client import ClientConnection, connect

JFK = Path(__file__).parent / "data" / "jfk.flac"
"""11 s of a president who speaks slowly; public domain."""
RATE = 16_000
FRAME = 1600
SUBPROTOCOL = "trilane.audio.v1"


def speech(times: int = 1) -> bytes:
    """Returns PCM of the speech, repeated, with a second of silence after each repetition."""
    samples, rate = soundfile.read(JFK, dtype="int16")
    assert rate == RATE
    return np.concatenate([samples, np.zeros(RATE, np.int16)] * times).astype("<i2").tobytes()


class Speaker:
    """Speaks PCM at `pace` times real time until it is told `done`."""

    def __init__(self, ports: list[int], pcm: bytes, *, pace: float = 1.0, **start: Any) -> None:
        self.ports = ports
        """The ports that it connects to, the first one first; a test turns the list."""
        self.pcm = pcm
        self.connections: list[list[dict[str, Any]]] = []
        """The messages that each connection was sent."""
        self.closes: list[int] = []
        self.cut_at: list[int] = []
        """Samples at which it loses its connection, in order."""
        self.on_cut: Callable[[], None] = lambda: None
        self.acked_samples = 0
        self.refusals: list[int] = []
        """The statuses of handshakes that were refused."""
        self._start = start
        self._pace = pace
        self._sent_samples = 0

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [message for connection in self.connections for message in connection]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def text(self) -> str:
        finals = {final["segment"]: final["text"] for final in self.of("final")}
        return " ".join(finals[segment] for segment in sorted(finals) if finals[segment])

    async def run(self) -> None:
        while not self.of("done"):
            try:
                async with self.connect() as socket:
                    await self._talk(socket)
            except (OSError, websockets.InvalidMessage, websockets.InvalidStatus) as err:
                if isinstance(err, websockets.InvalidStatus):
                    self.refusals.append(err.response.status_code)
                await asyncio.sleep(0.1)

    def connect(self) -> connect:
        """Returns a connection to the first of its ports, to be opened."""
        return connect(f"ws://127.0.0.1:{self.ports[0]}/api/audio", subprotocols=[SUBPROTOCOL], compression=None)

    async def _talk(self, socket: ClientConnection) -> None:
        start: dict[str, Any] = {"type": "start", "sampleRate": RATE, **self._start}
        if ready := self.of("ready"):
            start["session"] = ready[0]["session"]
            start["cursor"] = (self.of("final") or ready)[-1]["cursor"]
        await socket.send(json.dumps(start))
        self.connections.append([])
        speaking: asyncio.Task[None] | None = None
        try:
            async for text in socket:
                message = json.loads(text)
                self.connections[-1].append(message)
                if message["type"] == "ready":
                    speaking = asyncio.ensure_future(self._speak(socket, message["resumeFrom"]))
                elif message["type"] == "ack":
                    assert message["samples"] >= self.acked_samples, "an ack went back"
                    self.acked_samples = message["samples"]
        except websockets.ConnectionClosed:
            pass
        finally:
            self.closes.append(socket.close_code or 1006)
            if speaking is not None:
                speaking.cancel()
                with contextlib.suppress(asyncio.CancelledError, websockets.ConnectionClosed, OSError):
                    await speaking

    async def _speak(self, socket: ClientConnection, first: int) -> None:
        assert first >= self.acked_samples, (
            f"asked for sample {first}, though all before {self.acked_samples} is settled"
        )
        began, total = time.monotonic(), len(self.pcm) // 2
        for at in range(first, total, FRAME):
            ahead_s = (
                max(0, at - max(first, self._sent_samples)) / RATE / self._pace
            )  # what was sent before is sent at once
            await asyncio.sleep(max(0.0, began + ahead_s - time.monotonic()))
            if self.cut_at and at >= self.cut_at[0]:
                self.cut_at.pop(0)
                self._sent_samples = max(self._sent_samples, at)
                self.on_cut()
                socket.transport.abort()
                return
            await socket.send(self.pcm[2 * at : 2 * (at + FRAME)])
        self._sent_samples = total
        await socket.send('{"type":"stop"}')


def check(speaker: Speaker) -> None:
    """Checks what holds wherever a session was cut: numbers without holes, each final once, nothing lost in silence."""
    last_seq = 0
    for connection in speaker.connections:
        if not connection:
            continue
        first = connection[0]["seq"]
        assert first <= last_seq + 1, f"numbers {last_seq + 1} to {first - 1} were never sent"
        numbers = [message["seq"] for message in connection]
        assert numbers == list(range(first, first + len(numbers)))
        last_seq = numbers[-1]
    segments = [final["segment"] for final in speaker.of("final")]
    assert segments == list(range(len(segments))), f"a final is missing, doubled or out of order: {segments}"
    assert not speaker.of("gap")
    assert speaker.of("done")[0]["segments"] == len(segments)
