"""Answers agents that speak the Model Context Protocol: what there is to call, and calls.

It keeps nothing between requests, so any process answers any of them: a call is found again by the name that its
session and id, or its key, make (`name_of_call`), and a stream by its cursor.
Departs from the `mcp` package's own server, which holds sessions in memory and writes its streams itself.
"""

import secrets
from collections.abc import Sequence
from importlib.metadata import version

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.access.grants import Principal
from gateway.core.process import Core
from gateway.errors import NotFound, TrilaneError
from gateway.mcp.protocol import (
    ASSUMED_VERSION,
    ENVELOPE,
    HANDSHAKE_VERSIONS,
    STATELESS_VERSIONS,
    Code,
    RequestId,
    RpcError,
    RpcHeaders,
    RpcMessage,
    check_message,
    error,
    name_of_call,
    result,
)
from gateway.mcp.tool import OfferedTool, RpcAnswer, ToolRequest, failed, json_answer
from gateway.serving.bodies import HeldBody
from gateway.serving.refusals import Refusals

STATUS = {Code.PARSE_ERROR: 400, Code.INVALID_REQUEST: 400, Code.METHOD_NOT_FOUND: 404}
CAPABILITIES: dict[str, object] = {"tools": {}}
ACCEPTED = json_answer(b"", 202)


class McpServer:
    """The part of a unit that the route `/mcp` calls."""

    def __init__(self, core: Core, tools: Sequence[OfferedTool]) -> None:
        self.bodies = core.bodies
        self._tools = {tool.name: tool for tool in tools}
        self._refusals: Refusals = core.refusals

    async def answer(self, who: Principal, headers: RpcHeaders, message: RpcMessage, body: HeldBody) -> RpcAnswer:
        """Returns the answer to one message. Raises TrilaneError only for what is not the message's own fault."""
        try:
            check_message(headers, message)
            if isinstance(message.id, UnsetType) or not message.method:
                await self._note(who, headers, message)
                return ACCEPTED
            return await self._request(who, headers, message, message.id, body)
        except RpcError as err:
            status = STATUS.get(err.code, 400) if headers.is_stateless or message.id is UNSET else 200
            return json_answer(error(message.id, err), status)

    def refuse(self, err: TrilaneError, *, is_json: bool) -> RpcAnswer:
        """Returns the answer to a body that is no message, though it may be JSON, or is too large for one."""
        self._refusals.note(err)
        code = Code.INVALID_REQUEST if is_json else Code.PARSE_ERROR
        return json_answer(error(UNSET, RpcError(code, err.detail)), err.status)

    async def resume(self, who: Principal, cursor: str, headers: RpcHeaders) -> RpcAnswer:
        """Returns the stream of a call strictly after a cursor. Raises BadRequest, Gone, NotFound."""
        for tool in self._tools.values():
            if (answer := await tool.resume(who, cursor, headers)) is not None:
                return answer
        raise NotFound("no tool of this unit has streams that can be continued")

    async def _note(self, who: Principal, headers: RpcHeaders, message: RpcMessage) -> None:
        """Obeys a notification; one that means nothing here is taken and passed over, and so is a response."""
        if message.method == "notifications/cancelled" and not headers.is_stateless:
            name = name_of_call(headers, message.params.request_id)
            for tool in self._tools.values() if name else ():
                await tool.stop(who, name)

    async def _request(
        self, who: Principal, headers: RpcHeaders, message: RpcMessage, request_id: RequestId, body: HeldBody
    ) -> RpcAnswer:
        fields: dict[str, object] = {}
        match message.method:
            case "tools/call":
                return await self._call(who, headers, message, request_id, body)
            case "tools/list":
                fields = {"tools": self._listed(who), **_caching(headers)}
            case "ping":
                pass
            case "initialize":
                return self._shake_hands(headers, message, request_id)
            case "server/discover":
                about = {"_meta": {f"{ENVELOPE}serverInfo": _info()}, **_caching(headers)}
                fields = {"supportedVersions": STATELESS_VERSIONS, "capabilities": CAPABILITIES, **about}
                headers = headers._replace(version=STATELESS_VERSIONS[0])
            case _:
                raise RpcError(Code.METHOD_NOT_FOUND, f"there is no method {message.method[:80]!r}")
        return json_answer(result(request_id, headers, fields))

    def _shake_hands(self, headers: RpcHeaders, message: RpcMessage, request_id: RequestId) -> RpcAnswer:
        wanted = message.params.protocol_version
        agreed = wanted if wanted in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[0]
        fields: dict[str, object] = {"protocolVersion": agreed, "capabilities": CAPABILITIES, "serverInfo": _info()}
        session = (b"mcp-session-id", secrets.token_urlsafe(18).encode())
        return json_answer(result(request_id, headers, fields), headers=(session,))

    def _listed(self, who: Principal) -> list[dict[str, object]]:
        return [
            {"name": tool.name, "description": tool.description, "inputSchema": _schema(tool.arguments)}
            for tool in self._tools.values()
            if tool.is_for(who)
        ]

    async def _call(
        self, who: Principal, headers: RpcHeaders, message: RpcMessage, request_id: RequestId, body: HeldBody
    ) -> RpcAnswer:
        params = message.params
        tool = self._tools.get(params.name) if isinstance(params.name, str) else None
        if tool is None or not tool.is_for(who):
            names = ", ".join(str(listed["name"]) for listed in self._listed(who)) or "none"
            raise RpcError(Code.INVALID_PARAMS, f"there is no tool {str(params.name)[:80]!r} for you here: {names}")
        token = params.meta.progress_token
        request = ToolRequest(
            who=who,
            id=request_id,
            arguments=Raw(b"{}") if isinstance(params.arguments, UnsetType) else params.arguments,
            progress_token=None if isinstance(token, UnsetType) else token,
            name=name_of_call(headers, request_id),
            headers=headers._replace(version=headers.version or ASSUMED_VERSION),
            body=body,
        )
        try:
            return await tool.call(request)
        except TrilaneError as err:
            self._refusals.note(err)
            return json_answer(request.result(failed(err)))


def _info() -> dict[str, object]:
    return {"name": "trilane", "version": version("trilane")}


def _caching(headers: RpcHeaders) -> dict[str, object]:
    """Returns what a list says since 2026-07-28: that it holds for this caller, and not for long."""
    return {"ttlMs": 0, "cacheScope": "private"} if headers.is_stateless else {}


def _schema(arguments: type[msgspec.Struct]) -> dict[str, object]:
    """Returns the JSON schema of a tool's arguments, by itself."""
    [schema], components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    name = schema["$ref"].rpartition("/")[2]
    return components[name]
