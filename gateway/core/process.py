"""The core that the lanes of one process share: the log, its hub, the open streams, tickets and metrics."""

import asyncio
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from events.log.hub import Hub
from events.log.port import Append, EventLog
from gateway.access.tickets import Tickets
from gateway.core.telemetry import Metrics, Pauses
from gateway.errors import LogUnavailable
from gateway.serving.bodies import Bodies
from gateway.serving.open_streams import OpenStreams
from gateway.serving.wheel import SLOT_S
from gateway.settings import Settings

HEALTH = "health/check"
"""Topic that a check of the log writes to."""
CHECK_S = 0.5
"""Seconds for which the result of a check holds."""
CHECK_TIMEOUT_S = 2.0
"""Seconds after which a log that does not answer counts as one that cannot be used."""
SPARE_DESCRIPTORS = 200
"""File descriptors set aside for all that is not a stream: the log, upstreams, requests."""


def capacity(max_streams: int) -> int:
    """Returns how many streams can be open: `max_streams`, or fewer when the system grants fewer file descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < max_streams + SPARE_DESCRIPTORS and (hard > soft or hard < 0):
        soft = max_streams + SPARE_DESCRIPTORS if hard < 0 else min(hard, max_streams + SPARE_DESCRIPTORS)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max_streams if soft < 0 else max(0, min(max_streams, soft - SPARE_DESCRIPTORS))


class Core:
    """The shared part of one process. A unit makes it, opens it before its lanes and closes it after them."""

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self.settings = settings
        self.log = event_log
        self.hub = Hub(event_log)
        self.streams = OpenStreams(min(SLOT_S, settings.ping_s / 50), capacity(settings.limits.streams))
        self.bodies = Bodies(settings.limits.body_bytes, settings.limits.bodies_bytes)
        self.tickets = Tickets(event_log)
        self.metrics = Metrics()
        self.pauses = Pauses()
        self.metrics.gauge("gc_pause_seconds", "Time spent in full garbage collections", lambda: self.pauses.total_s)
        self.metrics.gauge("gc_pause_max_seconds", "The longest full garbage collection", lambda: self.pauses.longest_s)
        self._health: asyncio.Task[None] | None = None
        """The last check of the log."""
        self._next_check = 0.0
        self.is_ready = False
        """Whether it can serve: it is open, and not draining."""
        self.metrics.gauge("body_bytes", "Bytes of request bodies in memory", lambda: self.bodies.held_bytes)
        self.metrics.gauge("open_streams", "Event streams being read", lambda: len(self.streams))

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        await self.log.open()
        loop = asyncio.get_running_loop()
        self.metrics.gauge("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        try:
            yield
        finally:
            self.is_ready = False
            if self._health is not None:
                self._health.cancel()
            await self.hub.close()
            await self.log.close()

    async def check(self) -> None:
        """Raises LogError when the log cannot be read or written; one look holds for CHECK_S."""
        now = asyncio.get_running_loop().time()
        if self._health is None or (self._health.done() and now >= self._next_check):
            self._next_check = now + CHECK_S
            self._health = asyncio.get_running_loop().create_task(self._check())
        await asyncio.shield(self._health)

    async def _check(self) -> None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self.log.append(Append(topic=HEALTH, data=[b"1"], name="check"))
                await self.log.read(HEALTH, 0, max_events=1)
        except TimeoutError as err:
            raise LogUnavailable(f"the log has not answered within {CHECK_TIMEOUT_S:g} s") from err
