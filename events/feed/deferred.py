"""Begins a stream before the log has answered: its head and pings go out at once, `hello` follows when it can."""

import asyncio

from events.feed import frames
from events.feed.subscription import Subscription
from events.log.source import LentConnection, Source
from gateway.errors import LogUnavailable, Overloaded, TrilaneError

CHECK_S = 1.0
"""Seconds after which a deferred stream checks again whether it has a source, whose times count then."""


class DeferredStream(Source):
    """The source that a task will give; until then nothing is due."""

    __slots__ = ("_cursor", "_is_closed", "_is_over", "_last_frame", "_opening", "_source", "on_wake")

    def __init__(self, opening: "asyncio.Task[Subscription | None]", cursor: str = "") -> None:
        """Waits for `opening`; `cursor` is the one with which the stream was requested, empty without one."""
        self.on_wake = _nobody
        self._opening = opening
        self._cursor = cursor
        self._source: Subscription | None = None
        self._last_frame = b""
        self._is_over = False
        self._is_closed = False
        opening.add_done_callback(self._take_source)

    def _take_source(self, task: "asyncio.Task[Subscription | None]") -> None:
        if task.cancelled():
            return
        error = task.exception()
        if self._is_closed:
            if error is None and (source := task.result()) is not None:
                source.close()
            return
        if error is None:
            self._source = task.result()
            self._last_frame = b"" if self._source is not None else frames.bye("complete", self._cursor)
        elif isinstance(error, (LogUnavailable, Overloaded)):
            self._last_frame = frames.busy(error.code, self._cursor)
        else:
            self._last_frame = frames.bye(error.code if isinstance(error, TrilaneError) else "internal")
        if self._source is not None:
            self._source.on_wake = self.on_wake
        self.on_wake()

    @property
    def ended(self) -> bool:
        return self._is_over or (self._source is not None and self._source.ended)

    @property
    def complete(self) -> bool:
        return self._is_over or (self._source is not None and self._source.complete)

    def poll(self) -> bytes | None:
        if self._source is not None:
            self._source.on_wake = self.on_wake
            return self._source.poll()
        frame, self._last_frame = self._last_frame, b""
        self._is_over = bool(frame)
        return frame

    def farewell(self) -> bytes:
        return self._source.farewell() if self._source is not None else frames.drain(self._cursor)

    def apology(self, error: TrilaneError) -> bytes:
        return self._source.apology(error) if self._source is not None else frames.apology(error, self._cursor)

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
        return self._source.due_at(now) if self._source is not None else now + CHECK_S

    def close(self) -> None:
        self.on_wake = _nobody
        self._is_closed = True
        self._opening.cancel()
        if self._source is not None:
            self._source.close()


def _nobody() -> None:
    """Does nothing: nobody is waiting."""
