"""The chat lane's parts, opened and closed together: log, hub, upstreams, runs, chats."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from events.hub import Hub
from events.log import EventLog
from gateway.chat.runs import Runs
from gateway.chat.session import Chats
from gateway.chat.upstream import Upstreams
from gateway.open_streams import OpenStreams
from gateway.settings import Settings


class ChatLane:
    """What the routes of the chat lane work with. It is what the server drains."""

    def __init__(self, event_log: EventLog, upstreams: Upstreams, settings: Settings) -> None:
        self.settings = settings
        self.log = event_log
        self.upstreams = upstreams
        self.hub = Hub(event_log)
        self.runs = Runs(event_log, self.hub, upstreams, settings)
        self.chats = Chats(event_log, self.hub, self.runs, settings.limits.messages)
        self.streams = OpenStreams()
        self.ready = False
        self.metrics = self.runs.metrics
        self.metrics.gauge("open_runs", "Runs being written", lambda: len(self.runs))
        self.metrics.gauge("open_streams", "Event streams being read", lambda: len(self.streams))

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        await self.log.open()
        loop = asyncio.get_running_loop()
        self.metrics.gauge("tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks(loop)))
        self.runs.start_sweeping()
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            await self.runs.close()
            await self.upstreams.aclose()
            await self.hub.close()
            await self.log.close()

    def begin(self) -> None:
        self.ready = False

    async def drain(self) -> None:
        await asyncio.gather(self.streams.drain(self.settings.drain_window_s), self.runs.drain())

    async def check(self) -> None:
        """Raises LogError when the log cannot be read."""
        await self.log.topics("health/", limit=1)
