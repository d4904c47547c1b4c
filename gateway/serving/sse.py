"""The bytes of an event stream, and the ASGI response that writes them.

Departs from Litestar's `ServerSentEvent` and `Stream` on purpose:
1. Frames come encoded; the response never looks at them, and writes all that is due in one piece.
2. The first bytes (`: ok`) go out with the headers, and a ping after silence from then on, so proxies see life before
   the first token. A ping is one comment line without a blank line: a blank line makes several clients emit an event.
3. A stream that must stop before its end is cut without the end of the chunked body: a reader must be able to tell a
   cut from an end, and the AI SDK calls every clean end a success.
4. A reader that does not read blocks only itself: nothing is taken from its source while the connection's buffer is
   full, so it holds one write of about 64 KiB beyond the server's own buffer.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any

from events.log.source import CARRIER, ConnectionLender, LentConnection, Source
from gateway.errors import TrilaneError, problem
from gateway.serving.open_streams import OpenStreams

Scope = Any
Receive = Any
Send = Any
"""ASGI's own; each framework has narrower types of its own for them."""

OK = b": ok\n"
PING = b": ping\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """An ASGI application that writes one source to one client, until it ends, leaves or is gone."""

    __slots__ = (
        *("slot", "source", "headers", "verdict", "prime_s", "resumable", "end", "farewell", "leaves_cleanly"),
        *("_on_close", "_open_streams", "_ping_s", "_connection", "_fetch", "_begun", "_gone", "_leaving", "_closed"),
        *("_ping_due", "_last_write", "_lead", "_loop", "_wake"),
    )

    def __init__(
        self,
        source: Source,
        *,
        ping_s: float,
        open_streams: OpenStreams,
        headers: Iterable[tuple[bytes, bytes]] = (),
        verdict: "asyncio.Future[None] | None" = None,
        prime_s: float = 0,
        resumable: bool = True,
        end: bytes = b"",
        farewell: Callable[[], bytes] = bytes,
        leaves_cleanly: bool = False,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.slot = 0
        self.source = source
        self.headers = headers
        self.verdict = verdict
        """While it is open, at most `prime_s`, nothing is answered: what it raises is a problem document then."""
        self.prime_s = prime_s
        self.resumable = resumable
        """Its reader can come back with a cursor; else a drain lets it read on."""
        self.end = end
        """Written after the last event."""
        self.farewell = farewell
        """Makes what is written, at the end of a whole event, when this process is leaving."""
        self.leaves_cleanly = leaves_cleanly
        """Then the body ends; its readers do not take that for the end of the stream."""
        self._on_close = on_close
        self._open_streams = open_streams
        self._ping_s = ping_s
        self._connection: LentConnection | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._begun = self._gone = self._leaving = self._closed = False
        self._ping_due = False
        self._last_write = 0.0
        self._lead = OK
        self._loop = asyncio.get_running_loop()
        self._wake: Callable[[], object] = _nobody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extensions: dict[str, Any] = scope.get("extensions") or {}
        carrier: ConnectionLender | None = extensions.get(CARRIER)
        connection = self._connection = carrier.carry(self) if carrier is not None else None
        self._open_streams.add(self)
        try:
            if connection is None:
                await self._by_asgi(scope, receive, send)
            else:
                await self._by_connection(connection, scope, send)
        except BaseException:
            self._close()
            if connection is not None and not self._begun:
                connection.give_back()
            raise

    def leave(self) -> None:
        """Ends the stream at the end of a whole event, as a cut."""
        self._leaving = True
        self._wake()

    def gone(self) -> None:
        """The client has left."""
        self._gone = True
        self._wake()

    def _close(self) -> None:
        self._wake = _nobody
        self._open_streams.discard(self)
        self._open_streams.wheel.drop(self)
        if self._fetch is not None:
            self._fetch.cancel()
        if not self._closed:
            self._closed = True
            self.source.close()
            self._on_close()

    async def _refusal(self) -> TrilaneError | None:
        """Waits for the verdict; the error that it is."""
        verdict = self.verdict
        if verdict is None:
            return None
        if not verdict.done():
            decided = self._loop.create_future()
            self._wake = _setter(decided)
            verdict.add_done_callback(lambda _: self._wake())
            timer = self._loop.call_later(self.prime_s, self._wake)
            await decided
            timer.cancel()
        error = verdict.exception() if verdict.done() and not verdict.cancelled() else None
        return error if isinstance(error, TrilaneError) else None

    def _due(self) -> bytes | None:
        """What to write now, as `Source.poll`: with the first bytes, or a ping when nothing else was due for long."""
        data = self.source.poll()
        if data is None:
            return None
        if self._lead:
            data, self._lead = self._lead + data, b""
        if not data and self._ping_due:
            data = PING
        if data:
            self._ping_due = False
            self._last_write = self._loop.time()
        return data

    @property
    def _over(self) -> bool:
        return self._gone or self._leaving or (self.source.ended and not self._lead)

    # The way that every ASGI server has: one task per stream, woken when something is due

    async def _by_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener = self._loop.create_task(self._listen(receive))
        try:
            refusal = await self._refusal()
            if refusal is not None:
                await send_problem(refusal, scope, send)
            elif not self._gone:
                await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *self.headers]})
                self._arm()
                await self._write_all(send)
        finally:
            listener.cancel()
        self._close()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone()

    async def _write_all(self, send: Send) -> None:
        while not self._over:
            woken = self._loop.create_future()
            self._wake = self.source.on_wake = _setter(woken)
            data = self._due()
            if data is None:
                await self.source.catch_up()
            elif data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            else:
                await woken
        if self._gone:
            return
        if self._leaving:
            cut = not self.leaves_cleanly
            await send({"type": "http.response.body", "body": self.farewell(), "more_body": cut})
        elif self.source.complete:
            await send({"type": "http.response.body", "body": self.end})

    # The way of a connection that carries the stream: the request's task ends once the head is sent, and what is due is
    # written in the turn of the event loop that brought it

    async def _by_connection(self, connection: LentConnection, scope: Scope, send: Send) -> None:
        refusal = await self._refusal()
        self._wake = self.source.on_wake = self.pump
        if refusal is not None and not self._gone:
            self._close()
            connection.give_back()
            await send_problem(refusal, scope, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *self.headers]})
        if self._gone:
            self._close()
            return
        connection.begin()
        self._begun = True
        self._arm()
        self.pump()

    def hold(self) -> None:
        """The connection takes no more for now; `pump` follows when it does again."""
        self.source.follow(None)

    def pump(self) -> None:
        """Writes while there is something and the connection takes it."""
        connection = self._connection
        if connection is None or not self._begun or self._closed:
            return
        try:
            while not self._over:
                if self._fetch is not None or not connection.writable:
                    return
                data = self._due()
                if data is None:
                    self._fetch = self._loop.create_task(self._catch_up())
                    return
                if not data:
                    self.source.follow(connection)
                    return
                connection.write(data)
            if not self._gone:
                self._end(connection)
            self._close()
        except Exception as err:
            self._fail(err)

    def _end(self, connection: LentConnection) -> None:
        if not self._leaving and self.source.complete:
            connection.finish(self.end)
            return
        farewell = self.farewell() if self._leaving else b""
        if self._leaving and self.leaves_cleanly:
            connection.finish(farewell)
            return
        if farewell:
            connection.write(farewell)
        connection.cut()

    async def _catch_up(self) -> None:
        """While it runs, news neither poll nor fetch."""
        try:
            await self.source.catch_up()
        except Exception as err:
            self._fetch = None
            self._fail(err)
            return
        self._fetch = None
        self.pump()

    def _fail(self, error: Exception) -> None:
        """Cuts the stream; that history is gone is no fault, and its reader is told when it comes back."""
        if not isinstance(error, TrilaneError):
            self._loop.call_exception_handler({"message": "an event stream failed", "exception": error})
        assert self._connection is not None
        self._connection.cut()
        self._close()

    def _arm(self) -> None:
        self._last_write = now = self._loop.time()
        self._open_streams.wheel.at(min(now + self._interval(), self.source.due_at(now)), self)

    def _interval(self) -> float:
        return self._ping_s * random.uniform(0.9, 1.08)

    def on_time(self, now: float) -> None:
        """Looks at when bytes last went out, instead of being moved on every write."""
        again = self.source.due_at(now)
        silent, wait = now - max(self._last_write, self.source.written_s), self._interval()
        if silent >= self._ping_s * 0.9:
            self._ping_due = True
        else:
            wait = max(0.05, wait - silent)
        self._wake()
        if not self._closed:
            self._open_streams.wheel.at(min(now + wait, again), self)


async def send_problem(error: TrilaneError, scope: Scope, send: Send) -> None:
    """Answers with the problem document of `error`."""
    status, body, headers = problem(error, scope.get("request_id", ""))
    told = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    told += [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})


def _nobody() -> None:
    """Nobody is waiting."""


def _setter(future: "asyncio.Future[None]") -> Callable[[], object]:
    return lambda: future.done() or future.set_result(None)
