"""What the lanes of one process stand on together: the log, its hub, the open streams, the figures."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from events.hub import Hub
from events.log import EventLog
from gateway.open_streams import OpenStreams
from gateway.settings import Settings
from gateway.telemetry import Metrics
from gateway.tickets import Tickets
from gateway.wheel import SLOT_S


class Core:
    """Made by a unit, opened before its lanes and closed after them."""

    def __init__(self, event_log: EventLog, settings: Settings) -> None:
        self.settings = settings
        self.log = event_log
        self.hub = Hub(event_log)
        self.streams = OpenStreams(min(SLOT_S, settings.ping_s / 50))
        self.tickets = Tickets(event_log)
        self.metrics = Metrics()
        self.ready = False
        """It can serve: opened, and not draining."""
        self.metrics.gauge("open_streams", "Event streams being read", lambda: len(self.streams))

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        await self.log.open()
        loop = asyncio.get_running_loop()
        self.metrics.gauge("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        try:
            yield
        finally:
            self.ready = False
            await self.hub.close()
            await self.log.close()

    async def check(self) -> None:
        """Raises LogError when the log cannot be read."""
        await self.log.topics("health/", limit=1)
