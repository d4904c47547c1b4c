"""A Place is an audio lane whose model hears exactly what was spoken, with clients; time is virtual."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from audio.attachment import Attachment, SocketClose
from audio.dialects.trilane import Start, request_of
from audio.lane import AudioLane
from audio.live_session import LiveSession
from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from events.log.topics import stored
from gateway.access.grants import EVERYTHING, Principal
from gateway.core.process import Core
from gateway.settings import Limits, Settings

ME = Principal(sub="me", grants=EVERYTHING)
FRAME_S = 0.1


class MoodyLog(MemoryLog):
    """A MoodyLog delays its appends, or fails them, when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.pending: list[tuple[tuple[Append, ...], asyncio.Future[list[Appended]]]] | None = None
        self.append_failure: Exception | None = None

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        if self.append_failure is not None:
            answer.set_exception(self.append_failure)
            return answer
        if self.pending is None:
            return super().append(*appends, patient=patient)
        self.pending.append((appends, answer))
        return answer

    async def release(self) -> None:
        pending, self.pending = self.pending or [], None
        for appends, answer in pending:
            answer.set_result(await self.append(*appends))


class Place:
    """A Place is one process of the audio unit."""

    def __init__(self, log: EventLog | None = None, settings: Settings | None = None, **limits: int) -> None:
        self.core = Core(log or MemoryLog(), settings or Settings(limits=Limits(**limits)))
        self.model = FakeTranscriber()
        self.lane = AudioLane(self.core, self._load)

    async def _load(self) -> Models:
        return Models(self.model, Desk(self.model, asyncio.get_running_loop().time), FakeSpeechDetector())

    async def connect(self, who: Principal = ME, **start: Any) -> "Client":
        live, attachment = await self.lane.open(who, request_of(Start(**start)))
        return Client(live, attachment)


class Client:
    """Holds one connection: the messages it received, and how it was closed."""

    def __init__(self, live: LiveSession, attachment: Attachment) -> None:
        self.live = live
        self.attachment = attachment
        self.messages: list[dict[str, Any]] = []
        self.close_frame: SocketClose | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while self.close_frame is None:
            message = await self.attachment.next()
            if isinstance(message, SocketClose):
                self.close_frame = message
            else:
                self.messages.append(json.loads(message))

    async def speak(self, audio: Samples) -> None:
        """Sends audio at the pace of speech."""
        size = int(FRAME_S * SAMPLE_RATE)
        for at in range(0, len(audio), size):
            await self.live.feed(audio[at : at + size], self.attachment)
            await asyncio.sleep(FRAME_S)

    async def send_silence(self, seconds: float) -> None:
        await self.speak(np.zeros(int(seconds * SAMPLE_RATE), np.float32))

    async def wait_closed(self) -> SocketClose:
        """Waits for the end of the connection."""
        await self._reading
        assert self.close_frame is not None
        return self.close_frame

    def cut(self) -> None:
        """Drops the connection."""
        self._reading.cancel()
        self.live.detach(self.attachment)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def text(self) -> str:
        return " ".join(final["text"] for final in self.of("final"))

    @property
    def ready(self) -> dict[str, Any]:
        return self.messages[0]


@asynccontextmanager
async def place(log: EventLog | None = None, settings: Settings | None = None, **limits: int) -> AsyncIterator[Place]:
    here = Place(log, settings, **limits)
    async with here.core.opened(), here.lane.opened():
        yield here


async def events(at: Place, topic: str) -> list[dict[str, object]]:
    topic_events = await at.core.log.read(stored(topic), 0)
    return [json.loads(data) for block in topic_events.blocks for data in block.data]


def check_numbers(client: Client, first: int = 1) -> None:
    assert [message["seq"] for message in client.messages] == list(range(first, first + len(client.messages)))


async def ready(client: Client) -> dict[str, object]:
    await asyncio.sleep(0.01)
    return client.ready
