"""The OpenAI wire format, for SDKs that know only that."""

import msgspec
from litestar import get, post
from litestar.types import ASGIApp

from gateway.chat.dialects.completion_request import CompletionRequest
from gateway.chat.lane import ChatLane
from routes.requests import AnyRequest, body_of, caller, decode


class ModelCard(msgspec.Struct):
    id: str
    owned_by: str
    object: str = "model"
    created: int = 0


class ModelList(msgspec.Struct):
    data: list[ModelCard]
    object: str = "list"


@get("/v1/models", summary="The models that can be asked")
async def models(request: AnyRequest, chat: ChatLane) -> ModelList:
    caller(request)
    return ModelList([ModelCard(model, upstream) for model, upstream in await chat.upstreams.models()])


@post("/v1/chat/completions", status_code=200, summary="One completion, streamed or whole")
async def completions(request: AnyRequest, chat: ChatLane) -> ASGIApp:
    who = caller(request)
    body = await body_of(request, chat.settings.limits.body_bytes)
    return await chat.complete(who, decode(body, CompletionRequest), decode(body, dict[str, msgspec.Raw]))


ROUTES = [models, completions]
