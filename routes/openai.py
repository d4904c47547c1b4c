"""The OpenAI wire format, for SDKs that know only that."""

from litestar import post
from litestar.types import ASGIApp

from gateway.chat.dialects.completion_request import CompletionRequest
from gateway.chat.lane import ChatLane
from routes.operation import Schema, described
from routes.requests import AnyRequest, caller, decode_with_fields, read_body

COMPLETION_SCHEMA: Schema = {
    "title": "ChatCompletion",
    "description": "OpenAI's `chat.completion`",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}},
        "usage": {"type": ["object", "null"]},
    },
    "required": ["id", "object", "created", "model", "choices"],
}
STREAM_EXAMPLE = """: ok
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hello"}}]}

data: [DONE]

"""


@post(
    "/v1/chat/completions",
    status_code=200,
    summary="One completion, streamed or whole",
    opt=described(
        body=CompletionRequest,
        examples={
            "whole": {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Hello!"}]},
            "stream": {"messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        },
        answer=COMPLETION_SCHEMA,
        stream=STREAM_EXAMPLE,
        errors=(404, 409, 422, 502, 504),
    ),
)
async def completions(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        completion_request, fields = await decode_with_fields(await read_body(request, body), CompletionRequest)
        return await chat.completions.create(who, completion_request, fields, body)


ROUTES = [completions]
