"""What an operator says of each upstream's requests: a system prompt, and which options clients may set. Pure.

A request is the body of a chat completion, whichever lane it came by. An option that an upstream's operator does not
allow is never dropped in silence: the upstream is passed over, and the request refused when none is left.
"""

from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit

from gateway.chat.records.provider_fields import SIGNED
from gateway.chat.upstreams.loose_fields import object_of
from gateway.chat.upstreams.upstream import OWN_TOOLS, Request
from gateway.errors import BadRequest
from gateway.upstream_settings import ClientOption, UpstreamSettings

FIELDS: dict[str, ClientOption] = {
    "tools": "tools",
    "functions": "tools",
    "tool_choice": "toolChoice",
    "function_call": "toolChoice",
    "temperature": "temperature",
    "top_p": "topP",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "seed": "seed",
    "stop": "stopSequences",
    "reasoning_effort": "reasoningEffort",
}
"""The client's option that each field of a completion's body stands for."""
SYSTEM_ROLES = ("system", "developer")
OPENAI_HOST = "api.openai.com"


def allowing(upstreams: Iterable[UpstreamSettings], request: Request) -> list[str]:
    """Returns the names of the upstreams that allow what the client has set.

    Raises BadRequest, with an option's name, when there are upstreams and none of them does.
    """
    options: set[ClientOption] | None = None
    names: list[str] = []
    forbidden: list[str] = []
    for settings in upstreams:
        if settings.client_options is None:
            names.append(settings.name)
            continue
        options = options_of(request) if options is None else options
        refused = sorted(options - set(settings.client_options))
        if refused:
            forbidden += refused
        else:
            names.append(settings.name)
    if forbidden and not names:
        raise BadRequest(
            f"`{forbidden[0]}` may not be set here: see `client_options` of the upstream", code="option_not_allowed"
        )
    return names


def options_of(request: Request) -> set[ClientOption]:
    """Returns the options that a client has set in a request."""
    options: set[ClientOption] = {option for field, option in FIELDS.items() if request.get(field) is not None}
    if any(_role(message) in SYSTEM_ROLES for message in _messages(request)):
        options.add("system")
    return options


def for_upstream(request: Request, settings: UpstreamSettings) -> Request:
    """Returns the request as this upstream is to get it: its operator's system prompt comes before all else.

    What a provider added to its answers goes back to that one alone.
    """
    messages = request.get("messages")
    if isinstance(messages, list) and any(SIGNED in object_of(message) for message in cast("list[object]", messages)):
        request = {**request, "messages": [_signed_by(settings.name, message) for message in _messages(request)]}
    if OWN_TOOLS in request:
        tools = [*cast("list[object]", request.get("tools", [])), *cast("list[object]", request[OWN_TOOLS])]
        request = {name: value for name, value in request.items() if name != OWN_TOOLS} | {"tools": tools}
    if "max_tokens" in request and urlsplit(settings.base_url).hostname == OPENAI_HOST:
        request = {**request, "max_completion_tokens": request["max_tokens"]}
        del request["max_tokens"]  # OpenAI's models that reason refuse the older name
    if not settings.system:
        return request
    messages = _messages(request)
    content = messages[0].get("content") if messages and _role(messages[0]) == "system" else None
    if isinstance(content, str):  # one system message: strict templates refuse two
        messages = messages[1:]
        content = f"{settings.system}\n\n{content}"
    else:
        content = settings.system
    return {**request, "messages": [{"role": "system", "content": content}, *messages]}


def _signed_by(provider: str, message: dict[str, object]) -> dict[str, object]:
    if SIGNED not in object_of(message):
        return message
    signed = object_of(object_of(message[SIGNED]).get(provider))
    return signed | {name: value for name, value in message.items() if name != SIGNED}


def _messages(request: Request) -> list[dict[str, object]]:
    messages = request.get("messages")
    return cast("list[dict[str, object]]", messages) if isinstance(messages, list) else []


def _role(message: object) -> object:
    return cast("dict[str, object]", message).get("role") if isinstance(message, dict) else None
