"""Keeps a session of its own with one server of tools for each user that has a run.

A session is opened when its user's first run wants tools, and ended once the user has called none for IDLE_S, or when
it is the one that was used longest ago and another user's takes its place. One in which a call is made is never ended.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from msgspec import Raw

from gateway.chat.tools.server import ToolServer
from gateway.chat.tools.toolbox import OnProgress, Tool, ToolResult
from gateway.errors import ToolUnreachable
from gateway.tool_settings import McpSettings

MAX_USERS = 100
"""Maximum users who have a session with one server, in one process."""
IDLE_S = 600.0
LOOK_S = 30.0
"""Seconds between two looks for sessions that nobody uses."""
KNOWN_S = 10.0
"""Seconds after the opening of a session in which its user's runs wait for what it offers."""

MakeServer = Callable[[str], ToolServer]
"""A function that returns the server as one user sees it, which does not run yet."""


class UserSession:
    """The server as one user sees it, while it is held."""

    def __init__(self, server: ToolServer) -> None:
        loop = asyncio.get_running_loop()
        self.server = server
        self.task = loop.create_task(server.run(), name=f"tools of {server.settings.name} for one user")
        self.opened_at = self.used_at = loop.time()
        self.in_use = 0
        """Number of those who call, or wait for what is offered."""

    def leave(self) -> None:
        self.in_use -= 1
        self.used_at = asyncio.get_running_loop().time()


class UserServers:
    """All sessions with one server."""

    def __init__(self, settings: McpSettings, make: MakeServer) -> None:
        self.settings = settings
        self.make = make
        self._sessions: OrderedDict[str, UserSession] = OrderedDict()
        """The sessions by user, that which was used longest ago first."""
        self._ending: set[asyncio.Task[None]] = set()
        self._look: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def start(self) -> None:
        self._look = asyncio.get_running_loop().create_task(self._end_idle(), name=f"users of {self.settings.name}")

    async def known(self, sub: str) -> None:
        """Opens a user's session, and returns once that has answered or failed, in bounded time after its opening."""
        try:
            session = self._session(sub)
        except ToolUnreachable:
            return
        session.in_use += 1
        try:
            async with asyncio.timeout_at(session.opened_at + KNOWN_S):
                await session.server.tried.wait()
        except TimeoutError:
            pass  # what it offers is not known, and no run of this user waits any more
        finally:
            session.leave()

    def offered(self, sub: str) -> Sequence[Tool]:
        session = self._sessions.get(sub)
        return list(session.server.tools.values()) if session is not None else ()

    async def call(
        self, sub: str, name: str, tool: Tool, arguments: Raw, key: str, on_progress: OnProgress
    ) -> ToolResult:
        session = self._session(sub)
        session.in_use += 1
        try:
            return await session.server.call(sub, name, tool, arguments, key, on_progress)
        finally:
            session.leave()

    def forget(self, sub: str) -> None:
        """Ends a user's session, so that the next is opened with what is known of the user then."""
        session = self._sessions.pop(sub, None)
        if session is not None:
            self._end(session)

    async def aclose(self) -> None:
        """Ends all sessions, in the time that their servers take."""
        for session in self._sessions.values():
            self._end(session)
        self._sessions.clear()
        if self._look is not None:
            self._look.cancel()
            self._ending.add(self._look)
        if self._ending:
            await asyncio.wait(self._ending)

    def _session(self, sub: str) -> UserSession:
        """Returns a user's session, opened if there is none. Raises ToolUnreachable while all places are in use."""
        session = self._sessions.get(sub)
        if session is None:
            if len(self._sessions) >= MAX_USERS:
                self._make_room()
            session = self._sessions[sub] = UserSession(self.make(sub))
        self._sessions.move_to_end(sub)
        session.used_at = asyncio.get_running_loop().time()
        return session

    def _make_room(self) -> None:
        unused = next((sub for sub, session in self._sessions.items() if not session.in_use), None)
        if unused is None:
            raise ToolUnreachable(f"{self.settings.name!r} is called by {MAX_USERS} users already: try again later")
        self.forget(unused)

    def _end(self, session: UserSession) -> None:
        session.task.cancel()
        self._ending.add(session.task)
        session.task.add_done_callback(self._ending.discard)

    async def _end_idle(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            oldest = asyncio.get_running_loop().time() - IDLE_S
            for sub, session in list(self._sessions.items()):
                if session.used_at < oldest and not session.in_use:
                    self.forget(sub)
