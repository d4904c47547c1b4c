"""The bytes of an event stream, and the ASGI response that writes them.

Departs from Litestar's `ServerSentEvent` and `Stream` on purpose:
1. Frames come encoded; the response never looks at them, and writes all that is due in one piece.
2. The first bytes (`: ok`) go out with the headers, and a ping after silence from then on, so proxies see life before
   the first token. A ping is one comment line without a blank line: a blank line makes several clients emit an event.
3. A stream that must stop before its end is cut without the end of the chunked body: a reader must be able to tell a
   cut from an end, and the AI SDK calls every clean end a success.
4. A reader that does not read blocks only itself: its task waits in `send`, holding one write of about 64 KiB.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from gateway.errors import TrilaneError, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OK = b": ok\n"
PING = b": ping\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Source(Protocol):
    """What a response reads from: a cursor on a log."""

    @property
    def ended(self) -> bool: ...
    async def next(self) -> bytes:
        """What is due; b"" when woken for another reason, or ended."""
        ...

    def wake(self) -> None: ...
    def close(self) -> None: ...


class OpenStreams:
    """The responses that are open in this process, so that a drain can close them evenly."""

    def __init__(self) -> None:
        self.draining = False
        self._streams: set[EventStream] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def add(self, stream: "EventStream") -> None:
        self._streams.add(stream)

    def discard(self, stream: "EventStream") -> None:
        self._streams.discard(stream)

    async def drain(self, window_s: float) -> None:
        """Asks every stream to leave, in random order, evenly over the window; returns early when none is left."""
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + window_s
        while self._streams:
            stream = random.choice(tuple(self._streams))
            await asyncio.sleep(max(0.0, end - loop.time()) / len(self._streams))
            stream.leave()
            self._streams.discard(stream)


class EventStream:
    """An ASGI application that writes one source to one client, until it ends, leaves or is gone."""

    def __init__(
        self,
        source: Source,
        *,
        ping_s: float,
        open_streams: OpenStreams,
        headers: Iterable[tuple[bytes, bytes]] = (),
        verdict: "asyncio.Future[None] | None" = None,
        prime_s: float = 0,
        end: bytes = b"",
        farewell: Callable[[], bytes] = bytes,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.source = source
        self.headers = [*HEADERS, *headers]
        self.verdict = verdict
        """While it is open, at most `prime_s`, nothing is answered: what it raises is a problem document then."""
        self.prime_s = prime_s
        self.end = end
        """Written after the last event."""
        self.farewell = farewell
        """Makes what is written, at the end of a whole event, when this process is leaving."""
        self._on_close = on_close
        self._open_streams = open_streams
        self._ping_s = ping_s
        self._gone = False
        self._leaving = False
        self._ping_due = False
        self._ping_timer: asyncio.TimerHandle | None = None
        self._last_write = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        listener = asyncio.get_running_loop().create_task(self._listen(receive))
        self._open_streams.add(self)
        try:
            refusal = await self._refusal(listener) if self.verdict else None
            if refusal is not None:
                await send_problem(refusal, scope, send)
            elif not self._gone:
                await send({"type": "http.response.start", "status": 200, "headers": self.headers})
                self._arm()
                await self._write(send)
        finally:
            self._open_streams.discard(self)
            if self._ping_timer is not None:
                self._ping_timer.cancel()
            listener.cancel()
            self.source.close()
            self._on_close()

    def leave(self) -> None:
        """Ends the stream at the end of a whole event, as a cut."""
        self._leaving = True
        self.source.wake()

    async def _refusal(self, listener: "asyncio.Task[None]") -> TrilaneError | None:
        verdict = self.verdict
        assert verdict is not None
        if not verdict.done():
            await asyncio.wait((verdict, listener), timeout=self.prime_s, return_when=asyncio.FIRST_COMPLETED)
        error = verdict.exception() if verdict.done() and not verdict.cancelled() else None
        return error if isinstance(error, TrilaneError) else None

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self.source.wake()

    async def _write(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        source, lead = self.source, OK
        while not self._gone:
            if lead:
                data, lead = lead, b""
            elif self._leaving:
                await send({"type": "http.response.body", "body": self.farewell(), "more_body": True})
                return
            elif source.ended:
                await send({"type": "http.response.body", "body": self.end})
                return
            else:
                data = await source.next()
                if not data and self._ping_due:
                    data = PING
            if data:
                self._ping_due = False
                self._last_write = loop.time()
                await send({"type": "http.response.body", "body": data, "more_body": True})

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._last_write = loop.time()
        self._ping_timer = loop.call_later(self._interval(), self._ping)

    def _interval(self) -> float:
        return self._ping_s * random.uniform(0.9, 1.1)

    def _ping(self) -> None:
        """One lazy timer: it looks at when bytes last went out instead of being moved on every write."""
        loop = asyncio.get_running_loop()
        silent = loop.time() - self._last_write
        wait = self._interval()
        if silent >= self._ping_s * 0.9:
            self._ping_due = True
            self.source.wake()
            self._last_write = loop.time()
        else:
            wait = max(0.05, wait - silent)
        self._ping_timer = loop.call_later(wait, self._ping)


async def send_problem(error: TrilaneError, scope: Scope, send: Send) -> None:
    """Answers with the problem document of `error`."""
    status, body, headers = problem(error, scope.get("request_id", ""))
    told = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    told += [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
