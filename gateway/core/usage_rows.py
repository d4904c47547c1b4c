"""Reads the usage rows of a time from the log, without reading what came before.

The rows of one user are in the order in which they were settled, so the first of a time is found by bisection. Clocks
of processes differ, and a log that was away makes rows wait, so it begins SLACK_MS before, and looks at each row.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

from events.log.port import NO_EVENTS, Block, EventLog, Slice
from gateway.core.usage import SETTLED, UsageRow, decode_row
from gateway.errors import BadRequest, LogDamaged

SLACK_MS = 900_000
"""Milliseconds by which the log's time of a row and the row's own may differ."""
NEAR = 500
"""Number of events that are read on rather than bisected."""
SLICE_EVENTS = 250
SLICE_BYTES = 524_288


class Interval(NamedTuple):
    """A time from `since_ms` up to, and without, `until_ms`; both are milliseconds since 1970."""

    since_ms: int
    until_ms: int

    def __contains__(self, at_ms: object) -> bool:
        return isinstance(at_ms, int) and self.since_ms <= at_ms < self.until_ms


class RowReader:
    """Reads the rows of an interval, one topic after another."""

    def __init__(self, log: EventLog, interval: Interval, max_events: int | None = None) -> None:
        """Of all topics together it reads `max_events` at most; None: no limit."""
        self._log = log
        self._interval = interval
        self._max_events = max_events
        self._events = 0
        self.unreadable = 0
        """Number of events, rows or not, that are lost because the log is damaged."""

    async def rows(self, topic: str) -> AsyncIterator[list[UsageRow]]:
        """Yields the rows of a topic that ended in the interval, piece by piece, in the order of the log.

        Raises BadRequest (`usage_range_too_large`) past the limit, and LogError.
        """
        after = await self._start(topic)
        while (part := await self._read(topic, after)).blocks:
            last = part.blocks[-1]
            self._count(last.last - after)
            after = last.last
            yield [row for block in part.blocks for row in self._rows_of(block)]
            if after >= part.head or last.time_ms >= self._interval.until_ms + SLACK_MS:
                return

    def _rows_of(self, block: Block) -> list[UsageRow]:
        if block.name != SETTLED:
            return []
        rows = [decode_row(data, block.time_ms) for data in block.data]
        return [row for row in rows if row.ended_ms in self._interval]

    def _count(self, events: int) -> None:
        self._events += events
        if self._max_events is not None and self._events > self._max_events:
            raise BadRequest(
                f"more than {self._max_events} entries are in this time: ask for a shorter one, or for one user by "
                "`sub`; `trilane usage` has no limit",
                code="usage_range_too_large",
            )

    async def _start(self, topic: str) -> int:
        """Returns an offset, at most a few before the interval, before which no row of it is."""
        state = await self._log.read(topic, NO_EVENTS, max_events=1)
        low, high = state.oldest - 1, state.head
        since_ms = self._interval.since_ms - SLACK_MS
        while high - low > NEAR:
            middle = (low + high) // 2
            try:
                part = await self._log.read(topic, middle, max_events=1)
            except LogDamaged:
                return low
            if part.blocks and part.blocks[0].time_ms < since_ms:
                low = middle
            else:
                high = middle
        return low

    async def _read(self, topic: str, after: int) -> Slice:
        while True:
            try:
                return await self._log.read(topic, after, max_events=SLICE_EVENTS, max_bytes=SLICE_BYTES)
            except LogDamaged:
                head = (await self._log.read(topic, NO_EVENTS, max_events=1)).head
                readable = await self._log.next_readable(topic, after, head)
                self.unreadable += readable - 1 - after
                after = readable - 1
