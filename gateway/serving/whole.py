"""Runs the work of an answer that is sent whole, which is only worth doing while its client waits, and takes it.

It is done for a caller, so it ends with that caller's credential, as a stream does (`gateway.serving.open_streams`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import structlog

from gateway.errors import TrilaneError, Unauthorized

PIECE_BYTES = 262_144
"""Bytes that are handed to the connection at once."""
PATIENCE_S = 60.0
"""Seconds for which the client of any answer may be slow."""
MIN_BYTES_PER_S = 65_536
"""Pace at which a client must take the rest of its answer, which lies in memory until then."""

log = structlog.get_logger("server")


async def send_json(body: bytes, send: Any) -> None:
    """Sends an answer, however long, as the client takes it; one that takes too long does not get the end of it."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        async with asyncio.timeout(PATIENCE_S + len(body) / MIN_BYTES_PER_S):
            for start in range(0, len(body) or 1, PIECE_BYTES):
                end = start + PIECE_BYTES
                message = {"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)}
                await send(message)
    except TimeoutError:
        log.warning("an answer was cut", code="slow_reader", size=len(body))


class CallerWatch:
    """A watch on one caller's credential, while work is done for them."""

    def __init__(self, key_id: str, remaining_s: float) -> None:
        self.key_id = key_id
        self.deadline = asyncio.timeout(None if remaining_s == inf else remaining_s)
        self._is_over = False

    def end_work(self) -> None:
        """Cancels the work, soon, unless its answer has begun."""
        if not self._is_over and not self.deadline.expired():
            self.deadline.reschedule(asyncio.get_running_loop().time())

    def ending_with(self, send: Any) -> Any:
        """Returns a `send` whose first message ends this watch: an answer that has begun is sent to its end."""

        async def send_in_time(message: Any) -> None:
            if self.deadline.expired():
                await asyncio.get_running_loop().create_future()  # the work is about to be cancelled
            if not self._is_over:
                self._is_over = True
                self.deadline.reschedule(None)
            await send(message)

        return send_in_time


class Callers:
    """The callers for whom this process works at answers that have not begun."""

    def __init__(self, revocation: Callable[[], TrilaneError]) -> None:
        """`revocation` returns the error that ends the work of a key that was revoked."""
        self._revocation = revocation
        self._revoked: set[str] = set()
        self._watches: set[CallerWatch] = set()

    @asynccontextmanager
    async def while_valid(self, key_id: str, remaining_s: float) -> AsyncGenerator[CallerWatch]:
        """Cancels the work inside it when its caller's credential ends, and raises Unauthorized then.

        `key_id`: the id of the stored key that they signed in with, or empty; `remaining_s`: the seconds until their
        credential expires, or infinity.
        """
        watch = CallerWatch(key_id, remaining_s)
        self._watches.add(watch)
        try:
            async with watch.deadline:
                if key_id in self._revoked:  # since they signed in
                    watch.end_work()
                yield watch
        except TimeoutError as err:
            if not watch.deadline.expired():
                raise
            if key_id in self._revoked:
                raise self._revocation() from err
            raise Unauthorized("the token of this request has expired", code="token_expired") from err
        finally:
            self._watches.discard(watch)

    def revoke(self, key_id: str) -> None:
        """Ends all work for the callers that signed in with this key, now and for good."""
        self._revoked.add(key_id)
        for watch in [watch for watch in self._watches if watch.key_id == key_id]:
            watch.end_work()


async def while_connected(receive: Any, work: Coroutine[Any, Any, None]) -> None:
    """Runs `work`, and cancels it when the client leaves; either way it has cleaned up when this returns."""
    loop = asyncio.get_running_loop()
    task, departure = loop.create_task(work), loop.create_task(_departure(receive))
    try:
        await asyncio.wait((task, departure), return_when=asyncio.FIRST_COMPLETED)
    finally:
        departure.cancel()
        task.cancel()
        await asyncio.wait((task,))
    try:
        if not task.cancelled():
            task.result()
    finally:
        del task  # it holds its error, whose frames hold it


async def _departure(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
