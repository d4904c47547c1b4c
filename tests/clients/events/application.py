"""What one application saw through its client. Told by the client's own thread; owns no connection."""

import threading
import time
from typing import Any

import msgspec

OURS = ("hello", "gap", "drain", "busy", "auth", "bye")
NAMES = ("message", *OURS, "order.paid", "chat:typing")
"""What an application listens for; `EventSource` hands out no other events, the other clients any."""


class Event(msgspec.Struct, frozen=True):
    name: str
    data: str
    id: str | None = None
    """As the client tells it: some tell the last one that they saw, some only that of this event."""

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.data)


class Application:
    """Its own list of what came, in order. Whoever waits holds `told`."""

    def __init__(self, news: threading.Condition) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        """When each of them came, on the monotonic clock."""
        self.failures: list[str] = []
        """What the client said of connections that it will make anew."""
        self.ending = ""
        """Why its client gave up for good."""
        self._news = news

    def tell(self, event: Event) -> None:
        with self._news:
            self.events.append(event)
            self.times.append(time.monotonic())
            self._news.notify_all()

    def fail(self, failure: str) -> None:
        with self._news:
            self.failures.append(failure)
            self._news.notify_all()

    def end(self, why: str) -> None:
        with self._news:
            self.ending = why
            self._news.notify_all()

    def bodies(self, name: str) -> list[Any]:
        return [event.body for event in self.events if event.name == name]

    @property
    def hellos(self) -> list[dict[str, Any]]:
        return self.bodies("hello")

    @property
    def published(self) -> list[Event]:
        """All but what the gateway says itself."""
        return [event for event in self.events if event.name not in OURS]

    @property
    def numbers(self) -> list[int]:
        return [event.body["n"] for event in self.published]
