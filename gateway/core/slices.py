"""Does long work on the event loop in slices, between which everybody else has a turn."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

SLICE_S = 0.005
"""Seconds of work after which others have their turn. A single step is never divided."""
T = TypeVar("T")


async def each(items: Iterable[T], do: Callable[[T], object]) -> None:
    """Calls `do` with each item, in order."""
    end = time.perf_counter() + SLICE_S
    for item in items:
        do(item)
        if time.perf_counter() > end:
            await asyncio.sleep(0)
            end = time.perf_counter() + SLICE_S
