"""OpenAI's Responses: parse, call the lane, answer. An id of another user's is one that is not there."""

from litestar import delete, get, post
from litestar.types import ASGIApp

from gateway.chat.dialects.response_request import ResponseRequest
from gateway.chat.lane import ChatLane
from gateway.chat.response_lane import DeletedResponse, ItemPage
from gateway.errors import BadRequest
from gateway.serving.whole import send_json
from routes.operation import Input, Schema, described
from routes.requests import AnyRequest, caller, decode_with_fields, read_body

RESPONSE = "/v1/responses/{response_id:str}"
MAX_PAGE, DEFAULT_PAGE = 100, 20
RESPONSE_SCHEMA: Schema = {
    "title": "Response",
    "description": "OpenAI's `response`",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "response"},
        "created_at": {"type": "integer"},
        "status": {"enum": ["in_progress", "completed", "incomplete", "failed", "cancelled"]},
        "model": {"type": "string"},
        "output": {"type": "array", "items": {"type": "object"}},
        "usage": {"type": ["object", "null"]},
        "error": {"type": ["object", "null"]},
    },
    "required": ["id", "object", "created_at", "status", "model", "output"],
}
STREAM_EXAMPLE = """: ok
event: response.created
data: {"type":"response.created","response":{"id":"resp_1","status":"in_progress"},"sequence_number":0}

event: response.output_text.delta
data: {"type":"response.output_text.delta","item_id":"msg_1_0","delta":"Hello","sequence_number":4}

event: response.completed
data: {"type":"response.completed","response":{"id":"resp_1","status":"completed"},"sequence_number":8}

"""
FUNCTION = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@post(
    "/v1/responses",
    status_code=200,
    summary="One response of OpenAI's Responses API, streamed, whole or in the background",
    opt=described(
        body=ResponseRequest,
        examples={
            "whole": {"model": "gpt-4.1-mini", "input": "Hello!"},
            "stream": {"input": "Hello!", "stream": True},
            "in the background": {"input": "Hello!", "background": True},
            "with a tool": {"input": "Is it raining in Zürich?", "tools": [FUNCTION]},
        },
        answer=RESPONSE_SCHEMA,
        stream=STREAM_EXAMPLE,
        errors=(404, 409, 410, 422, 502, 504),
    ),
)
async def create(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        response_request, fields = await decode_with_fields(await read_body(request, body), ResponseRequest)
        return await chat.responses.create(who, response_request, fields, body)


@get(
    RESPONSE,
    summary="A stored response as it stands, or its events",
    opt=described(
        answer=RESPONSE_SCHEMA,
        stream=STREAM_EXAMPLE,
        inputs=(
            Input("stream", "Whether to answer with its events", schema={"type": "boolean"}),
            Input(
                "starting_after",
                "The number of the event after which to begin",
                schema={"type": "integer", "minimum": 0},
            ),
        ),
        errors=(404, 410),
    ),
)
async def read(request: AnyRequest, response_id: str, chat: ChatLane) -> ASGIApp:
    who, query = caller(request), request.query_params
    if query.get("stream", "").lower() in ("true", "1"):
        return await chat.responses.follow(who, response_id, _number(query.get("starting_after"), "starting_after", -1))
    return _whole(await chat.responses.read(who, response_id))


@post(
    f"{RESPONSE}/cancel",
    status_code=200,
    summary="Stop a response; one that is over stays as it is",
    opt=described(answer=RESPONSE_SCHEMA, errors=(404, 410)),
)
async def cancel(request: AnyRequest, response_id: str, chat: ChatLane) -> ASGIApp:
    return _whole(await chat.responses.cancel(caller(request), response_id))


@delete(RESPONSE, status_code=200, summary="Remove a stored response for good", opt=described(errors=(404,)))
async def remove(request: AnyRequest, response_id: str, chat: ChatLane) -> DeletedResponse:
    return await chat.responses.delete(caller(request), response_id)


@get(
    f"{RESPONSE}/input_items",
    summary="The items that a stored response was asked with",
    opt=described(
        inputs=(
            Input(
                "limit", f"Items of a page, {DEFAULT_PAGE} unless said", schema={"type": "integer", "maximum": MAX_PAGE}
            ),
            Input("order", "`desc`, newest first, which it is unless said, or `asc`"),
            Input("after", "The id of the item after which to begin"),
        ),
        errors=(404,),
    ),
)
async def input_items(request: AnyRequest, response_id: str, chat: ChatLane) -> ItemPage:
    who, query = caller(request), request.query_params
    limit, order = _number(query.get("limit"), "limit", DEFAULT_PAGE), query.get("order") or "desc"
    if not 1 <= limit <= MAX_PAGE:
        raise _bad("limit", f"{limit}: 1 to {MAX_PAGE} are allowed")
    if order not in ("asc", "desc"):
        raise _bad("order", f"{order[:16]!r}: want asc or desc")
    return await chat.responses.input_items(who, response_id, limit, order, query.get("after") or "")


def _number(text: str | None, name: str, default: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise _bad(name, f"{text[:16]!r}: want a number")
    return int(text)


def _bad(name: str, detail: str) -> BadRequest:
    return BadRequest(f"{name}={detail}", code="invalid_value", extra={"param": name})


def _whole(body: bytes) -> ASGIApp:
    async def answer(scope: object, receive: object, send: object) -> None:
        await send_json(body, send)

    return answer


ROUTES = [create, read, cancel, remove, input_items]
