"""A session of OpenAI's Python SDK over `/v1/realtime`, which remembers the events that it received."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import websockets
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from tests.clients.audio.voice import KEY, speak

INTENT = {"intent": "transcription"}
COMPLETED = "conversation.item.input_audio_transcription.completed"
WAIT_S = 30.0


class Session:
    """One connection of the SDK, and what it has received so far."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[Any] = []
        self._news = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        try:
            async for event in self.connection:
                self.events.append(event)
                self._news.set()
        finally:
            self._news.set()

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.type == kind]

    async def until(self, kind: str, count: int = 1) -> Any:
        """Returns the newest event of a kind, once there are so many."""
        async with asyncio.timeout(WAIT_S):
            while len(self.of(kind)) < count:
                assert not self._reading.done(), f"closed: {[event.type for event in self.events]}"
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]

    async def wait_settled(self) -> None:
        """Waits until every item that was begun is completed: an error comes after all that was heard before it."""
        await self.connection.response.create(event_id="end")
        async with asyncio.timeout(WAIT_S):
            while not any(event.error.event_id == "end" for event in self.of("error")):
                self._news.clear()
                await self._news.wait()
            while {event.item_id for event in self.of("input_audio_buffer.speech_started")} - self.items.keys():
                self._news.clear()
                await self._news.wait()

    async def speak(self, pcm: bytes) -> None:
        await speak(self.connection.input_audio_buffer.append, pcm)

    async def update(self, **settings: Any) -> None:
        await self.connection.session.update(session={"type": "transcription", "audio": {"input": settings}})

    @property
    def items(self) -> dict[str, str]:
        """Returns each completed item's transcript; an item that is sent again counts once."""
        return {event.item_id: event.transcript for event in self.of(COMPLETED)}

    @property
    def text(self) -> str:
        return " ".join(self.items.values())

    async def close(self) -> None:
        await self.connection.close()
        with contextlib.suppress(websockets.ConnectionClosed):
            await self._reading


def client(url: str, key: str = KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@asynccontextmanager
async def session(url: str, **options: Any) -> AsyncIterator[Session]:
    async with client(url) as sdk, sdk.realtime.connect(extra_query=INTENT, **options) as connection:
        caller = Session(connection)
        try:
            yield caller
        finally:
            await caller.close()
