"""Reading a topic slice by slice, up to its head."""

from collections.abc import AsyncIterator

from events.log.port import EventLog, Slice


async def read_to_head(log: EventLog, topic: str, after: int = 0) -> AsyncIterator[Slice]:
    """Slices of what `topic` holds strictly after offset `after`, up to the head that the last of them tells.

    There is always at least one slice, so that its epoch, owner and end are known even where nothing is to be read.
    """
    while True:
        part = await log.read(topic, after)
        yield part
        if not part.blocks or part.blocks[-1].last >= part.head:
            return
        after = part.blocks[-1].last
