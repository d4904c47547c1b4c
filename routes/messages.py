"""Anthropic's Messages API: parse, call the lane, answer."""

import msgspec
from litestar import post
from litestar.types import ASGIApp

from gateway.chat.dialects.anthropic_request import AnthropicRequest
from gateway.chat.lane import ChatLane
from gateway.core.usage import BYTES_PER_TOKEN
from routes.operation import Schema, described
from routes.requests import AnyRequest, body_of, caller, decode, decode_with_fields, read_body

MESSAGE_SCHEMA: Schema = {
    "title": "Message",
    "description": "Anthropic's `message`",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": {"type": "string"},
        "content": {"type": "array", "items": {"type": "object"}},
        "stop_reason": {"type": ["string", "null"]},
        "usage": {"type": "object"},
    },
    "required": ["id", "type", "role", "model", "content", "stop_reason", "usage"],
}
STREAM_EXAMPLE = """: ok
event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[]}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}

event: message_stop
data: {"type":"message_stop"}

"""
EXAMPLE = {"model": "gpt-4.1-mini", "max_tokens": 256, "messages": [{"role": "user", "content": "Hello!"}]}


class TokenCount(msgspec.Struct):
    input_tokens: int


@post(
    "/v1/messages",
    status_code=200,
    summary="One message of Anthropic's Messages API, streamed or whole",
    opt=described(
        body=AnthropicRequest,
        examples={"whole": EXAMPLE, "stream": {**EXAMPLE, "stream": True}},
        answer=MESSAGE_SCHEMA,
        stream=STREAM_EXAMPLE,
        errors=(404, 409, 422, 502, 504),
    ),
)
async def create(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        message_request, fields = await decode_with_fields(await read_body(request, body), AnthropicRequest)
        return await chat.messages.create(who, message_request, fields, body)


@post(
    "/v1/messages/count_tokens",
    status_code=200,
    summary="About how many tokens a request has: a quarter of its bytes",
    opt=described(body=AnthropicRequest, examples={"whole": EXAMPLE}),
)
async def count_tokens(request: AnyRequest, chat: ChatLane) -> TokenCount:
    caller(request)
    asked = decode(await body_of(request, chat.bodies), AnthropicRequest)
    return TokenCount(-(-asked.prompt_bytes // BYTES_PER_TOKEN))


ROUTES = [create, count_tokens]
