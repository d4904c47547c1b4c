"""An audio lane with a model that hears exactly what was spoken, and a client of it; time is virtual."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from audio.attachment import Attachment, SocketClose
from audio.lane import AudioLane
from audio.live_session import LiveSession
from audio.messages import Start
from audio.model.desk import Desk
from audio.model.fake import FakeTranscriber, FakeVoice
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from events.log.memory import MemoryLog
from events.log.port import Append, Appended, EventLog
from gateway.access.auth import EVERYTHING, Principal
from gateway.core.process import Core
from gateway.settings import Limits, Settings

ME = Principal(sub="me", grants=EVERYTHING)
FRAME_S = 0.1


class MoodyLog(MemoryLog):
    """A log whose appends wait, or fail, when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[tuple[Append, ...], asyncio.Future[list[Appended]]]] | None = None
        self.failure: Exception | None = None

    def append(self, *appends: Append, patient: bool = False) -> asyncio.Future[list[Appended]]:
        answer: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            answer.set_exception(self.failure)
            return answer
        if self.held is None:
            return super().append(*appends, patient=patient)
        self.held.append((appends, answer))
        return answer

    async def release(self) -> None:
        held, self.held = self.held or [], None
        for appends, answer in held:
            answer.set_result(await self.append(*appends))


class Place:
    """One process."""

    def __init__(self, log: EventLog | None = None, **limits: int) -> None:
        self.core = Core(log or MemoryLog(), Settings(limits=Limits(**limits)))
        self.model = FakeTranscriber()
        self.lane = AudioLane(self.core, self._load)

    async def _load(self) -> Models:
        return Models(self.model, Desk(self.model, asyncio.get_running_loop().time), FakeVoice())

    async def connect(self, who: Principal = ME, **start: Any) -> "Client":
        live, attachment = await self.lane.open(who, Start(**start))
        return Client(live, attachment)


class Client:
    """One connection: what it was told, and what it says."""

    def __init__(self, live: LiveSession, attachment: Attachment) -> None:
        self.live = live
        self.attachment = attachment
        self.told: list[dict[str, Any]] = []
        self.ending: SocketClose | None = None
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        while self.ending is None:
            said = await self.attachment.next()
            if isinstance(said, SocketClose):
                self.ending = said
            else:
                self.told.append(json.loads(said))

    async def say(self, audio: Samples) -> None:
        """At the pace of speech."""
        size = int(FRAME_S * SAMPLE_RATE)
        for at in range(0, len(audio), size):
            await self.live.hear(audio[at : at + size], self.attachment)
            await asyncio.sleep(FRAME_S)

    async def quiet(self, seconds: float) -> None:
        """Sends silence."""
        await self.say(np.zeros(int(seconds * SAMPLE_RATE), np.float32))

    async def over(self) -> SocketClose:
        await self._reading
        assert self.ending is not None
        return self.ending

    def cut(self) -> None:
        """The connection is lost."""
        self._reading.cancel()
        self.live.detach(self.attachment)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == kind]

    @property
    def text(self) -> str:
        return " ".join(final["text"] for final in self.of("final"))

    @property
    def ready(self) -> dict[str, Any]:
        return self.told[0]


@asynccontextmanager
async def place(log: EventLog | None = None, **limits: int) -> AsyncIterator[Place]:
    made = Place(log, **limits)
    async with made.core.opened(), made.lane.opened():
        yield made
