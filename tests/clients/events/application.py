"""An Application holds what one application saw through its client, whose thread tells it; it owns no connection."""

import threading
import time
from typing import Any

import msgspec

OURS = ("hello", "gap", "drain", "busy", "auth", "bye")
NAMES = ("message", *OURS, "order.paid", "chat:typing")
"""Names of events that an application listens for: `EventSource` delivers no others, the other clients any."""


class Event(msgspec.Struct, frozen=True):
    name: str
    data: str
    id: str | None = None
    """The id as the client reports it: some report the last one they saw, some only that of this event."""

    @property
    def body(self) -> Any:
        return msgspec.json.decode(self.data)


class Application:
    """Lists what came, in order. Whoever waits holds `news`."""

    def __init__(self, news: threading.Condition) -> None:
        self.events: list[Event] = []
        self.times: list[float] = []
        """Times at which each of them came, on the monotonic clock."""
        self.failures: list[str] = []
        """Failures that the client reported of connections that it will make anew."""
        self.ending = ""
        """The reason for which its client gave up for good."""
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
        """Returns all events but those that the gateway sends itself."""
        return [event for event in self.events if event.name not in OURS]

    @property
    def numbers(self) -> list[int]:
        return [event.body["n"] for event in self.published]
