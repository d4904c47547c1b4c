"""Answers an error with a problem document, whether our code or the framework raised it."""

from typing import Any, cast

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.types import Scope

from gateway.errors import BadRequest, NotFound, TooLarge, TrilaneError, problem
from gateway.serving.refusals import note_refusal

log = structlog.get_logger("http")

PROBLEM = "application/problem+json"


def refuse_request(request: Request[Any, Any, Any], error: TrilaneError) -> Response[bytes]:
    scope = cast("dict[str, Any]", request.scope)
    note_refusal(error, scope)
    request_id: str = scope.get("request_id", "")
    status, body, headers = problem(error, request_id, scope["path"])
    return Response(body, status_code=status, headers=headers, media_type=PROBLEM)


def refuse_by_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answers what Litestar refuses on its own: routing, methods and body limits."""
    if error.status_code == 404:
        own: TrilaneError = NotFound(f"there is no {request.url.path[:120]!r} here")
    elif error.status_code == 413:
        own = TooLarge("the body is larger than this route allows; see TRILANE_LIMIT_BODY_BYTES")
    elif error.status_code < 500:
        own = BadRequest(error.detail, status=error.status_code, code=f"http_{error.status_code}")
    else:
        return refuse_unexpected(request, error)
    answer = refuse_request(request, own)
    answer.headers.update(error.headers or {})
    if "allow" in answer.headers:
        answer.headers["allow"] = with_head(answer.headers["allow"])
    return answer


def with_head(methods: str) -> str:
    """Returns the methods of an `allow` header, in order, with HEAD wherever GET is (`routes.edge`)."""
    names = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(names | {"HEAD"} if "GET" in names else names))


def refuse_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    log.error("request failed", path=request.url.path, exc_info=error)
    return refuse_request(request, TrilaneError("an unexpected error; its request_id is in the gateway's log"))


async def log_socket_failure(error: Exception, scope: Scope) -> None:
    """Logs what ended a socket that nobody meant to end so: the framework closes it, and says nothing."""
    if scope["type"] == "websocket" and not isinstance(error, TrilaneError | HTTPException | WebSocketDisconnect):
        log.error("a socket failed", path=scope["path"], exc_info=error)


async def refuse_websocket(error: TrilaneError, scope: Any, send: Any) -> None:
    """Answers the handshake of a WebSocket with a problem document, as a request is answered."""
    note_refusal(error, scope)
    status, body, headers = problem(error, scope.get("request_id", ""), scope["path"])
    fields = [(name.encode(), value.encode()) for name, value in {**headers, "content-type": PROBLEM}.items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": body})
