"""How a failure is answered: with a problem document, whoever found it."""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from gateway.errors import BadRequest, NotFound, TooLarge, TrilaneError, problem

PROBLEM = "application/problem+json"


def refused(request: Request[Any, Any, Any], error: TrilaneError) -> Response[bytes]:
    status, body, headers = problem(error, request.scope.get("request_id", ""))  # pyright: ignore
    return Response(body, status_code=status, headers=headers, media_type=PROBLEM)


def refused_by_litestar(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Routing, methods and body limits are Litestar's; the document is ours."""
    if error.status_code == 404:
        ours: TrilaneError = NotFound(f"there is no {request.url.path[:120]!r} here")
    elif error.status_code == 413:
        ours = TooLarge("the body is larger than this route takes; see TRILANE_LIMIT_BODY_BYTES")
    elif error.status_code < 500:
        ours = BadRequest(error.detail, status=error.status_code, code=f"http_{error.status_code}")
    else:
        return failed(request, error)
    answer = refused(request, ours)
    answer.headers.update(error.headers or {})  # `allow` of a 405
    return answer


def failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    import structlog

    structlog.get_logger("http").error("request failed", path=request.url.path, exc_info=error)
    return refused(request, TrilaneError("an unexpected error; its request_id is in the gateway's log"))


async def not_opened(error: TrilaneError, send: Any) -> None:
    """A WebSocket that is refused is answered as a request is, with a problem document."""
    status, body, headers = problem(error, "")
    fields = [(name.encode(), value.encode()) for name, value in {**headers, "content-type": PROBLEM}.items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": body})
