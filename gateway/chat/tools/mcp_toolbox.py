"""The toolbox of all servers that the operator's settings name; an empty one when they name none.

A process without `[[mcp]]` never imports the package `mcp`, which takes a second and 50 MB.
"""

import asyncio
import importlib.util
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from msgspec import Raw

from gateway.chat.tools.offer import fitting_name
from gateway.chat.tools.toolbox import NoTools, OnProgress, Tool, Toolbox, ToolResult
from gateway.errors import ConfigurationError, ToolUnreachable
from gateway.settings import Settings
from gateway.tool_settings import McpSettings

if TYPE_CHECKING:
    from gateway.chat.tools.server import ToolServer
    from gateway.chat.tools.user_servers import UserServers

CLOSE_S = 8.0
"""Seconds in which all servers are let go of; a process that ignores its end takes half of them."""
KNOWN_S = 10.0
"""Seconds after the start in which the first runs wait for servers that have neither answered nor failed."""
INSTALL = "pip install 'trilane[mcp]', or `make install`"

log = structlog.get_logger("tools")


def open_toolbox(settings: Settings) -> Toolbox:
    """Returns the toolbox of these settings, which is not started yet.

    Raises ConfigurationError when it needs a package that is not installed, a proxy or certificates of no use.
    """
    if not settings.tools.mcp:
        return NoTools()
    return McpToolbox(*tool_servers(settings))


def tool_servers(settings: Settings) -> "tuple[list[ToolServer], list[UserServers]]":
    """Returns the servers of the settings, those with a session for all and those with one for each user.

    None of them runs yet. Raises ConfigurationError.
    """
    if importlib.util.find_spec("mcp") is None:
        raise ConfigurationError(f"[[mcp]] needs the package mcp, which is not installed: {INSTALL}")
    from gateway.chat.tools.http_gate import check_way
    from gateway.chat.tools.mcp_session import open_session
    from gateway.chat.tools.server import ToolServer
    from gateway.chat.tools.user_servers import UserServers

    for server in settings.tools.mcp:
        if server.url:
            check_way(server.url, settings.network)

    def server_of(server: McpSettings, sub: str = "") -> ToolServer:
        return ToolServer(server, partial(open_session, server, settings.network, settings.limits.tool_bytes))

    mcp = settings.tools.mcp
    return (
        [server_of(server) for server in mcp if server.session == "shared"],
        [UserServers(server, partial(server_of, server)) for server in mcp if server.session == "user"],
    )


class McpToolbox:
    """A Toolbox of servers, each session with which lives in a task of its own."""

    def __init__(self, servers: "Sequence[ToolServer]", of_users: "Sequence[UserServers]" = ()) -> None:
        self._servers = servers
        self._of_users = of_users
        self._tasks: list[asyncio.Task[None]] = []
        self._is_known = asyncio.Event()
        self._places = {
            fitting_name(server.settings.name, name): (server, name)
            for server in (*servers, *of_users)
            for name, tool in server.settings.tools.items()
            if tool.approve != "deny"
        }

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(one.run(), name=f"tools of {one.settings.name}") for one in self._servers]
        self._tasks.append(loop.create_task(self._know(), name="first word of tools"))
        for of_users in self._of_users:
            of_users.start()

    async def known(self, sub: str) -> None:
        await self._is_known.wait()
        if self._of_users:
            await asyncio.gather(*[of_users.known(sub) for of_users in self._of_users])

    async def _know(self) -> None:
        try:
            async with asyncio.timeout(KNOWN_S):
                for server in self._servers:
                    await server.tried.wait()
        except TimeoutError:
            late = [server.settings.name for server in self._servers if not server.tried.is_set()]
            log.warning("tools_late", servers=late, waited_s=KNOWN_S)
        finally:
            self._is_known.set()

    def offered(self, sub: str) -> Sequence[Tool]:
        shared = [tool for server in self._servers for tool in server.tools.values()]
        return [*shared, *[tool for of_users in self._of_users for tool in of_users.offered(sub)]]

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        if tool.name not in self._places:
            raise ToolUnreachable(f"tool {tool.name!r} is not in the settings of this gateway")
        server, name = self._places[tool.name]
        return await server.call(sub, name, tool, arguments, key, on_progress)

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        closings = [asyncio.ensure_future(of_users.aclose()) for of_users in self._of_users]
        if self._tasks:
            await asyncio.wait([*self._tasks, *closings], timeout=CLOSE_S)
