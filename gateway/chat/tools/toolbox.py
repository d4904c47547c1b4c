"""A toolbox holds the tools that the gateway runs for a model; this is its port, and the words that the port uses.

Which tools there are is the operator's decision alone: neither a client nor the server that a tool lives on can add
one, or loosen what the operator asks of it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec import Raw

from gateway.chat.tools.sign_ins import SignIns
from gateway.errors import ToolUnreachable

Approve = Literal["auto", "ask"]
Effect = Literal["read", "idempotent", "once"]
NAME_SEPARATOR = "__"
"""Stands between the name of a toolbox's server and that of its tool, as in `crm__find`."""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One tool, as the operator allows it and as its server describes it now."""

    name: str
    """The name that the model calls it by: 1 to 64 of A-Z a-z 0-9 _ and -."""
    description: str
    parameters: Raw
    """The JSON schema of its input."""
    approve: Approve = "ask"
    """Whether somebody has to allow each call."""
    effect: Effect = "once"
    """What a call does beside answering: nothing; the same however often it is made with one key; or something anew
    each time, so that a call of which nobody knows whether it was made is never made again."""
    roles: tuple[str, ...] = ("owner", "approver")
    """Roles of those who may allow a call."""
    editable: bool = False
    """Whether who allows a call may change its input."""
    sign_in: str = ""
    """Address at which its user signs in to its server; empty where nobody does."""
    is_told: bool = True
    """Whether models are told of it."""
    digest: str = ""
    """A digest of name, description and parameters: another one means that this is no longer the tool that was asked
    for."""


def tool_digest(name: str, description: str, parameters: Raw) -> str:
    """Returns the digest of a tool: 64 hex digits, the same for JSON schemas that differ in spaces or order alone."""
    identity = [name, description, msgspec.json.decode(parameters)]
    return hashlib.sha256(msgspec.json.encode(identity, order="deterministic")).hexdigest()


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a call that its server answered."""

    output: Raw
    """Its output, as JSON: a string where the tool gives text."""
    error_text: str = ""
    """What the tool says went wrong; empty when it did what it was asked."""


OnProgress = Callable[[Raw], None]
"""A function that takes what a tool says while it works, as a JSON object: `{"progress","total"?,"message"?}`."""


class Toolbox(Protocol):
    """All tools that the gateway runs.

    `offered` does no I/O and may be called for each run: it returns the tools of the servers that answer now, in a
    stable order, for the user `sub`. `call` is made at most once at a time for a key. The implementer hands on `key` to
    the tool, bounds the time of the call and the size of its output, tells progress at most four times a second, and
    raises nothing but TrilaneError: `tool_timeout`; `tool_failed` when nobody knows whether the call was made;
    `tool_unreachable` when it certainly was not. Cancelled, it cancels the call at its server.
    """

    sign_ins: Mapping[str, SignIns]
    """The sign-ins to servers that each user signs in to, by the servers' names."""

    def start(self) -> None:
        """Begins to reach its servers; called once, in the event loop that everything else is called in."""
        ...

    async def known(self, sub: str) -> None:
        """Returns once each server has answered or failed for the first time, and in bounded time.

        It opens the sessions that are the user's own, and takes no time for a user whose sessions are open.
        """
        ...

    def offered(self, sub: str) -> Sequence[Tool]: ...

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        """Calls a tool for the user `sub`, with `arguments`, a JSON object; each try of one call has the same `key`."""
        ...

    async def aclose(self) -> None:
        """Lets go of all servers, in bounded time."""
        ...


class NoTools:
    """The toolbox of an installation whose operator has named no tools."""

    sign_ins: Mapping[str, SignIns] = {}

    def start(self) -> None: ...

    async def known(self, sub: str) -> None: ...

    def offered(self, sub: str) -> Sequence[Tool]:
        return ()

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        raise ToolUnreachable(f"the tool {tool.name} is not offered")

    async def aclose(self) -> None: ...


NO_TOOLS = NoTools()
