"""A scene is played on one gateway, with every client in front of it at once.

Owns the gateway's process and who follows it. Decides nothing: a step that not every client reaches in time is given
up, and the tests say whose fault it is.
"""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from events.log.port import Append
from events.log.sqlite.engine import SqliteLog
from gateway.core.engines import retention_policy
from gateway.settings import Settings
from tests.clients.events.application import Application
from tests.clients.events.wire import Wire
from tests.conftest import Gateway

WAIT_S = 15.0
START_POLL_S = 0.05
TOPIC = "news"
Follow = Callable[[str, str, Application], Callable[[], None]]
"""Opens a client, by its name, on a URL, for an application; gives how to close it."""


class QuietlyStarted(Gateway):
    """Waits for its start without asking by HTTP every 10 ms, which costs more than the start of several at once."""

    def _ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except ConnectionRefusedError:
            time.sleep(START_POLL_S)
            assert self.process is not None
            return self.process.poll() is not None and super()._ready()
        return super()._ready()


class Scene:
    def __init__(self, folder: Path, clients: Mapping[str, Follow], env: dict[str, str]) -> None:
        folder.mkdir()
        self.gateway = QuietlyStarted(folder, env, unit="events")
        self.news = threading.Condition()
        self.applications: dict[str, Application] = {}
        self.wires: dict[str, Wire] = {}
        self.exit_codes: list[int] = []
        self.last = 0
        """The last number that was published."""
        self._clients = clients
        self._closers: list[Callable[[], None]] = []
        self._http = httpx2.Client(timeout=10)

    def open(self, *topics: str, with_wires: bool = False) -> None:
        """Has every client follow these topics and be greeted; `with_wires`, each through a proxy of its own."""
        query = "&".join(f"topic={topic}" for topic in topics or (TOPIC,))
        for kind, follow in self._clients.items():
            if with_wires:
                self.wires[kind] = Wire(self.gateway.port, self.news)
            address = self.wires[kind].url if with_wires else self.gateway.url
            application = self.applications[kind] = Application(self.news)
            self._closers.append(follow(kind, f"{address}/api/events?{query}", application))
        self.each(lambda application: application.hellos)

    def close(self) -> None:
        for closer in self._closers:
            closer()
        for wire in self.wires.values():
            wire.close()
        self._http.close()
        self.gateway.stop()

    # What happens

    def publish(self, *bodies: Any, topic: str = TOPIC, event: str = "message") -> None:
        """Publishes each body in a request of its own."""
        for body in bodies:
            self.post(msgspec.json.encode({"topic": topic, "event": event, "data": body}))

    def post(self, publication: bytes) -> None:
        answer = self._http.post(f"{self.gateway.url}/api/events", content=publication)
        assert answer.status_code == 200, answer.text

    def number(self, first: int, last: int) -> None:
        self.last = last
        self.publish(*({"n": n} for n in range(first, last + 1)))

    def append(self, *bodies: Any, topic: str = TOPIC, close: bool = False) -> None:
        """Appends to the log from another process than the gateway, which need not run."""
        data = [msgspec.json.encode(body) for body in bodies]
        what = Append(topic=f"event/{topic}", data=data, name="message", close=close)
        asyncio.run(_append(self.gateway.folder / "trilane.db", what))

    def leave(self, number: signal.Signals) -> None:
        """Ends the gateway, and waits until it is gone."""
        self.gateway.signal(number)
        self.exit_codes.append(self.gateway.wait())

    def start(self, **env: str) -> None:
        """Starts the gateway, at first and again later on the same port and log."""
        self.gateway.env |= env
        self.gateway.start()

    # What is waited for

    def each(self, condition: Callable[[Application], object], within_s: float = WAIT_S) -> bool:
        """Waits until `condition` holds for every application, or for so long; returns whether it does."""
        return self.until(lambda: all(condition(application) for application in self.applications.values()), within_s)

    def until(self, condition: Callable[[], bool], within_s: float = WAIT_S) -> bool:
        with self.news:
            return self.news.wait_for(condition, within_s)


async def _append(path: Path, what: Append) -> None:
    log = SqliteLog(str(path), retention_policy(Settings()))
    await log.open()
    try:
        await log.append(what)
    finally:
        await log.close()
