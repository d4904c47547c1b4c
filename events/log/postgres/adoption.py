"""Takes over topics of another log as they are: epochs, offsets and times, so that every cursor stays good."""

import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

from events.log.port import NO_EVENTS, Block, Retention, Slice
from events.log.postgres.group import DAY_MS, FIRST_DAY, MAKE_BUCKET, bucket_of
from events.log.postgres.session import Rows
from events.log.rules import TopicState, continuation
from gateway.errors import LogConflict

TRIES = 20
"""Number of times that others may write to a topic while it is taken over."""
READ = "SELECT epoch, owner, head, closed FROM trilane.read(%s::text, %s::bigint, 1, 1)"
ADOPT = """
SELECT trilane.adopt(%s::bigint, %s::bigint, %s::text, %s::text, %s::text, %s::bigint, %s::bigint, %s::boolean,
    %s::bigint, %b::bigint[], %b::integer[], %b::bigint[], %b::bigint[], %b::text[], %b::bytea[], %b::integer[])
"""


class Fetch(Protocol):
    """Returns the rows of a statement."""

    def __call__(self, sql: str, *values: object) -> Awaitable[Rows]: ...


class Adopter:
    """Writes what a topic lacks of a slice."""

    def __init__(self, fetch: Fetch, retention: Callable[[str], Retention], now_ms: Callable[[], int]) -> None:
        self._fetch = fetch
        self._retention = retention
        self._now_ms = now_ms
        self._process = secrets.randbits(62) + 1
        self._number = 0

    async def adopt(self, name: str, part: Slice) -> None:
        """Takes over a slice of a topic. Raises LogConflict, LogUnavailable."""
        for _ in range(TRIES):
            ((epoch, owner, head, closed),) = await self._fetch(READ, name, NO_EVENTS)
            if epoch is None:
                state = TopicState(name, part.epoch, part.owner, head=part.oldest - 1)
            else:
                state = TopicState(name, epoch, owner, head=head, closed=closed)
            blocks = continuation(part, state)
            if epoch is not None and not blocks and (state.closed or not part.closed):
                return
            if await self._write(name, part, state.head, blocks):
                return
        raise LogConflict(name, None, part.head + 1)

    async def _write(self, name: str, part: Slice, head: int, blocks: list[Block]) -> bool:
        buckets = [self._bucket(name, block) for block in blocks]
        for bucket in {*buckets}:
            await self._fetch(MAKE_BUCKET, bucket)
        self._number += 1
        ((is_done,),) = await self._fetch(
            ADOPT,
            self._process,
            self._number,
            name,
            part.epoch,
            part.owner,
            part.oldest,
            head,
            part.closed and (blocks[-1].last if blocks else head) == part.head,
            self._now_ms(),
            [block.first for block in blocks],
            [len(block.data) for block in blocks],
            [sum(map(len, block.data)) for block in blocks],
            [block.time_ms for block in blocks],
            [block.name for block in blocks],
            [b"\n".join(block.data) for block in blocks],
            buckets,
        )
        return is_done

    def _bucket(self, name: str, block: Block) -> int:
        """Returns the bucket of a block; one whose day is over goes to the next that ends."""
        bucket = bucket_of(self._retention(name), block.time_ms)
        return bucket if bucket < FIRST_DAY else max(bucket, self._now_ms() // DAY_MS + 1)
