"""Writes event streams: `EventStream` is an ASGI application, or writes to a connection that the server lends it.

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

import structlog

from events.log.source import CARRIER, ConnectionLender, LentConnection, Source
from gateway.errors import LogUnavailable, TrilaneError, Unauthorized
from gateway.serving.open_streams import Audience, LaneStreams, OpenStreams, StreamState, TokenEnd
from gateway.serving.refusals import send_problem

log = structlog.get_logger("stream")

Scope = Any
Receive = Any
Send = Any
"""The types of an ASGI application; each framework has narrower ones of its own."""

OK = b": ok\n"
PING = b": ping\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class EventStream:
    """An ASGI application that writes one source to one client, until the source ends or either side leaves."""

    __slots__ = (
        *("slot", "source", "headers", "verdict", "prime_s", "resumable", "end", "farewell", "apology"),
        *("leaves_cleanly", "_on_close", "_open_streams", "_ping_s", "_connection", "_fetch", "_last_write", "_lead"),
        *("_loop", "_wake", "_token_end", "_request_id", "key_id", "audience"),
        *("_has_begun", "_is_client_gone", "_is_leaving", "_is_closed", "_is_ping_due"),
    )

    def __init__(
        self,
        source: Source,
        *,
        ping_s: float,
        open_streams: OpenStreams | LaneStreams,
        headers: Iterable[tuple[bytes, bytes]] = (),
        verdict: "asyncio.Future[None] | None" = None,
        prime_s: float = 0,
        resumable: bool = True,
        end: bytes = b"",
        farewell: Callable[[], bytes] = bytes,
        apology: Callable[[TrilaneError], bytes] = lambda error: b"",
        leaves_cleanly: bool = False,
        on_close: Callable[[], None] = lambda: None,
        token_end: TokenEnd | None = None,
        key_id: str = "",
        audience: Audience | None = None,
    ) -> None:
        self.slot = 0
        self.source = source
        self.headers = headers
        self.verdict = verdict
        """A future that holds the answer back, for at most `prime_s`; an error that it raises is the answer."""
        self.prime_s = prime_s
        self.resumable = resumable
        """Whether its reader can come back with a cursor; otherwise a drain lets it read on."""
        self.end = end
        """The bytes after the last event."""
        self.farewell = farewell
        """Returns the bytes that a drain writes after a whole event, before the stream ends."""
        self.apology = apology
        """Returns the bytes that are written in its place when the log fails, or the reader's credential ends."""
        self.leaves_cleanly = leaves_cleanly
        """Whether the body then ends properly, because its readers do not take that for the end of the stream."""
        self._token_end = token_end
        self.key_id = key_id
        self.audience = audience
        self._on_close = on_close
        self._open_streams = open_streams
        self._ping_s = ping_s
        self._connection: LentConnection | None = None
        self._fetch: asyncio.Task[None] | None = None
        self._has_begun = self._is_client_gone = self._is_leaving = self._is_closed = False
        self._is_ping_due = False
        self._last_write = 0.0
        self._lead = OK
        self._request_id = ""
        self._loop = asyncio.get_running_loop()
        self._wake: Callable[[], object] = _nobody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._request_id = scope.get("request_id", "")
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
            if connection is not None and not self._has_begun:
                connection.give_back()
            raise

    @property
    def lane(self) -> str:
        return self._open_streams.lane

    @property
    def state(self) -> StreamState:
        if self._fetch is not None:
            return "replaying"
        return "opening" if self._lead else "live"

    def leave(self) -> None:
        """Ends the stream at the end of a whole event, as a cut."""
        self._is_leaving = True
        self._wake()

    def fail(self, error: TrilaneError) -> None:
        """Ends the stream at the end of a whole event, with words about an error of the log, or of its credential."""
        if not self._is_leaving:
            self.farewell = lambda: self.apology(error)
            self.leave()

    def gone(self) -> None:
        """Ends the stream, because the client has left."""
        self._is_client_gone = True
        self._wake()

    def _close(self) -> None:
        self._wake = _nobody
        self._open_streams.discard(self)
        self._open_streams.wheel.drop(self)
        if self._fetch is not None:
            self._fetch.cancel()
        if not self._is_closed:
            self._is_closed = True
            self.source.close()
            self._on_close()

    async def _refusal(self) -> TrilaneError | None:
        """Waits for the verdict, and returns the error that it is."""
        verdict = self.verdict
        if verdict is None:
            return None
        if not verdict.done():
            decision = self._loop.create_future()
            self._wake = _setter(decision)
            verdict.add_done_callback(lambda _: self._wake())
            timer = self._loop.call_later(self.prime_s, self._wake)
            await decision
            timer.cancel()
        error = verdict.exception() if verdict.done() and not verdict.cancelled() else None
        return error if isinstance(error, TrilaneError) else None

    def _due(self) -> bytes | None:
        """Returns what to write now, as `Source.poll` does, with the first bytes before it or a ping in its place."""
        data = self.source.poll()
        if data is None:
            return None
        if self._lead:
            data, self._lead = self._lead + data, b""
        if not data and self._is_ping_due:
            data = PING
        if data:
            self._is_ping_due = False
            self._last_write = self._loop.time()
        return data

    @property
    def _is_over(self) -> bool:
        return self._is_client_gone or self._is_leaving or (self.source.ended and not self._lead)

    # On any ASGI server: one task per stream, woken when something is due

    async def _by_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener = self._loop.create_task(self._listen(receive))
        try:
            refusal = await self._refusal()
            if refusal is not None:
                await send_problem(refusal, scope, send)
            elif not self._is_client_gone:
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
        while not self._is_over:
            news = self._loop.create_future()
            self._wake = self.source.on_wake = _setter(news)
            data = self._due()
            if data is None:
                try:
                    await self.source.catch_up()
                except LogUnavailable as err:
                    self.fail(err)
            elif data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
            else:
                await news
        if self._is_client_gone:
            return
        if self._is_leaving:
            is_cut = not self.leaves_cleanly
            await send({"type": "http.response.body", "body": self.farewell(), "more_body": is_cut})
        elif self.source.complete:
            await send({"type": "http.response.body", "body": self.end})

    # On a lent connection: the request's task ends once the head is sent, and what is due is written in the turn of the
    # event loop that brought it

    async def _by_connection(self, connection: LentConnection, scope: Scope, send: Send) -> None:
        refusal = await self._refusal()
        self._wake = self.source.on_wake = self.pump
        if refusal is not None and not self._is_client_gone:
            self._close()
            connection.give_back()
            await send_problem(refusal, scope, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, *self.headers]})
        if self._is_client_gone:
            self._close()
            return
        connection.begin()
        self._has_begun = True
        self._arm()
        self.pump()

    def hold(self) -> None:
        """Stops writing while the connection takes no more; `pump` follows when it does again."""
        self.source.follow(None)

    def pump(self) -> None:
        """Writes whatever is due, as far as the connection takes it."""
        connection = self._connection
        if connection is None or not self._has_begun or self._is_closed:
            return
        try:
            while not self._is_over:
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
            if not self._is_client_gone:
                self._end(connection)
            self._close()
        except Exception as err:
            self._fail(err)

    def _end(self, connection: LentConnection) -> None:
        if not self._is_leaving and self.source.complete:
            connection.finish(self.end)
            return
        farewell = self.farewell() if self._is_leaving else b""
        if self._is_leaving and self.leaves_cleanly:
            connection.finish(farewell)
            return
        if farewell:
            connection.write(farewell)
        connection.cut()

    async def _catch_up(self) -> None:
        """Fetches one slice; while it runs, `pump` neither polls nor fetches."""
        try:
            await self.source.catch_up()
        except LogUnavailable as err:
            self._fetch = None
            self.fail(err)
            return
        except Exception as err:
            self._fetch = None
            self._fail(err)
            return
        self._fetch = None
        self.pump()

    def _fail(self, error: Exception) -> None:
        """Cuts the stream. An error of ours is no fault: the reader gets it when it comes back."""
        if not isinstance(error, TrilaneError):
            log.error("an event stream failed", request_id=self._request_id, exc_info=error)
        assert self._connection is not None
        self._connection.cut()
        self._close()

    def _arm(self) -> None:
        self._last_write = now = self._loop.time()
        self._open_streams.wheel.at(min(now + self._interval(), self._due_at(now)), self)

    def _due_at(self, now: float) -> float:
        source_due_at = self.source.due_at(now)
        return source_due_at if self._token_end is None else min(source_due_at, self._token_end.due_at)

    def _interval(self) -> float:
        return self._ping_s * random.uniform(0.9, 1.08)

    def on_time(self, now: float) -> None:
        """Makes a ping due after silence. It looks at the last write, so that no write has to move the timer."""
        end = self._token_end
        if end is not None and now >= end.ends_at:
            self.fail(Unauthorized("the token of this request has expired", code="token_expired"))
            return
        if end is not None and now >= end.due_at:
            end.due_at = end.ends_at
            self._lead += end.notice(round(end.ends_at - now))
        source_due_at = self._due_at(now)
        silence_s, wait_s = now - max(self._last_write, self.source.written_s), self._interval()
        if silence_s >= self._ping_s * 0.9:
            self._is_ping_due = True
        else:
            wait_s = max(0.05, wait_s - silence_s)
        self._wake()
        if not self._is_closed:
            self._open_streams.wheel.at(min(now + wait_s, source_due_at), self)


def _nobody() -> None:
    """Does nothing: nobody is waiting."""


def _setter(future: "asyncio.Future[None]") -> Callable[[], object]:
    return lambda: future.done() or future.set_result(None)
