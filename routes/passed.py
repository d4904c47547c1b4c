"""OpenAI's routes that go to an upstream as they come: embeddings, text completions, images, moderations."""

from typing import Any

from litestar import post
from litestar.types import ASGIApp

from gateway.chat.lane import ChatLane
from gateway.chat.passing import PassedRequest
from gateway.chat.producers.passed import Passage
from routes.operation import Schema, described
from routes.requests import AnyRequest, caller, decode_with_fields, read_body

EMBEDDINGS = Passage(path="/embeddings", operation="embeddings")
COMPLETIONS = Passage(path="/completions", operation="text_completion", writes_text=True)
IMAGES = Passage(path="/images/generations", operation="generate_content")
MODERATIONS = Passage(path="/moderations", operation="moderation")
STREAM_EXAMPLE = """data: {"id":"cmpl-1","object":"text_completion","choices":[{"index":0,"text":"Hello"}]}

data: [DONE]

"""


def _described(example: dict[str, object], *, stream: str = "") -> dict[str, Any]:
    answer: Schema = {"description": "What the upstream answers, as it comes", "type": "object"}
    errors = (404, 409, 422, 502, 504)
    return described(body=PassedRequest, examples={"whole": example}, answer=answer, stream=stream, errors=errors)


@post(
    "/v1/embeddings",
    status_code=200,
    summary="Embeddings of texts, by an upstream",
    opt=_described({"model": "text-embedding-3-small", "input": ["Hello!"]}),
)
async def embeddings(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    return await _passed(request, chat, EMBEDDINGS)


@post(
    "/v1/completions",
    status_code=200,
    summary="A text that goes on, by an upstream",
    opt=_described({"model": "qwen2.5-coder", "prompt": "def add(a, b):", "max_tokens": 64}, stream=STREAM_EXAMPLE),
)
async def text_completions(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    return await _passed(request, chat, COMPLETIONS)


@post(
    "/v1/images/generations",
    status_code=200,
    summary="Images of a description, by an upstream",
    opt=_described({"model": "gpt-image-1", "prompt": "A lane at dawn"}),
)
async def images(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    return await _passed(request, chat, IMAGES)


@post(
    "/v1/moderations",
    status_code=200,
    summary="What is wrong with a text, by an upstream",
    opt=_described({"model": "omni-moderation-latest", "input": "Hello!"}),
)
async def moderations(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    return await _passed(request, chat, MODERATIONS)


async def _passed(request: AnyRequest, chat: ChatLane, passage: Passage) -> ASGIApp:
    who = caller(request)
    with chat.bodies.hold() as body:
        passed_request, fields = await decode_with_fields(await read_body(request, body), PassedRequest)
        return await chat.passing.answer(who, passage, passed_request, fields, body)


ROUTES = [embeddings, text_completions, images, moderations]
"""Their handlers, for the chat unit."""
