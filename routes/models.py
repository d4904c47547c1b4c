"""The list of models, as OpenAI's API has it: those of every lane of the unit that its caller may use."""

import msgspec
from litestar import get

from gateway.core.process import Core
from gateway.errors import Forbidden, NotFound
from routes.operation import described
from routes.requests import AnyRequest


class ModelCard(msgspec.Struct):
    id: str
    owned_by: str
    """The upstream of a model that answers; `speech` for one that hears, `voice` for one that speaks."""
    object: str = "model"
    created: int = 0


class ModelList(msgspec.Struct):
    data: list[ModelCard]
    object: str = "list"


@get("/v1/models", summary="The models that can be asked, and those that hear and speak")
async def models(request: AnyRequest, core: Core) -> ModelList:
    return ModelList(await _cards(request, core))


@get("/v1/models/{model:path}", summary="One of these models", opt=described(errors=(404,)))
async def model(request: AnyRequest, core: Core, model: str) -> ModelCard:
    name = model.removeprefix("/")
    for card in await _cards(request, core):
        if card.id == name:
            return card
    raise NotFound(f"there is no model {name[:64]!r} here: GET /v1/models lists all", code="model_not_found")


async def _cards(request: AnyRequest, core: Core) -> list[ModelCard]:
    who = request.user
    lists = [models for may_list, models in core.model_lists if may_list(who)]
    if not lists:
        raise Forbidden("this token allows no lane that has models here")
    return [ModelCard(model, owner) for list_models in lists for model, owner in await list_models()]


ROUTES = [models, model]
