"""A stream that begins before the log has answered: its head and pings go out, `hello` follows when it can."""

import asyncio

from events.feed import frames
from events.feed.subscription import Subscription
from events.log.source import LentConnection, Source
from gateway.errors import LogUnavailable, Overloaded, TrilaneError

LOOK_S = 1.0
"""How often it looks whether there is a source by now, whose time counts."""


class DeferredStream(Source):
    """What `opening` will give; until then nothing is due."""

    __slots__ = ("_closed", "_cursor", "_opening", "_over", "_said", "_source", "on_wake")

    def __init__(self, opening: "asyncio.Task[Subscription | None]", cursor: str = "") -> None:
        """`cursor`: with which the stream was asked for."""
        self.on_wake = _nobody
        self._opening = opening
        self._cursor = cursor
        self._source: Subscription | None = None
        self._said = b""
        self._over = False
        self._closed = False
        opening.add_done_callback(self._opened)

    def _opened(self, done: "asyncio.Task[Subscription | None]") -> None:
        if done.cancelled():
            return
        error = done.exception()
        if self._closed:
            if error is None and (source := done.result()) is not None:
                source.close()
            return
        if error is None:
            self._source = done.result()
            self._said = b"" if self._source is not None else frames.bye("complete", self._cursor)
        elif isinstance(error, (LogUnavailable, Overloaded)):
            self._said = frames.busy(error.code, self._cursor)
        else:
            self._said = frames.bye(error.code if isinstance(error, TrilaneError) else "internal")
        if self._source is not None:
            self._source.on_wake = self.on_wake
        self.on_wake()

    @property
    def ended(self) -> bool:
        return self._over or (self._source is not None and self._source.ended)

    @property
    def complete(self) -> bool:
        return self._over or (self._source is not None and self._source.complete)

    def poll(self) -> bytes | None:
        if self._source is not None:
            self._source.on_wake = self.on_wake
            return self._source.poll()
        said, self._said = self._said, b""
        self._over = bool(said)
        return said

    def farewell(self) -> bytes:
        return self._source.farewell() if self._source is not None else frames.drain(self._cursor)

    async def catch_up(self) -> None:
        assert self._source is not None
        await self._source.catch_up()

    @property
    def written_s(self) -> float:
        return self._source.written_s if self._source is not None else 0.0

    def follow(self, connection: LentConnection | None) -> None:
        if self._source is not None:
            self._source.follow(connection)

    def due_at(self, now: float) -> float:
        return self._source.due_at(now) if self._source is not None else now + LOOK_S

    def close(self) -> None:
        self.on_wake = _nobody
        self._closed = True
        self._opening.cancel()
        if self._source is not None:
            self._source.close()


def _nobody() -> None:
    """Nobody is waiting."""
