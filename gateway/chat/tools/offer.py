"""Decides which tools of a server are offered, under which name, and what a call of each may do. Pure.

What the operator lists is offered, and nothing else. What the server says of a tool (its annotations) can only tighten
what the operator says:

1. `readOnlyHint: false` makes a `read` tool `idempotent` where the server says that it is, else `once`.
2. `idempotentHint: false` makes an `idempotent` tool `once`.
3. A tool that is called without asking asks when 1 or 2 applied to it; and when the server says `destructiveHint: true`
   while the operator named no effect.
"""

import hashlib
import re
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from gateway.chat.tools.toolbox import NAME_SEPARATOR, Approve, Effect, Tool, tool_digest
from gateway.tool_settings import McpSettings, ToolSettings

MAX_NAME = 64
"""Characters of a name that every model takes."""
UNFIT = re.compile(r"[^A-Za-z0-9_-]")
DIGEST_DIGITS = 8
MAX_DESCRIPTION_BYTES = 65_536
"""Bytes of a tool's description and schema together; one with more would fill a model's window, and is not offered."""


class DescribedTool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool as its server describes it; a hint is None where the server gives none."""

    name: str
    description: str = ""
    parameters: dict[str, object] = {}
    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None


def offered_tools(server: McpSettings, described: Iterable[DescribedTool]) -> dict[str, Tool]:
    """Returns what is offered of a server by the server's own names, in the order of the settings."""
    by_name = {tool.name: tool for tool in described}
    tools = {
        name: _tool(server.name, by_name[name], settings)
        for name, settings in server.tools.items()
        if name in by_name and settings.approve != "deny"
    }
    return {name: tool for name, tool in tools.items() if tool is not None}


def fitting_name(server: str, tool: str) -> str:
    """Returns the name that a model calls a tool by: 1 to 64 letters, digits, `_` and `-`.

    A name that does not fit as it is ends in a digest of itself, so that two never become one.
    """
    whole = f"{server}{NAME_SEPARATOR}{tool}"
    if len(whole) <= MAX_NAME and not UNFIT.search(whole):
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{UNFIT.sub('_', whole)[: MAX_NAME - DIGEST_DIGITS - 1]}_{digest}"


def permissions(settings: ToolSettings, tool: DescribedTool) -> tuple[Approve, Effect]:
    """Returns whether a call asks and what it does, by the rules above."""
    effect = settings.effect or "once"
    tightened = effect
    if tightened == "read" and tool.read_only is False:
        tightened = "idempotent" if tool.idempotent else "once"
    if tightened == "idempotent" and tool.idempotent is False:
        tightened = "once"
    is_destructive = settings.effect is None and tool.destructive is True
    asks = settings.approve != "auto" or tightened != effect or is_destructive
    return "ask" if asks else "auto", tightened


def _tool(server: str, tool: DescribedTool, settings: ToolSettings) -> Tool | None:
    parameters = Raw(msgspec.json.encode({"type": "object", **tool.parameters}))
    if len(parameters) + len(tool.description.encode()) > MAX_DESCRIPTION_BYTES:
        return None
    name = fitting_name(server, tool.name)
    approve, effect = permissions(settings, tool)
    return Tool(
        name=name,
        description=tool.description,
        parameters=parameters,
        approve=approve,
        effect=effect,
        roles=tuple(settings.roles),
        editable=settings.editable,
        digest=tool_digest(name, tool.description, parameters),
    )
