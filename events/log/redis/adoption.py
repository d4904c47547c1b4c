"""Takes over topics of another log as they are: epochs, offsets and times, so that every cursor stays good.

What the topic lacks is decided here, by what a read has shown; the script writes it only if that is still so, and may
be run again when its reply was lost.
"""

from collections.abc import Callable

import msgspec

from events.log.port import NO_EVENTS, Slice
from events.log.redis.reader import RedisPool, RedisReader
from events.log.redis.scripts import ADOPT
from events.log.rules import TopicState, continuation
from gateway.errors import LogConflict

TRIES = 20
"""Number of times that a topic may change under the copy, before it counts as another one."""

_pack = msgspec.msgpack.encode


async def adopt(pool: RedisPool, name: str, topic: str, part: Slice, clock: Callable[[], float] | None) -> None:
    """Writes what a topic lacks of a slice. `name` is that of this process. Raises LogConflict, LogUnavailable."""
    now_ms = int(clock() * 1000) if clock is not None else 0
    reader = RedisReader(pool)
    head = 0
    for _ in range(TRIES):
        here = await reader.read(topic, NO_EVENTS, 1, 1)
        state = TopicState(topic, here.epoch or part.epoch, head=here.head if here.epoch else part.oldest - 1)
        blocks = continuation(part, state)
        head = blocks[-1].last if blocks else state.head
        is_closing = part.closed and head == part.head
        if here.epoch and not blocks and here.closed >= is_closing:
            return
        done: int = await pool.run(
            ADOPT,
            name,
            now_ms,
            topic,
            part.epoch,
            part.owner,
            part.oldest,
            here.head if here.epoch else -1,
            int(is_closing),
            _pack([(block.first, len(block.data), block.time_ms, block.name) for block in blocks]),
            *[b"\n".join(block.data) for block in blocks],
        )
        if done:
            return
    raise LogConflict(topic, part.oldest, head + 1)
