"""The list of models, as OpenAI's API has it: those of every lane of the unit that its caller may use."""

import msgspec
from litestar import get

from gateway.core.process import Core
from gateway.errors import Forbidden
from routes.requests import AnyRequest


class ModelCard(msgspec.Struct):
    id: str
    owned_by: str
    """The upstream of a model that answers; `speech` for one that hears."""
    object: str = "model"
    created: int = 0


class ModelList(msgspec.Struct):
    data: list[ModelCard]
    object: str = "list"


@get("/v1/models", summary="The models that can be asked, and those that hear")
async def models(request: AnyRequest, core: Core) -> ModelList:
    who = request.user
    lists = [models for may_list, models in core.model_lists if may_list(who)]
    if not lists:
        raise Forbidden("this token allows no lane that has models here")
    return ModelList([ModelCard(model, owner) for list_models in lists for model, owner in await list_models()])


ROUTES = [models]
