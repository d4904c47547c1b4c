"""A tool that the gateway offers to other agents, and one call of it. Each lane brings its own tools."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Raw

from gateway.access.grants import Principal
from gateway.core.leniency import lenient_decoder
from gateway.errors import BadRequest, TrilaneError
from gateway.mcp.protocol import RequestId, RpcHeaders, result, text_result
from gateway.serving.bodies import HeldBody

T = TypeVar("T")
RpcAnswer = Callable[[Any, Any, Any], Awaitable[None]]
"""An ASGI application that answers one request."""


class ToolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a tool."""

    who: Principal
    id: RequestId
    arguments: Raw
    progress_token: RequestId | None
    name: str
    """The name by which every process knows this call; empty when nobody can refer to it."""
    headers: RpcHeaders
    body: HeldBody
    """The request's body, whose bytes count until whoever works with it is done."""

    def decode(self, kind: type[T]) -> T:
        """Returns the arguments as `kind`; raises BadRequest, which names the one that is wrong."""
        try:
            return _decoder(kind)(bytes(self.arguments))
        except (msgspec.DecodeError, UnicodeDecodeError) as err:
            raise BadRequest(f"the arguments are not valid: {err}") from err

    def result(self, fields: dict[str, object]) -> bytes:
        return result(self.id, self.headers, fields)


class OfferedTool(Protocol):
    """A tool. It acts with its caller's own rights and limits, as the routes of its lane do."""

    name: str
    description: str
    arguments: type[msgspec.Struct]

    def is_for(self, who: Principal) -> bool:
        """Returns whether a caller has the right to it; a tool that is not for a caller is not listed."""
        ...

    async def call(self, request: ToolRequest) -> RpcAnswer:
        """Does what is asked, and returns the answer. Raises TrilaneError, which becomes the tool's result."""
        ...

    async def stop(self, who: Principal, name: str) -> None:
        """Ends the call of that name, if there is one; any process may be asked."""

    async def resume(self, who: Principal, cursor: str, headers: RpcHeaders) -> RpcAnswer | None:
        """Returns the stream of a call strictly after a cursor of it; None when this tool sends no cursors."""
        return None


def json_answer(body: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> RpcAnswer:
    """Returns an answer in one piece; without a body it has none."""
    about = [(b"content-type", b"application/json")] if body else []
    about += [(b"content-length", b"%d" % len(body)), *headers]

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": about})
        await send({"type": "http.response.body", "body": body})

    return answer


def failed(err: TrilaneError) -> dict[str, object]:
    """Returns the result of a tool that could not do what was asked."""
    again = f" (try again in {err.retry_after} s)" if err.retry_after else ""
    return text_result(err.detail + again, is_error=True, structured={"code": err.code, "retryable": err.retryable})


@cache
def _decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    return lenient_decoder(kind)
