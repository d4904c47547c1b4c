"""Readers that are cut at any byte, while processes are stopped and killed, lose nothing and see nothing twice.

LONG_TESTS=1 makes it 10,000 cuts of 200 readers instead of a few hundred of 40.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, read_topic
from tests.support.event_streams import EventReader, Refused
from tests.support.sse_decoder import Event

LONG = bool(os.environ.get("LONG_TESTS"))
READERS, CUTS, PUBLISHERS = (200, 10_000, 5) if LONG else (40, 600, 5)
TOPICS = [f"load/{number}" for number in range(20)]
SUBSCRIPTIONS = [[TOPICS[0]], [TOPICS[1]], TOPICS[:3], TOPICS[2:7], TOPICS, ["load/*"]]
STAY_S = 2.0
"""Seconds that a reader stays at most: towards the end there is nothing left to fill its bytes."""
END_S = 600 if LONG else 60
SEED = random.randrange(1 << 32)


@pytest.fixture
def gateways(tmp_path: Path) -> Iterator[list[Gateway]]:
    """Runs two processes on one log."""
    env = {"TRILANE_DRAIN_WINDOW_S": "0.3", "TRILANE_PING_S": "0.3", "TRILANE_RETENTION_EVENTS": "1000000"}
    processes = [Gateway(tmp_path, env, unit="events").start() for _ in range(2)]
    try:
        yield processes
    finally:
        for gateway in processes:
            gateway.stop()


def event(topic: str, by: int, n: int) -> dict[str, Any]:
    data = {"topic": topic, "by": by, "n": n}
    return {"topic": topic, "event": "note", "data": data, "idempotencyKey": f"{by}-{n}"}


class Load:
    """Knows what was published, and who has seen what."""

    def __init__(self, gateways: list[Gateway], rng: random.Random) -> None:
        self.gateways = gateways
        self.rng = rng
        self.cuts = 0
        self.newest: dict[str, int] = dict.fromkeys(TOPICS, 0)
        """The newest offset of each topic that a publisher was told."""
        self.over = asyncio.Event()
        """Set once the readers have had their cuts."""
        self.silent = asyncio.Event()
        """Set once nothing more will be published."""

    async def publish(self, number: int) -> None:
        """Publishes numbered events until the readers have had their cuts; repeats what got no answer."""
        count = 0
        async with httpx2.AsyncClient(timeout=5) as client:
            while not self.over.is_set():
                batch = [self.rng.choice(TOPICS) for _ in range(self.rng.choice([1, 1, 5]))]
                body = [event(topic, number, count + at) for at, topic in enumerate(batch)]
                for receipt in await self._post(client, body):
                    self.newest[receipt["topic"]] = max(self.newest[receipt["topic"]], receipt["offset"])
                count += len(batch)
                await asyncio.sleep(0.005)

    async def _post(self, client: httpx2.AsyncClient, body: list[dict[str, Any]]) -> list[dict[str, Any]]:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                answer = await client.post(f"{self.rng.choice(self.gateways).url}/api/events", json=body)
                if answer.status_code == 200:
                    return answer.json()["events"]
            await asyncio.sleep(0.05)

    async def trouble(self) -> None:
        """Stops and kills one process after the other, and starts it again."""
        while not self.over.is_set():
            await asyncio.sleep(self.rng.uniform(0.3, 1.0))
            victim = self.rng.choice(self.gateways)
            victim.signal(self.rng.choice([signal.SIGKILL, signal.SIGTERM]))
            await asyncio.to_thread(victim.wait)
            await asyncio.to_thread(victim.start)


class Witness:
    """Reads through all its connections, and checks that each topic's events come once and in order."""

    def __init__(self, load: Load, topics: list[str], rng: random.Random) -> None:
        self.load = load
        self.topics = topics
        self.rng = rng
        self.cursor = ""
        self.numbers: dict[str, list[tuple[int, int]]] = {topic: [] for topic in TOPICS}
        self.last: dict[tuple[str, int], int] = {}

    async def read(self) -> None:
        while not (self.load.silent.is_set() and self.has_all()):
            with contextlib.suppress(ConnectionError, Refused):
                await self._connect()
            await asyncio.sleep(0)

    async def _connect(self) -> None:
        query = {} if self.cursor else {"from": "earliest"}
        limit = self.rng.choice([self.rng.randrange(700), self.rng.randrange(20_000)])
        limit = 1 << 60 if self.load.over.is_set() else limit
        port = self.rng.choice(self.load.gateways).port
        async with EventReader(port, self.topics, self.cursor, **query) as reader:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STAY_S):
                    async for event in reader.events(limit):
                        self._take(event)
            self.cursor = reader.cursor
        self.load.cuts += 1
        if self.load.cuts >= CUTS:
            self.load.over.set()

    def has_all(self) -> bool:
        topics = TOPICS if self.topics == ["load/*"] else self.topics
        return all(len(self.numbers[topic]) >= self.load.newest[topic] for topic in topics)

    def _take(self, event: Event) -> None:
        data = json.loads(event.data)
        if event.event == "hello":
            assert data["recovered"], (data, self.cursor)
        elif event.event == "note":
            topic, by, n = data["topic"], data["by"], data["n"]
            assert n > self.last.get((topic, by), -1), f"{event} came again: {self.topics}"
            self.last[topic, by] = n
            self.numbers[topic].append((by, n))
        else:
            assert event.event in ("drain", "busy"), event


def test_nothing_is_lost_or_doubled_by_cuts_and_deaths(gateways: list[Gateway]) -> None:
    asyncio.run(asyncio.wait_for(suffer(gateways), END_S))


async def suffer(gateways: list[Gateway]) -> None:
    print(f"seed {SEED}")
    load = Load(gateways, random.Random(SEED))
    witnesses = [
        Witness(load, SUBSCRIPTIONS[number % len(SUBSCRIPTIONS)], random.Random(SEED + number))
        for number in range(READERS)
    ]
    async with asyncio.TaskGroup() as group:
        trouble = group.create_task(load.trouble())
        publishers = [group.create_task(load.publish(number)) for number in range(PUBLISHERS)]
        readers = [group.create_task(witness.read()) for witness in witnesses]
        await asyncio.gather(*publishers, trouble)
        load.silent.set()
        await asyncio.gather(*readers)
    print(f"{load.cuts} cuts, {sum(load.newest.values())} events")
    for topic in TOPICS:
        log_numbers = [
            (data["by"], data["n"]) for _, data in await read_topic(gateways[0].folder / "trilane.db", f"event/{topic}")
        ]
        assert len(log_numbers) == load.newest[topic]
        for witness in witnesses:
            if topic in witness.topics or witness.topics == ["load/*"]:
                assert witness.numbers[topic] == log_numbers
