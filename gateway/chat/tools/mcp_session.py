"""A session with one server of tools: with `oauth`, the only file that knows the package `mcp`.

A session lives in one task, which `open_session` is entered and left in, because the package's task groups do; calls
come from any task. The package's own words are not logged: they quote messages.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, cast

import anyio
import httpx2
import mcp_types as types
import msgspec
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.shared.message import SessionMessage
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from msgspec import Raw
from pydantic import TypeAdapter, ValidationError

from gateway.chat.tools.attempt import ATTEMPT, Attempt, Hearing
from gateway.chat.tools.http_gate import http_client, way_to
from gateway.chat.tools.kept_process import KeptProcess
from gateway.chat.tools.lines import SIZE_META
from gateway.chat.tools.offer import DescribedTool
from gateway.chat.tools.output import ProgressPace, tool_result
from gateway.chat.tools.toolbox import OnProgress, ToolResult
from gateway.errors import ToolError, ToolUnreachable
from gateway.tool_settings import McpSettings
from gateway.upstream_settings import Network

KEY_META = "dev.trilane/idempotency-key"
MAX_PAGES = 20
"""Pages of a list of tools that are read."""
LISTEN_AGAIN_S = 2.0
"""Seconds after which a server's news are asked for again, when they have ended."""
END_S = 1.0
"""Seconds in which the end of a process is known, once it has closed its stdout."""
MAX_WORDS = 500

for _name in ("mcp", "client"):  # the two names that the package logs under
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

_RESULT: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


SignWay = Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]


def unsigned(way: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    """Returns the way as it is: its requests need no sign-in, or have a key among their headers."""
    return way


class McpSession:
    """An open session: what its server offers now, and calls."""

    def __init__(self, hearing: Hearing, max_output_bytes: int) -> None:
        self._hearing = hearing
        self._max_output_bytes = max_output_bytes
        self.client: Client
        """The package's client, from when the session is open."""
        self.stirred = asyncio.Event()
        """Set when there may be other tools than before, and when the session is lost."""
        self.is_lost = False
        """Whether it is of no more use, so that another one has to be opened."""

    @property
    def dropped(self) -> int:
        """Returns how many of its messages were not heard."""
        return self._hearing.dropped

    def lose(self) -> None:
        self.is_lost = True
        self.stirred.set()

    async def tools(self) -> list[DescribedTool]:
        """Returns all its tools. Raises ToolUnreachable when it does not answer, ToolError when it does not say."""
        described: list[DescribedTool] = []
        cursor: str | None = None
        try:
            for _ in range(MAX_PAGES):
                page = await self.client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                described += [_described(tool) for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
        except (MCPError, ValidationError) as err:
            is_cut = isinstance(err, MCPError) and err.code == types.CONNECTION_CLOSED
            raise (ToolUnreachable if is_cut else ToolError)(f"its tools are not known: {_words(err)}") from err
        return described

    async def call(self, name: str, arguments: Raw, attempt: Attempt, on_progress: OnProgress) -> ToolResult:
        """Calls the tool that the server names so. Raises ToolUnreachable where no request has left, else ToolError."""
        pace = ProgressPace(on_progress)
        token = ATTEMPT.set(attempt)
        try:
            result = await self._answer(name, msgspec.json.decode(arguments), attempt.key, pace)
        except MCPError as err:
            return self._failed(err, attempt)
        except ValidationError as err:
            raise ToolError("it answered with what is no result of a tool") from err
        finally:
            ATTEMPT.reset(token)
            pace.close()
        if isinstance(result, types.InputRequiredResult):
            return _refusal("it wants to ask the user or a model, which is not supported here")
        return tool_result(
            result.structured_content if "structured_content" in result.model_fields_set else msgspec.UNSET,
            [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content],
            is_error=result.is_error,
            max_bytes=self._max_output_bytes,
            size=(result.meta or {}).get(SIZE_META),
        )

    async def _answer(
        self, name: str, arguments: Any, key: str, pace: ProgressPace
    ) -> types.CallToolResult | types.InputRequiredResult:
        """Sends the request; once more after a look at the list, when the server wants headers that the list names."""

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            pace.tell(progress, total, message)

        meta: Any = {KEY_META: key}  # the package's type allows further names only to readers of a newer typing
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments, _meta=meta))
        try:
            return await self.client.session.send_request(request, _RESULT, progress_callback=tell)
        except MCPError as err:
            if err.code != types.HEADER_MISMATCH:
                raise
            await self.client.session.list_tools()
            return await self.client.session.send_request(request, _RESULT, progress_callback=tell)

    def _failed(self, err: MCPError, attempt: Attempt) -> ToolResult:
        """Returns an error that the server has answered with; raises where it is the connection's."""
        is_cut = err.code == types.CONNECTION_CLOSED
        if not is_cut and not attempt.reason:
            return _refusal(_words(err))
        if attempt.is_session_lost:
            self.lose()
        self.stirred.set()
        if not attempt.is_sent:
            raise ToolUnreachable(attempt.reason or "its connection is closed") from err
        raise ToolError(attempt.reason or "its connection was cut before it answered") from err


@asynccontextmanager
async def open_session(
    settings: McpSettings, network: Network, max_output_bytes: int, sign: SignWay = unsigned
) -> AsyncGenerator[McpSession]:
    """Opens a session, to be left in the same task. Raises ToolUnreachable when there is none to be had.

    `sign` is called with the way to a server, and returns the one that signs its requests.
    """
    hearing = Hearing(max_output_bytes)
    session = McpSession(hearing, max_output_bytes)

    async def hear(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            session.stirred.set()

    async with AsyncExitStack() as stack:
        child: KeptProcess | None = None
        if settings.url:
            client = await stack.enter_async_context(
                http_client(sign(way_to(settings.url, network)), settings.headers, hearing)
            )
            streams = streamable_http_client(settings.url, http_client=client, max_sse_event_size=2 * hearing.max_bytes)
        else:
            child = await _started(settings)
            stack.push_async_callback(child.stop)
            streams = _child_streams(child, session, hearing)
        session.client = Client(
            streams,
            message_handler=hear,
            client_info=types.Implementation(name="trilane", version="1"),
            cache=None,
        )
        try:
            await stack.enter_async_context(session.client)
        except (MCPError, RuntimeError, ValidationError, ExceptionGroup) as err:
            raise ToolUnreachable(await _end_of(child) or _words(cause_of(err))) from err
        if session.client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(_follow, session)
        yield session
        if child is not None and (end := await _end_of(child)):
            raise ToolUnreachable(end)


async def _follow(session: McpSession) -> None:
    """Hears of other tools from a server that tells those alone who ask for its news."""
    is_again = False
    while True:
        try:
            async with session.client.listen(tools_list_changed=True) as news:
                if not news.honored.tools_list_changed:
                    return
                if is_again:
                    session.stirred.set()
                is_again = True
                async for _ in news:
                    session.stirred.set()
        except SubscriptionLost:
            session.stirred.set()
        except MCPError as err:
            if err.code != types.CONNECTION_CLOSED:
                return  # it has no news
            session.stirred.set()
        await asyncio.sleep(LISTEN_AGAIN_S)


# A server that speaks stdio


async def _started(settings: McpSettings) -> KeptProcess:
    try:
        return await KeptProcess.start(settings.name, settings.command, settings.env)
    except (OSError, ValueError) as err:
        raise ToolUnreachable(f"its process cannot be started: {err}") from err


async def _end_of(child: KeptProcess | None) -> str:
    """Returns how a process has ended; nothing of one that runs."""
    try:
        async with asyncio.timeout(END_S):
            return await child.end() if child is not None else ""
    except TimeoutError:
        return ""


@asynccontextmanager
async def _child_streams(child: KeptProcess, session: McpSession, hearing: Hearing) -> AsyncGenerator[Any]:
    """Yields the streams of messages that the package reads from and writes to."""
    heard, messages = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def hear() -> None:
        loop = asyncio.get_running_loop()
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the session was left
            async with heard, aclosing(child.lines(hearing.max_bytes, hearing.head_bytes)) as lines:
                async for line in lines:
                    message = hearing.heard(line, loop.time())
                    parsed = _parsed(message) if message is not None else None
                    if parsed is not None:
                        await heard.send(parsed)
        session.lose()

    async with anyio.create_task_group() as group, messages:
        group.start_soon(hear)
        yield messages, _ChildWriter(child, session)
        group.cancel_scope.cancel()


def _parsed(message: bytes) -> SessionMessage | None:
    try:
        return SessionMessage(types.jsonrpc_message_adapter.validate_json(message, by_name=False))
    except ValidationError:
        return None


class _ChildWriter:
    """The stream that the package writes messages to, in the task of whoever sends one."""

    def __init__(self, child: KeptProcess, session: McpSession) -> None:
        self._child = child
        self._session = session

    async def send(self, item: SessionMessage, /) -> None:
        attempt = ATTEMPT.get()
        line = item.message.model_dump_json(by_alias=True, exclude_unset=True).encode()
        if attempt is not None and isinstance(item.message, types.JSONRPCRequest):
            attempt.is_sent = self._child.is_open
        try:
            await self._child.write(line)
        except BrokenPipeError as err:
            self._session.lose()
            raise anyio.BrokenResourceError from err

    async def aclose(self) -> None:
        """Does nothing: the process's stdin is closed when the process is stopped."""

    async def __aenter__(self) -> "_ChildWriter":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# What the package's types say


def _described(tool: types.Tool) -> DescribedTool:
    hints = tool.annotations or types.ToolAnnotations()
    return DescribedTool(
        name=tool.name,
        description=tool.description or tool.title or "",
        parameters=tool.input_schema,
        read_only=hints.read_only_hint,
        destructive=hints.destructive_hint,
        idempotent=hints.idempotent_hint,
    )


def _refusal(words: str) -> ToolResult:
    return ToolResult(output=Raw(msgspec.json.encode(words)), error_text=words)


def _words(err: BaseException) -> str:
    words = err.error.message if isinstance(err, MCPError) else type(err).__name__
    return words[:MAX_WORDS] or "it says no more"


def cause_of(err: BaseException) -> BaseException:
    """Returns the one error in groups of one, which task groups make of it."""
    inner = cast("Sequence[BaseException]", getattr(err, "exceptions", ()))
    return cause_of(inner[0]) if len(inner) == 1 else err
