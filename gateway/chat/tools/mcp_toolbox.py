"""The toolbox of all servers that the operator's settings name; an empty one when they name none.

A process without `[[mcp]]` never imports the package `mcp`, which takes a second and 50 MB.
"""

import asyncio
import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import structlog
from msgspec import Raw

from events.log.port import EventLog
from gateway.chat.tools.offer import fitting_name
from gateway.chat.tools.sign_ins import BegunSignIn, SignInAnswer, SignIns
from gateway.chat.tools.toolbox import NoTools, OnProgress, Tool, Toolbox, ToolResult
from gateway.errors import ConfigurationError, ToolUnreachable
from gateway.settings import Settings
from gateway.tool_settings import SIGN_IN, McpSettings

if TYPE_CHECKING:
    from gateway.chat.tools.mcp_session import SignWay
    from gateway.chat.tools.server import ToolServer
    from gateway.chat.tools.user_servers import UserServers

CLOSE_S = 8.0
"""Seconds in which all servers are let go of; a process that ignores its end takes half of them."""
KNOWN_S = 10.0
"""Seconds after the start in which the first runs wait for servers that have neither answered nor failed."""
INSTALL = "pip install 'trilane[mcp]', or `make install`"

log = structlog.get_logger("tools")


def open_toolbox(settings: Settings, event_log: EventLog | None = None) -> Toolbox:
    """Returns the toolbox of these settings, which is not started yet; who is signed in is kept in `event_log`.

    Raises ConfigurationError when it needs a package that is not installed, a proxy or certificates of no use.
    """
    if not settings.tools.mcp:
        return NoTools()
    return McpToolbox(*tool_servers(settings, event_log))


def tool_servers(settings: Settings, event_log: EventLog | None = None) -> "tuple[list[ToolServer], list[UserServers]]":
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
    network, max_bytes = settings.network, settings.limits.tool_bytes

    def server_of(server: McpSettings, sign_ins: SignIns | None, sub: str) -> ToolServer:
        sign = signing(server, sign_ins, sub)
        return ToolServer(server, partial(open_session, server, network, max_bytes, sign))

    def of_users(server: McpSettings) -> UserServers:
        sign_ins = None
        if server.auth == "oauth" and event_log is not None:
            sign_ins = open_sign_ins(server, settings, event_log)
        return UserServers(server, partial(server_of, server, sign_ins), sign_ins)

    mcp = settings.tools.mcp
    check_sign_ins(settings)
    return (
        [server_of(server, None, "") for server in mcp if server.session == "shared"],
        [of_users(server) for server in mcp if server.session == "user"],
    )


def check_sign_ins(settings: Settings) -> None:
    """Raises ConfigurationError where users are to sign in to a server, and what that needs is not set."""
    server = next((server for server in settings.tools.mcp if server.auth == "oauth"), None)
    if server is None:
        return
    place = f'[[mcp]] {server.name!r} has `auth = "oauth"`, which needs'
    if not settings.public_url:
        raise ConfigurationError(f"{place} TRILANE_PUBLIC_URL: browsers come back to this gateway there")
    is_stored = settings.log_url != "memory:"
    if is_stored and not (settings.encryption_key and settings.encryption_key[0].secret):
        raise ConfigurationError(f"{place} TRILANE_ENCRYPTION_KEY: its users' tokens are kept in the log")


def open_sign_ins(server: McpSettings, settings: Settings, event_log: EventLog) -> SignIns:
    """Returns the sign-ins to a server, kept in the log."""
    from gateway.chat.tools import oauth
    from gateway.chat.tools.http_gate import way_to

    sign_ins = SignIns(server, settings.public_url, event_log)

    async def begin_at(sub: str) -> BegunSignIn | None:
        return await oauth.begin(way_to(server.url, settings.network), sign_ins, sub)

    async def exchange(sub: str, begun: BegunSignIn, answer: SignInAnswer) -> None:
        await oauth.exchange(way_to(server.url, settings.network), sign_ins, sub, begun, answer)

    sign_ins.begin_at, sign_ins.exchange = begin_at, exchange
    return sign_ins


def signing(server: McpSettings, sign_ins: SignIns | None, sub: str) -> "SignWay":
    """Returns what signs the requests of one session: those of a user, of the gateway itself, or none."""
    from gateway.chat.tools.mcp_session import unsigned

    if not server.auth:
        return unsigned
    from gateway.chat.tools import oauth

    if sign_ins is not None:
        return lambda way: oauth.SignedWay(way, oauth.UserClient(sign_ins, sub))
    if server.auth == "client-credentials":
        return lambda way: oauth.SignedWay(way, oauth.gateways_client(server))
    return unsigned


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
        self._places |= {
            fitting_name(server.settings.name, SIGN_IN): (server, SIGN_IN)
            for server in of_users
            if server.sign_ins is not None
        }
        self.sign_ins: Mapping[str, SignIns] = {
            server.settings.name: server.sign_ins for server in of_users if server.sign_ins is not None
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
