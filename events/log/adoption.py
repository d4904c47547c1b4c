"""Takes over a slice of another log's topic, on an engine that writes it only if the topic is as it was read."""

from collections.abc import Awaitable, Callable

import msgspec

from events.log.port import NO_EVENTS, Block, EventLog, Slice
from events.log.rules import TopicState, continuation
from gateway.errors import LogConflict

TRIES = 20
"""Times that a slice is tried: another copy may run, and a reply that was lost shows only in what is there."""


class Adoption(msgspec.Struct):
    """What is to be written, and what it relies on."""

    topic: str
    epoch: str
    owner: str
    oldest: int
    """Offset of the oldest event that the topic is to have, if it is made."""
    head: int
    """The head that the topic must have, or `oldest` - 1 where there is none."""
    is_closing: bool
    blocks: list[Block]

    @property
    def sizes(self) -> list[int]:
        """Returns the bytes of each block's events."""
        return [sum(map(len, block.data)) for block in self.blocks]

    @property
    def texts(self) -> list[bytes]:
        """Returns each block's events, one a line."""
        return [b"\n".join(block.data) for block in self.blocks]


async def adopt(log: EventLog, topic: str, part: Slice, write: Callable[[Adoption], Awaitable[bool]]) -> None:
    """Has `write` write what the topic lacks of `part`; it returns False when the topic has changed since.

    Raises LogConflict, LogUnavailable.
    """
    state = TopicState(topic)
    for _ in range(TRIES):
        there = await log.read(topic, NO_EVENTS, max_events=1)
        head = there.head if there.epoch else part.oldest - 1
        state = TopicState(topic, epoch=there.epoch or part.epoch, head=head, closed=there.closed)
        blocks = continuation(part, state)
        is_closing = part.closed and (blocks[-1].last if blocks else head) == part.head
        if there.epoch and not blocks and is_closing <= there.closed:
            return
        if await write(Adoption(topic, part.epoch, part.owner, part.oldest, head, is_closing, blocks)):
            return
    raise LogConflict(topic, None, state.head + 1, closed=state.closed)
