"""The chat lane's parts, opened and closed together: upstreams, runs, chats."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gateway.chat.chats import Chats
from gateway.chat.runs import Runs
from gateway.chat.upstreams.upstream import Upstreams
from gateway.core.process import Core


class ChatLane:
    """What the routes of the chat lane work with."""

    def __init__(self, core: Core, upstreams: Upstreams) -> None:
        self.settings = core.settings
        self.hub = core.hub
        self.streams = core.streams
        self.upstreams = upstreams
        self.runs = Runs(core.log, core.hub, upstreams, core.settings, core.metrics)
        self.chats = Chats(core.log, core.hub, self.runs, core.settings.limits.messages)
        core.metrics.gauge("open_runs", "Runs being written", lambda: len(self.runs))

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        self.runs.start_sweeping()
        try:
            yield
        finally:
            await self.runs.close()
            await self.upstreams.aclose()

    async def drain(self) -> None:
        """Takes no new run, and returns when every run of this process has ended."""
        await self.runs.drain()
