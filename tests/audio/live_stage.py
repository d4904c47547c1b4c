"""A stage for one live session: a log, a desk at which nobody works by itself, and clients to attach."""

import asyncio
import json
from typing import Any

import numpy as np

from audio.attachment import Attachment, SocketClose
from audio.driver import SessionDriver
from audio.live_session import LiveSession
from audio.model.fake import FakeSpeechDetector, FakeTranscriber, transcription_of
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Samples
from audio.options import SessionOptions
from audio.session_log import SessionLog
from events.log.hub import Hub
from events.log.topics import new_session
from tests.audio.lanes import MoodyLog


class StageDesk:
    """Counts how often the session asks for a turn; nobody works at this desk by itself."""

    def __init__(self) -> None:
        self.requests = 0
        self.driver: SessionDriver | None = None

    def enqueue(self, driver: SessionDriver) -> None:
        self.driver = driver
        self.requests += 1

    def remove(self, driver: SessionDriver) -> None:
        """Does nothing: the driver itself says that it has no work."""


class Stage:
    """Holds one session with a log, and a lane that does nothing by itself."""

    def __init__(self, options: SessionOptions | None = None, log: MoodyLog | None = None) -> None:
        self.log = log or MoodyLog()
        self.hub = Hub(self.log)
        self.session_log = SessionLog(self.log, new_session("me"), "me")
        self.desk = StageDesk()
        self.ends = 0
        self._options = options or SessionOptions()

    # What a session tells its lane

    def note_activity(self, live: LiveSession) -> None:
        """Does nothing, since nothing depends on it here."""

    def release(self, live: LiveSession, failure: BaseException | None = None) -> None:
        self.ends += 1

    # What a test does

    async def open(self) -> "Stage":
        await self.log.open()
        self.cursor = await self.session_log.create()
        models = Models(FakeTranscriber(), self.desk, FakeSpeechDetector())  # type: ignore[arg-type]
        self.live = LiveSession(self, self.session_log, models, self._options, asyncio.get_running_loop().time)
        self.live.watch(self.hub)
        return self

    def urgency(self) -> int | None:
        return self.desk.driver.urgency(0.5) if self.desk.driver is not None else None

    def attach(self, rate: int = SAMPLE_RATE, *, resends: bool = True) -> "Client":
        attachment = self.live.attach(rate, self._options, 0, resends=resends)
        self.live.welcome(self.cursor, [])
        return Client(self.live, attachment)

    def work(self) -> int:
        """Lets the model do all that is wanted, and returns the number of tasks."""
        count = 0
        while self.desk.driver is not None and self.urgency() is not None:
            task = self.desk.driver.take_task()
            self.desk.driver.complete(task, transcription_of(task))
            count += 1
        return count

    async def records(self) -> list[dict[str, Any]]:
        part = await self.log.read(self.session_log.topic, 0)
        return [json.loads(data) for block in part.blocks for data in block.data]


class Client:
    """Holds one connection to the session."""

    def __init__(self, live: LiveSession, attachment: Attachment) -> None:
        self.live = live
        self.attachment = attachment

    async def send(self, audio: Samples) -> None:
        await self.live.feed(audio, self.attachment)

    async def messages(self) -> list[dict[str, Any]]:
        """Returns the messages that are due now."""
        messages: list[dict[str, Any]] = []
        while True:
            try:
                async with asyncio.timeout(0.001):
                    message = await self.attachment.next()
            except TimeoutError:
                return messages
            if isinstance(message, SocketClose):
                self.ending = message
                return messages
            messages.append(json.loads(message))

    async def kinds(self) -> list[str]:
        return [message["type"] for message in await self.messages()]


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)
