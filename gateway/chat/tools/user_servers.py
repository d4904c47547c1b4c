"""Keeps a session of its own with one server of tools for each user that has a run.

A session is opened when its user's first run wants tools, and ended once the user has called none for IDLE_S, or when
it is the one that was used longest ago and another user's takes its place. One in which a call is made is never ended.
A user who has not signed in to a server that wants that has no session, and is offered one tool, which asks for it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Raw

from gateway.chat.tools.offer import fitting_name
from gateway.chat.tools.server import ToolServer
from gateway.chat.tools.sign_ins import SignIns
from gateway.chat.tools.toolbox import OnProgress, Tool, ToolResult, tool_digest
from gateway.errors import SignInRequired, ToolUnreachable
from gateway.tool_settings import SIGN_IN, McpSettings

MAX_USERS = 100
"""Maximum users who have a session with one server, in one process."""
IDLE_S = 600.0
LOOK_S = 30.0
"""Seconds between two looks for sessions that nobody uses."""
KNOWN_S = 10.0
"""Seconds after the opening of a session in which its user's runs wait for what it offers."""

NO_ARGUMENTS = Raw(b'{"type":"object","properties":{}}')

MakeServer = Callable[[str], ToolServer]
"""A function that returns the server as one user sees it, which does not run yet."""


def sign_in_tool(settings: McpSettings, address: str, *, is_told: bool = True) -> Tool:
    """Returns the tool by which a model has its user sign in."""
    name, offered = fitting_name(settings.name, SIGN_IN), [n for n, t in settings.tools.items() if t.approve != "deny"]
    return Tool(
        name=name,
        description=f"Has the user sign in to {settings.name}, which then offers {', '.join(offered)}. Call it when "
        "the user wants any of that.",
        parameters=NO_ARGUMENTS,
        approve="auto",
        effect="read",
        sign_in=address,
        is_told=is_told,
        digest=tool_digest(name, "", NO_ARGUMENTS),
    )


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

    def __init__(self, settings: McpSettings, make: MakeServer, sign_ins: SignIns | None = None) -> None:
        """`sign_ins`: those of a server that each user signs in to."""
        self.settings = settings
        self.make = make
        self.sign_ins = sign_ins
        if sign_ins is not None:
            sign_ins.on_change = self.forget
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
        if self.sign_ins is not None and not await self.sign_ins.is_signed_in(sub):
            self.forget(sub)
            return
        failed = self._sessions.get(sub)
        if self.sign_ins is not None and failed is not None and failed.server.failure and not failed.in_use:
            self.forget(sub)  # it may have been signed in to meanwhile
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
        tools = list(session.server.tools.values()) if session is not None else []
        if self.sign_ins is None:
            return tools
        address = self.sign_ins.address
        tools = [msgspec.structs.replace(tool, sign_in=address) for tool in tools]
        return [*tools, sign_in_tool(self.settings, address, is_told=session is None)]

    async def call(
        self, sub: str, name: str, tool: Tool, arguments: Raw, key: str, on_progress: OnProgress
    ) -> ToolResult:
        if self.sign_ins is not None:
            return await self._call_signed(self.sign_ins, sub, name, tool, arguments, key, on_progress)
        return await self._call(sub, name, tool, arguments, key, on_progress)

    async def _call_signed(
        self,
        sign_ins: SignIns,
        sub: str,
        name: str,
        tool: Tool,
        arguments: Raw,
        key: str,
        on_progress: OnProgress,
    ) -> ToolResult:
        if not await sign_ins.is_signed_in(sub):
            raise SignInRequired(f"{self.settings.name!r}: its user has not signed in")
        if name == SIGN_IN:
            await self.known(sub)
            names = [one.name for one in self.offered(sub) if one.name != tool.name]
            return ToolResult(output=Raw(msgspec.json.encode({"signedIn": True, "tools": names})))
        try:
            return await self._call(sub, name, tool, arguments, key, on_progress)
        except ToolUnreachable as err:
            if await sign_ins.is_signed_in(sub):
                raise
            raise SignInRequired(f"{self.settings.name!r}: its user is signed in no more") from err

    async def _call(
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
