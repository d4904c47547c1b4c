"""The core that the lanes of one process share: the log, its hub, the open streams, tickets and metrics."""

import asyncio
import resource
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from events.log.hub import Hub
from events.log.port import EventLog
from gateway.access.tickets import Tickets
from gateway.core.telemetry import Metrics, Pauses
from gateway.serving.bodies import Bodies
from gateway.serving.open_streams import OpenStreams
from gateway.serving.wheel import SLOT_S
from gateway.settings import Settings

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
            await self.hub.close()
            await self.log.close()

    async def check(self) -> None:
        """Raises LogError when the log cannot be read."""
        await self.log.topics("health/", limit=1)
