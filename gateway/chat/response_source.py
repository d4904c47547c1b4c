"""The stream of a response: a reader of its run's records, told as events in the order in which they were written."""

from collections.abc import Callable

from events.log.hub import TopicReader
from events.log.source import Source
from gateway.chat.dialects.responses import ResponseEvents


def lines_of(data: bytes) -> list[bytes]:
    """Returns the records in what a reader gives: each is a line."""
    return data[:-1].split(b"\n")


class ResponseSource(Source):
    """A Source with the events of one response, for one connection."""

    __slots__ = ("_events", "_reader", "on_wake")

    def __init__(self, reader: TopicReader, events: ResponseEvents) -> None:
        """Reads by `reader`, which has read nothing yet, because every event is numbered from the first."""
        self.on_wake: Callable[[], object] = _nobody
        self._events = events
        self._reader = reader
        reader.on_wake = self._wake

    def _wake(self) -> None:
        self.on_wake()

    @property
    def ended(self) -> bool:
        return self._reader.ended

    @property
    def complete(self) -> bool:
        return self._reader.complete

    def poll(self) -> bytes | None:
        while data := self._reader.poll():
            if frames := self._events.feed(lines_of(data)):
                return frames
        return data

    async def catch_up(self) -> None:
        await self._reader.catch_up()

    def close(self) -> None:
        self.on_wake = _nobody
        self._reader.close()


def _nobody() -> None:
    """Does nothing: nobody waits."""
