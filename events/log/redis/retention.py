"""Forgets what the retention says in the Redis log: topics over a limit at each append, all topics in a sweep.

At an append, the script trims a topic that is over a limit by more than a sixteenth. A sweep looks at every topic,
trims to the block, and deletes topics that are old as a whole. One process sweeps at a time: it holds a key in Redis
that others find taken, and that expires when it dies. A sweep is spread over time, so that Redis spends at most a few
percent on it, and topics that are kept for ever are passed over by their names alone.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import msgspec
import structlog

from events.log.port import Commit, Retention
from events.log.redis.address import RedisAddress
from events.log.redis.reader import RedisPool
from events.log.redis.scripts import SWEEP
from events.log.rules import report_end
from gateway.errors import LogUnavailable

log = structlog.get_logger("log")

SWEEP_S = 60.0
"""Seconds between two sweeps."""
PORTION = 200
"""Topics looked at by one script."""
PAUSE_S = 0.02
"""Seconds between two portions of a sweep."""
LOCK_MS = 30_000
"""Milliseconds after which the place of a sweeper that died is free."""

_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(tuple[bool, list[tuple[str, str]]]).decode


class RedisRetainer:
    """Sweeps the log. `name` is that of this process."""

    def __init__(
        self,
        address: RedisAddress,
        name: str,
        *,
        pool: RedisPool,
        retention: Callable[[str], Retention],
        clock: Callable[[], float] | None,
        announce: Callable[[Sequence[Commit]], None],
    ) -> None:
        self._prefix = address.prefix
        self._name = name
        self._pool = pool
        self._retention = retention
        self._clock = clock
        self._announce = announce
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-sweeper")
        self._task.add_done_callback(report_end)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S * random.uniform(0.5, 1))
            try:
                if await self._take_turn():
                    await self.sweep(pause_s=PAUSE_S)
            except LogUnavailable as err:
                log.warning("the retention cannot be applied", reason=err.detail)

    async def _take_turn(self) -> bool:
        """Returns whether this process is the one that sweeps."""
        key = f"{self._prefix}sweeper"
        holder = await self._pool.ask("GET", key)
        if holder is not None and holder != self._name.encode():
            return False
        how = ("XX",) if holder is not None else ("NX",)
        return await self._pool.ask("SET", key, self._name, *how, "PX", LOCK_MS) is not None

    async def sweep(self, pause_s: float = 0) -> None:
        """Applies the retention to every topic, now and to the block."""
        last: bytes | None = None
        while True:
            start = "-" if last is None else b"(" + last
            names = await self._pool.ask("ZRANGEBYLEX", f"{self._prefix}n", start, "+", "LIMIT", 0, PORTION)
            if not names:
                return
            last = names[-1]
            await self._sweep_topics([name.decode() for name in names])
            if pause_s:
                await asyncio.sleep(pause_s)
                if not await self._take_turn():
                    return

    async def _sweep_topics(self, topics: Sequence[str]) -> None:
        items = [(topic, *limits_of(self._retention(topic))) for topic in topics]
        items = [item for item in items if any(limit is not False for limit in item[1:])]
        has_more = bool(items)
        while has_more:
            now_ms = int(self._clock() * 1000) if self._clock is not None else 0
            has_more, dropped = _unpack(await self._pool.run(SWEEP, self._name, now_ms, _pack(items)))
            if dropped:
                self._announce([Commit(topic=topic, epoch=epoch, block=None) for topic, epoch in dropped])


def limits_of(retention: Retention) -> tuple[float | bool, ...]:
    """Returns the limits as the script wants them: events, bytes, ages of events, closed and idle topics in ms."""
    limits = (retention.events, retention.max_bytes, retention.age_s, retention.closed_age_s, retention.idle_age_s)
    events, max_bytes, age_s, closed_age_s, idle_age_s = (False if limit is None else limit for limit in limits)
    return (
        events,
        max_bytes,
        age_s is not False and int(age_s * 1000),
        closed_age_s is not False and closed_age_s * 1000,
        idle_age_s is not False and idle_age_s * 1000,
    )
