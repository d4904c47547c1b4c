"""A Caller is a client of the Realtime dialect at 16 kHz, where nothing is resampled; time is virtual."""

import asyncio
import base64
import json
from typing import Any

import msgspec
import numpy as np

from audio.dialects.realtime.client import RealtimeClient, open_client
from audio.dialects.realtime.messages import SessionChange, TranscriptionSession
from audio.dialects.realtime.terms import apply_change
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.serving.client_socket import SocketClose
from tests.audio.lanes import ME, Place

Event = dict[str, Any]
WORDS_1 = [(1, 0.4, 0.1), (2, 0.4, 1.0)]
WORDS_2 = [(3, 0.4, 0.1), (4, 0.4, 1.0)]
AT_16K = {"audio": {"input": {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}}}}
MANUAL = {"audio": {"input": {**AT_16K["audio"]["input"], "turn_detection": None}}}
DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


class Caller:
    """Holds one connection: the events it received, and how it was closed."""

    def __init__(self, client: RealtimeClient) -> None:
        self.client = client
        self.events: list[Event] = []
        self.close_frame: SocketClose | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while self.close_frame is None:
            message = await self.client.next()
            if isinstance(message, SocketClose):
                self.close_frame = message
            else:
                self.events.append(json.loads(message))

    async def send(self, kind: str, **fields: Any) -> None:
        await self.client.take_text(json.dumps({"type": kind, **fields}))
        await asyncio.sleep(0.05)

    async def update(self, session: Event) -> None:
        await self.send("session.update", session={"type": "transcription", **session})

    async def append(self, audio: bytes) -> None:
        await self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    async def speak(self, samples: Samples) -> None:
        """Sends audio at the pace of speech."""
        pcm = np.rint(samples * 2**15).astype("<i2").tobytes()
        for at in range(0, len(pcm), 3200):
            await self.append(pcm[at : at + 3200])
            await asyncio.sleep(0.05)

    def cut(self) -> None:
        self._reading.cancel()
        self.client.live.detach(self.client.attachment)

    async def wait_closed(self) -> SocketClose:
        """Waits for the end of the connection."""
        await asyncio.wait_for(self._reading, 5)
        assert self.close_frame is not None
        return self.close_frame

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def session(self) -> str:
        return self.events[0]["session"]["id"].removeprefix("sess_")

    @property
    def items(self) -> dict[str, str]:
        return {event["item_id"]: event["transcript"] for event in self.of(COMPLETED)}

    @property
    def text(self) -> list[str]:
        return list(self.items.values())


async def call(
    at: Place,
    change: Event | None = AT_16K,
    *,
    session: str | None = None,
    cursor: str | None = None,
    has_extensions: bool = False,
) -> Caller:
    """Connects to a new session, or to an existing one, and returns the caller."""
    fresh = apply_change(TranscriptionSession(), msgspec.convert(change or {}, SessionChange))
    client = await open_client(
        at.lane, ME, fresh, "test", session_name=session, cursor=cursor, has_extensions=has_extensions
    )
    caller = Caller(client)
    await asyncio.sleep(0.01)
    return caller
