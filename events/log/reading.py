"""Reads a topic to its head in bounded slices, so that no caller repeats the loop and none blocks the event loop."""

import asyncio
from collections.abc import AsyncIterator

from events.log.port import EventLog, Slice


async def read_to_head(log: EventLog, topic: str, after: int = 0) -> AsyncIterator[Slice]:
    """Yields slices of a topic strictly after offset `after`, the last of which reaches the head that it shows.

    At least one slice comes, so that the epoch and the owner of an empty topic are seen, or that there is none (an
    empty epoch). Events appended meanwhile are read too. Each slice names its epoch: one that differs from the first
    says that the topic was deleted meanwhile, and perhaps made anew, so all that was read before it is void.
    Raises LogError.
    """
    while True:
        part = await log.read(topic, after)
        yield part
        if not part.blocks or part.blocks[-1].last >= part.head:
            return
        after = part.blocks[-1].last
        await asyncio.sleep(0)  # an engine that never waits must not starve the loop during a long read
