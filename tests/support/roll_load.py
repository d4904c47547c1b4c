"""RollLoad keeps a gateway busy while its workers are replaced, and fails when a client sees an error or a loss."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import httpx2

from tests.support.event_streams import EventReader
from tests.support.sse_client import chat_body
from tests.support.sse_decoder import SseDecoder

TOKENS = 40
QUESTION = f"T={TOKENS} I=15000"
PAUSE_S = 0.05
TOPIC = "team/a"
CHATS = "rolled-"
"""The beginning of every chat's id."""


class RollLoad:
    """Asks, publishes and listens without a pause, and keeps what came of it."""

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self.port = port
        self.over = asyncio.Event()
        self.answers = 0
        self.published = 0
        self.moves = 0
        """Streams that were sent away and went on elsewhere."""

    @asynccontextmanager
    async def http(self, kept: httpx2.AsyncClient | None) -> AsyncIterator[httpx2.AsyncClient]:
        """Yields the client whose connections are `kept`, or a new one."""
        if kept is not None:
            yield kept
            return
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, verify=False) as client:
            yield client

    async def ask(self, name: str, kept: httpx2.AsyncClient | None = None) -> None:
        number = 0
        while not self.over.is_set():
            async with self.http(kept) as client:
                await self._answer(client, f"{CHATS}{name}-{number}")
            number += 1
            self.answers += 1
            await asyncio.sleep(PAUSE_S)

    async def _answer(self, client: httpx2.AsyncClient, chat_id: str) -> None:
        """Reads one answer, over as many connections as it takes."""
        decoder, ids, is_done = SseDecoder(), set[str](), False
        request = client.build_request("POST", "/api/chat", json=chat_body(chat_id, QUESTION))
        while not is_done:
            response = await client.send(request, stream=True)
            assert response.status_code == 200, f"{response.status_code} {await response.aread()}"
            try:
                async for piece in response.aiter_raw():
                    for event in decoder.feed(piece):
                        is_done = is_done or event.data == "[DONE]"
                        if '"text-delta"' in event.data:
                            assert event.id not in ids
                            ids.add(event.id)
            except httpx2.RemoteProtocolError:
                self.moves += 1
            finally:
                await response.aclose()
            cursor = {"last-event-id": decoder.last_id}
            decoder = SseDecoder(decoder.last_id)
            request = client.build_request("GET", f"/api/chat/{chat_id}/stream", headers=cursor)
        assert len(ids) == TOKENS

    async def publish(self) -> None:
        """Publishes numbers until it is over, and then the last one, which says that it is."""
        is_last = False
        while not is_last:
            is_last = self.over.is_set()
            self.published += 1
            async with self.http(None) as client:
                event = {"topic": TOPIC, "event": "last" if is_last else "message", "data": self.published}
                response = await client.post("/api/events", json=event)
            assert response.status_code == 200, response.text
            await asyncio.sleep(PAUSE_S)

    async def listen(self) -> None:
        """Reads the topic to its last event; each comes once, in order."""
        cursor, newest, is_over = "", 0, False
        while not is_over:
            async with EventReader(self.port, [TOPIC], cursor, **({} if cursor else {"from": "earliest"})) as reader:
                async for event in reader.events():
                    if event.event in ("message", "last"):
                        newest += 1
                        assert json.loads(event.data) == newest
                    if is_over := event.event == "last":
                        break
                cursor = reader.cursor
            self.moves += not is_over

    async def around(self, roll: Coroutine[None, None, None]) -> None:
        """Begins before `roll`, and ends after it."""
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=30, verify=False) as kept,
            asyncio.timeout(60),
            asyncio.TaskGroup() as group,
        ):
            for place in range(3):
                group.create_task(self.ask(f"new-{place}"))
                group.create_task(self.listen())
            group.create_task(self.ask("kept", kept))
            group.create_task(self.publish())
            await roll
            self.over.set()
