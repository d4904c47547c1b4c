"""The tools of a request to OpenAI's Responses, as a chat completion has them. Pure.

A completion knows no groups of tools: those of a `namespace` go to the model under its name and theirs, and a call of
one comes back under both.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from gateway.chat.dialects.response_items import NAMESPACE, ResponseItem, qualified, refused

CHOICES = ("auto", "none", "required")
REFUSED_CHOICES = "want auto, none, required, or a tool of type function, custom or allowed_tools"


def names_in_namespaces(tools: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Returns the namespace of each tool that has one, and its name there, by the name that the model knows."""
    return {
        qualified(group["name"], tool["name"]): (group["name"], tool["name"])
        for group in tools
        if group.get("type") == NAMESPACE
        for tool in group["tools"]
    }


def completion_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Returns the tools that the client runs as a completion has them. Raises BadRequest, which names the field."""
    told = list(_completion_tools(tools))
    names = [cast("ResponseItem", tool[str(tool["type"])])["name"] for tool in told]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise refused("tools", f"two tools are called {doubled[:64]!r}")
    return told


def _completion_tools(tools: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, object]]:
    for place, tool in enumerate(tools):
        param = f"tools[{place}]"
        if tool.get("type") != NAMESPACE:
            yield _tool(tool, param)
            continue
        group = _name(tool, param)
        members = tool.get("tools")
        if not isinstance(members, list):
            raise refused(f"{param}.tools", "want a list of functions")
        for number, member in enumerate(cast("list[object]", members)):
            where = f"{param}.tools[{number}]"
            if not isinstance(member, dict):
                raise refused(where, "want a function")
            fields = cast("ResponseItem", member)
            yield _tool({**fields, "name": qualified(group, _name(fields, where))}, where)


def _name(tool: Mapping[str, Any], param: str) -> str:
    name = tool.get("name")
    if not isinstance(name, str) or not name:
        raise refused(f"{param}.name", "a tool needs a name", "missing_required_parameter")
    return name


def _tool(tool: Mapping[str, Any], param: str) -> dict[str, object]:
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        raise refused(
            f"{param}.type",
            f"tools of type {str(kind)[:64]!r} are not here: want function, custom or namespace, which the client runs",
        )
    _name(tool, param)
    told = {name: value for name, value in tool.items() if name != "type" and value is not None}
    if kind == "function":
        return {"type": "function", "function": told}
    if isinstance(form := told.get("format"), dict) and cast("ResponseItem", form).get("type") == "grammar":
        grammar = {name: value for name, value in cast("ResponseItem", form).items() if name != "type"}
        told["format"] = {"type": "grammar", "grammar": grammar}
    return {"type": "custom", "custom": told}


def completion_tool_choice(choice: str | Mapping[str, Any] | None) -> object:
    """Returns which tool is to be called as a completion has it. Raises BadRequest."""
    if choice is None or isinstance(choice, str):
        if choice not in (None, *CHOICES):
            raise refused("tool_choice", f"{choice[:64] if choice else ''!r}: {REFUSED_CHOICES}")
        return choice
    kind = choice.get("type")
    if kind in ("function", "custom"):
        return {"type": kind, kind: {"name": qualified(choice.get(NAMESPACE), str(choice.get("name")))}}
    if kind == "allowed_tools" and isinstance(choice.get("tools"), list):
        tools = [
            completion_tool_choice(cast("ResponseItem", tool)) for tool in choice["tools"] if isinstance(tool, dict)
        ]
        return {"type": kind, kind: {"mode": choice.get("mode", "auto"), "tools": tools}}
    raise refused("tool_choice", f"{str(kind)[:64]!r}: {REFUSED_CHOICES}")
