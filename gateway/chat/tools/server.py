"""Keeps a session with one server of tools open, in a task of its own, and opens it again with growing pauses.

Whatever a server or the package under the session does ends in this task, and ends nothing else. What is offered is
what the server has said last, while it answers.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog
from msgspec import Raw

from gateway.chat.tools.attempt import Attempt
from gateway.chat.tools.mcp_session import McpSession, cause_of
from gateway.chat.tools.offer import offered_tools
from gateway.chat.tools.toolbox import OnProgress, Tool, ToolResult
from gateway.errors import ToolError, ToolTimeout, ToolUnreachable, TrilaneError
from gateway.tool_settings import McpSettings

START_S = 120.0
"""Seconds that a server has to start and to answer; a program may have to be fetched first."""
LIST_S = 10.0
LOOK_S = 30.0
"""Seconds after which a server is asked for its tools again, though it has not said that they are other ones."""
SETTLE_S = 0.2
"""Seconds in which several changes of a list count as one."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""Seconds after which a session counts as one that worked, so that pauses begin anew."""
CONNECT_WAIT_S = 10.0
"""Seconds that a call waits for a session that is being opened."""

log = structlog.get_logger("tools")
OpenSession = Callable[[], AbstractAsyncContextManager[McpSession]]


class ToolServer:
    """One server as the toolbox sees it. `run` it in a task."""

    def __init__(self, settings: McpSettings, open_one: OpenSession) -> None:
        self.settings = settings
        self.tools: dict[str, Tool] = {}
        """What is offered now, by the names that the server has for them."""
        self.failure = ""
        """Why it does not answer; empty while it does, and before it is known."""
        self.tried = asyncio.Event()
        """Set once it has answered, or has failed to."""
        self._open = open_one
        self._session: McpSession | None = None
        self._has_session = asyncio.Event()
        self._pause_s = FIRST_PAUSE_S

    # Its life

    async def run(self) -> None:
        """Keeps a session until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._live()
                self._fail("its session has ended")
            except TimeoutError:
                self._fail(f"it did not answer within {START_S:g} s of its start")
            except Exception as err:  # an outermost boundary: what the package lets through ends its session alone
                cause = cause_of(err)
                if not isinstance(cause, TrilaneError):
                    log.exception("tool_session_failed", server=self.settings.name)
                self._fail(cause.detail if isinstance(cause, TrilaneError) else f"it fails with {type(cause).__name__}")
            if loop.time() - began > STEADY_S:
                self._pause_s = FIRST_PAUSE_S
            await asyncio.sleep(self._pause_s * random.uniform(0.8, 1.2))
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    async def _live(self) -> None:
        async with asyncio.timeout(START_S) as start, self._open() as session:
            self._offer(session, offered_tools(self.settings, await session.tools()))
            start.reschedule(None)
            self._session = session
            self._has_session.set()
            try:
                await self._attend(session)
            finally:
                self._leave_session()

    async def _attend(self, session: McpSession) -> None:
        """Looks at what the server offers whenever that may be something else, until the session is lost."""
        look_s = LOOK_S
        while not session.is_lost:
            try:
                async with asyncio.timeout(look_s):
                    await session.stirred.wait()
            except TimeoutError:
                pass
            if session.is_lost:
                return
            await asyncio.sleep(SETTLE_S)
            session.stirred.clear()
            try:
                async with asyncio.timeout(LIST_S):
                    described = await session.tools()
            except (ToolUnreachable, TimeoutError) as err:  # calls that are being answered keep their session
                self._fail(err.detail if isinstance(err, ToolUnreachable) else "it does not list its tools in time")
                look_s = FIRST_PAUSE_S if look_s == LOOK_S else min(2 * look_s, LONGEST_PAUSE_S / 2)
            else:
                self._offer(session, offered_tools(self.settings, described))
                look_s = LOOK_S

    @property
    def missing(self) -> list[str]:
        """Returns what is listed in the settings and not offered by the server."""
        return [name for name, one in self.settings.tools.items() if one.approve != "deny" and name not in self.tools]

    @property
    def shown(self) -> str:
        """Returns where it is, without what may be a secret."""
        if self.settings.command:
            return f"`{self.settings.command[0]}`"
        return self.settings.url.partition("?")[0].partition("#")[0].rpartition("@")[2]

    def _offer(self, session: McpSession, tools: dict[str, Tool]) -> None:
        if self.failure or not self.tried.is_set() or self.tools != tools:
            self.tools = tools
            names = [tool.name for tool in tools.values()]
            log.info(
                "tools_offered",
                server=self.settings.name,
                tools=names,
                missing=self.missing,
                dropped=session.dropped,
            )
        self.failure = ""
        self._pause_s = FIRST_PAUSE_S
        self.tried.set()

    def _fail(self, reason: str) -> None:
        if reason != self.failure:
            log.warning("tool_server_fails", server=self.settings.name, reason=reason)
        self.tools = {}
        self.failure = reason
        self.tried.set()

    # Calls

    async def call(
        self, sub: str, name: str, tool: Tool, arguments: Raw, key: str, on_progress: OnProgress
    ) -> ToolResult:
        """Calls the tool that the server names so, within its time, if it still is `tool`. Raises ToolError.

        Whoever `sub` is, the call is made in this session.
        """
        attempt = Attempt(key)
        timeout_s = self.settings.tools[name].timeout_s or self.settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(name, tool, arguments, attempt, on_progress)
        except TimeoutError as err:
            if not attempt.is_sent:
                raise ToolUnreachable(f"{self._shown(name)}: not reached within {timeout_s:g} s") from err
            raise ToolTimeout(f"{self._shown(name)} did not answer within {timeout_s:g} s (`timeout_s`)") from err
        except ToolError as err:
            raise type(err)(f"{self._shown(name)}: {err.detail}") from err

    async def _call(
        self, name: str, tool: Tool, arguments: Raw, attempt: Attempt, on_progress: OnProgress
    ) -> ToolResult:
        session = await self._ready(name, tool)
        try:
            return await session.call(name, arguments, attempt, on_progress)
        except ToolUnreachable:
            if not session.is_lost:
                raise
        attempt.is_session_lost, attempt.reason = False, ""  # a server that has begun anew takes it in a new session
        return await (await self._ready(name, tool)).call(name, arguments, attempt, on_progress)

    async def _ready(self, name: str, tool: Tool) -> McpSession:
        """Returns the session once it is open and while it offers the tool as it was."""
        if self._session is None or self._session.is_lost:
            self._leave_session()
            try:
                async with asyncio.timeout(CONNECT_WAIT_S):
                    await self._has_session.wait()
            except TimeoutError:
                raise ToolUnreachable(self.failure or "it has not answered yet") from None
        now = self.tools.get(name)
        if now is None:
            raise ToolUnreachable(self.failure or "it offers this tool no more")
        if tool.digest and tool.digest != now.digest:
            raise ToolUnreachable("it is no longer the tool that was offered")
        assert self._session is not None
        return self._session

    def _leave_session(self) -> None:
        self._session = None
        self._has_session.clear()
        self.tools = {}

    def _shown(self, name: str) -> str:
        return f"tool {name!r} of {self.settings.name!r}"
