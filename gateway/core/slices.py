"""Does long work on the event loop in slices, between which everybody else has a turn."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

SLICE_S = 0.005
"""Seconds of work after which others have their turn. A single step is never divided."""
LARGE_BYTES = 1 << 20
"""Bytes after which one step over a text, such as to encode it, is work enough for a turn."""
T = TypeVar("T")


async def after_bytes(size: int) -> None:
    """Lets others have their turn after a step over `size` bytes, if those are many."""
    if size > LARGE_BYTES:
        await asyncio.sleep(0)


async def each(items: Iterable[T], do: Callable[[T], object]) -> None:
    """Calls `do` with each item, in order."""
    end = time.perf_counter() + SLICE_S
    for item in items:
        do(item)
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + SLICE_S
