"""A Phone is a client of a spoken conversation: its microphone is always on, and it plays what it is sent."""

import asyncio
import contextlib
import json
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from audio.model.voice import VOICE_RATE
from tests.audio.speaker import SUBPROTOCOL

FRAME_S = 0.1
FRAME = round(FRAME_S * VOICE_RATE)
HEAD = struct.Struct("<II")
WITHIN_S = 60.0


class Phone:
    """One connection to a conversation."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.frames: list[tuple[int, int, bytes]] = []
        """The clause, the first sample and the sound of each frame."""
        self._said: deque[bytes] = deque()

    def of(self, kind: str, **fields: object) -> list[dict[str, Any]]:
        return [m for m in self.messages if m["type"] == kind and fields.items() <= m.items()]

    def say(self, pcm: bytes) -> None:
        """Speaks into the microphone, once what was said before is over."""
        self._said += [pcm[at : at + 2 * FRAME] for at in range(0, len(pcm), 2 * FRAME)]

    async def until(self, met: Callable[[], object], what: str) -> None:
        end = time.monotonic() + WITHIN_S
        while not met():
            assert time.monotonic() < end, f"not within {WITHIN_S} s: {what}; {self.messages[-6:]}"
            await asyncio.sleep(0.01)

    async def state(self, state: str, count: int = 1) -> dict[str, Any]:
        """Waits until a reply has been in a state so often; returns the message."""
        await self.until(lambda: len(self.of("reply", state=state)) >= count, f"a reply is {state}")
        return self.of("reply", state=state)[count - 1]

    def sound(self, first: int = 0) -> bytes:
        """Returns the sound of the reply from a sample on: of what was sent twice, the last."""
        whole = bytearray()
        for _, at, pcm in self.frames:
            place = 2 * (at - first)
            if place >= 0:
                whole[place : place + len(pcm)] = pcm
        return bytes(whole)

    async def talk(self) -> None:
        """Sends what the microphone hears, in its own time."""
        due = time.monotonic()
        while True:
            due += FRAME_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.socket.send(self._said.popleft() if self._said else bytes(2 * FRAME))

    async def listen(self) -> None:
        async for message in self.socket:
            if isinstance(message, str):
                self.messages.append(json.loads(message))
            else:
                self.frames.append((*HEAD.unpack_from(message), message[HEAD.size :]))


@asynccontextmanager
async def calling(port: int, chat: str, **start: Any) -> AsyncIterator[Phone]:
    """Gives a phone that is ready; at the end its connection is cut."""
    url = f"ws://127.0.0.1:{port}/api/audio"
    async with connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:  # type: ignore[list-item]
        phone = Phone(socket)
        await socket.send(json.dumps({"type": "start", "sampleRate": VOICE_RATE, "linkChat": chat, **start}))
        tasks = [asyncio.ensure_future(phone.listen())]
        try:
            await phone.until(lambda: phone.of("ready"), "ready")
            tasks.append(asyncio.ensure_future(phone.talk()))
            yield phone
        finally:
            socket.transport.abort()
            for task in tasks:
                task.cancel()
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    await task
