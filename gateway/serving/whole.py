"""Runs the work of an answer that is sent whole, which is only worth doing while its client waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any


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
