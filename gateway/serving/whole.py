"""An answer that is sent whole, by work that is only worth doing while its client waits."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def unless_gone(receive: Any, work: Coroutine[Any, Any, None]) -> None:
    """Does the work, and cancels it when the client leaves; either way it has cleaned up when this returns."""
    loop = asyncio.get_running_loop()
    working, leaving = loop.create_task(work), loop.create_task(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait((working,))
    if not working.cancelled():
        working.result()


async def _gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
