"""Readers who come back too late are told exactly how much they missed."""

import asyncio
import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.conftest import Gateway
from tests.support.event_streams import EventReader
from tests.support.sse_decoder import Event

KEPT = 300
TOPICS = ["a", "b", "c"]
END_S = 60
SEED = random.randrange(1 << 32)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    server = Gateway(tmp_path, {"TRILANE_RETENTION_EVENTS": str(KEPT)}, unit="events")
    try:
        yield server.start()
    finally:
        server.stop()


class Accountant:
    """Reads one topic and accounts for every offset: seen, or reported missing."""

    def __init__(self, port: int, topic: str, rng: random.Random) -> None:
        self.port = port
        self.topic = topic
        self.rng = rng
        self.cursor = ""
        self.offset = 0
        """Everything up to here is accounted for."""
        self.seen_count = 0
        self.missed_count = 0
        self.until = 1 << 60

    async def read(self) -> None:
        while self.offset < self.until:
            await self._connect({"partial": "1"} if self.rng.random() < 0.5 else {})
            await asyncio.sleep(self.rng.choice([0, 0, 0.2, 2.5]))

    async def _connect(self, query: dict[str, str]) -> None:
        if not self.cursor:
            query["from"] = "earliest"
        async with EventReader(self.port, [self.topic], self.cursor, **query) as reader:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    async for event in reader.events(self.rng.randrange(1, 60_000)):
                        self._take(event)
            self.cursor = reader.cursor

    def _take(self, event: Event) -> None:
        if event.event == "hello":
            self._greet(json.loads(event.data), event.id)
        elif event.event == "gap":
            gap = json.loads(event.data)
            assert (gap["topic"], gap["from"], gap["reason"]) == (self.topic, self.offset + 1, "evicted")
            self._skip(gap["to"] - self.offset)
            assert offset_of(event.id) == self.offset
        else:
            assert offset_of(event.id) == self.offset + 1, event
            assert json.loads(event.data) == {"n": self.offset + 1}
            self.offset += 1
            self.seen_count += 1

    def _greet(self, hello: dict[str, object], cursor: str) -> None:
        if not self.cursor:
            self.offset = offset_of(cursor)
        elif not hello["recovered"]:
            assert hello["reason"] == "evicted"
            assert isinstance(hello["missed"], int)
            self._skip(hello["missed"])
        assert offset_of(cursor) == self.offset, (hello, cursor)

    def _skip(self, count: int) -> None:
        assert count > 0
        self.offset += count
        self.missed_count += count


def offset_of(cursor: str) -> int:
    return int(cursor.rpartition(".")[2], 36)


async def publish(url: str, topic: str, rng: random.Random) -> int:
    """Publishes bursts that are longer than what is kept, with rests between them."""
    count = 0
    async with httpx2.AsyncClient() as client:
        for _ in range(8):
            for _ in range(rng.choice([2, 10, 20])):
                size = rng.choice([1, 10, 50])
                body = [{"topic": topic, "data": {"n": count + number + 1}} for number in range(size)]
                answer = await client.post(f"{url}/api/events", json=body)
                assert answer.json()["events"][-1]["offset"] == count + size
                count += size
            await asyncio.sleep(rng.uniform(0.2, 1.5))
    return count


def test_every_event_is_seen_or_told_to_be_missing(gateway: Gateway) -> None:
    print(f"seed {SEED}")
    asyncio.run(asyncio.wait_for(account(gateway), END_S))


async def account(gateway: Gateway) -> None:
    readers = [Accountant(gateway.port, TOPICS[n % 3], random.Random(SEED + n)) for n in range(24)]
    async with asyncio.TaskGroup() as group:
        reading = [group.create_task(reader.read()) for reader in readers]
        publishing = [group.create_task(publish(gateway.url, topic, random.Random(SEED))) for topic in TOPICS]
        counts = dict(zip(TOPICS, await asyncio.gather(*publishing), strict=True))
        for reader in readers:
            reader.until = counts[reader.topic]
        await asyncio.gather(*reading)
    print(
        f"{sum(reader.seen_count for reader in readers)} seen, "
        f"{sum(reader.missed_count for reader in readers)} told to be missing"
    )
    assert any(reader.missed_count for reader in readers)
    assert all(reader.offset == counts[reader.topic] for reader in readers)
