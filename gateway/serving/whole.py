"""Runs the work of an answer that is sent whole, which is only worth doing while its client waits, and takes it."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

PIECE_BYTES = 262_144
"""Bytes that are handed to the connection at once."""
PATIENCE_S = 60.0
"""Seconds for which the client of any answer may be slow."""
MIN_BYTES_PER_S = 65_536
"""Pace at which a client must take the rest of its answer, which lies in memory until then."""


async def send_json(body: bytes, send: Any) -> None:
    """Sends an answer, however long, as the client takes it; one that takes too long does not get the end of it."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S + len(body) / MIN_BYTES_PER_S):
            for start in range(0, len(body) or 1, PIECE_BYTES):
                end = start + PIECE_BYTES
                message = {"type": "http.response.body", "body": body[start:end], "more_body": end < len(body)}
                await send(message)


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
    if not task.cancelled():
        task.result()


async def _departure(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
