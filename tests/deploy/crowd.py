"""People at a deployment: some ask and read answers, some follow a topic, one publishes; all of them come back.

Each notes what it was sent in a `Ledger`, by which a test judges what a deploy or an outage cost.
"""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.deploy.wire import LOST, Road, asked
from tests.support.sse_client import TERMINAL, chat_body
from tests.support.sse_decoder import Event, SseDecoder

TRIES = 60
PAUSE_S = 0.2
"""Mean of the seconds that a client waits before it comes back."""


@dataclass
class Ledger:
    """What all clients of one test were answered."""

    statuses: Counter[int] = field(default_factory=Counter[int])
    faults: list[str] = field(default_factory=list[str])
    """Answers of 500 and above, in words."""
    broken: int = 0
    """Requests that got no answer at all."""
    departures: list[float] = field(default_factory=list[float])
    """The times by the monotonic clock at which followers lost their streams."""
    reconnects: int = 0

    def note(self, method: str, path: str, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        if status >= 500:
            self.faults.append(f"{time.monotonic():.2f} {method} {path}: {status} {body[:200]!r}")


async def pause() -> None:
    await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.5))


class Asker:
    """Asks one question and reads the answer to its end, on as many connections as it takes."""

    def __init__(self, road: Road, chat_id: str, text: str, ledger: Ledger) -> None:
        self.chat_id, self.ledger = chat_id, ledger
        self.text = ""
        self.ends: list[str] = []
        """The types of the chunks that ended the run: one, where all is well."""
        self.code = ""
        self.cursor = ""
        self.connections = 0
        self.pings = 0
        self._road, self._question = road, chat_body(chat_id, text)

    async def run(self, *, first: Road | None = None) -> None:
        """Asks on the road `first`, and reads on by its own."""
        road = first or self._road
        for _ in range(TRIES):
            self.connections += 1
            try:
                if await self._read(road):
                    return
            except LOST:
                self.ledger.broken += not self.cursor
            road = self._road
            self.ledger.reconnects += 1
            await pause()
        raise AssertionError(f"{self.chat_id} has no end after {TRIES} connections: {self.text[-80:]!r}")

    async def _read(self, road: Road) -> bool:
        """Reads one answer; returns whether it was the last."""
        method, path, body = ("GET", f"/api/chat/{self.chat_id}/stream", None)
        if not self.cursor:
            method, path, body = ("POST", "/api/chat", self._question)
        async with asked(road, method, path, body, last_event_id=self.cursor) as answer:
            if answer.status != 200:
                self.ledger.note(method, path, answer.status, await answer.body())
                return answer.status == 204
            self.ledger.note(method, path, 200, b"")
            decoder = SseDecoder(self.cursor)
            async for piece in answer.pieces():
                for event in decoder.feed(piece):
                    if event.data == "[DONE]":
                        return True
                    self._take(event)
                self.pings += decoder.comments.count("ping")
                decoder.comments.clear()
        return False

    def _take(self, event: Event) -> None:
        self.cursor = event.id
        chunk = json.loads(event.data)
        if chunk["type"] == "text-delta":
            self.text += chunk["delta"]
        elif chunk["type"] in TERMINAL:
            self.ends.append(chunk["type"])
        self.code = (chunk.get("messageMetadata") or {}).get("code", self.code)


class Follower:
    """Follows a topic as an EventSource does, but comes back sooner than it is told to."""

    def __init__(self, road: Road, topic: str, ledger: Ledger) -> None:
        self.numbers: list[int] = []
        """The numbers `n` of its events, in the order in which they came."""
        self.hellos: list[dict[str, object]] = []
        self.pings = 0
        self._road, self._path, self._ledger = road, f"/api/events?topic={topic}&from=earliest", ledger
        self._cursor = ""

    async def run(self) -> None:
        """Follows until it is cancelled."""
        while True:
            streams = len(self.hellos)
            with contextlib.suppress(LOST):
                await self._follow()
            if len(self.hellos) > streams:
                self._ledger.departures.append(time.monotonic())
            self._ledger.reconnects += 1
            await pause()

    async def _follow(self) -> None:
        async with asked(self._road, "GET", self._path, last_event_id=self._cursor) as answer:
            self._ledger.note("GET", self._path, answer.status, b"")
            decoder = SseDecoder(self._cursor)
            async for piece in answer.pieces():
                for event in decoder.feed(piece):
                    self._take(event)
                self.pings += decoder.comments.count("ping")
                decoder.comments.clear()

    def _take(self, event: Event) -> None:
        self._cursor = event.id
        if event.event == "message":
            self.numbers.append(json.loads(event.data)["n"])
        elif event.event == "hello":
            self.hellos.append(json.loads(event.data))


class Publisher:
    """Publishes numbered events one after another, each again under its key until it is acknowledged or given up."""

    def __init__(self, road: Road, topic: str, ledger: Ledger, *, pause_s: float) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[int] = []
        """The numbers that were answered with 503, and not published again."""
        self.longest_s = 0.0
        """The longest time that one of its requests took."""
        self._road, self._topic, self._ledger, self._pause_s = road, topic, ledger, pause_s

    async def run(self, is_over: asyncio.Event, *, again: bool = True) -> None:
        """Publishes until `is_over`; an event that was refused is published `again`."""
        number = 0
        while not is_over.is_set():
            await self._publish(number, again=again)
            number += 1
            await asyncio.sleep(self._pause_s)

    async def _publish(self, number: int, *, again: bool) -> None:
        event = {"topic": self._topic, "data": {"n": number}, "idempotencyKey": f"k{number}"}
        for _ in range(TRIES):
            began = time.monotonic()
            try:
                async with asked(self._road, "POST", "/api/events", event) as answer:
                    body = await answer.body()
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self._ledger.note("POST", "/api/events", answer.status, body)
                if answer.status == 200:
                    self.acknowledged.append(number)
                    return
                if "retry-after" not in answer.headers:
                    self._ledger.faults.append(f"no retry-after: {answer.headers}")
                if not again:
                    self.refused.append(number)
                    return
            except LOST:
                self._ledger.broken += 1
            await pause()
        raise AssertionError(f"event {number} was not taken in {TRIES} tries")
