"""A toolbox for tests: each tool is a function, and the toolbox remembers what it was asked and what that did.

It honours keys as a good server does: a call of a tool whose effect is `idempotent` that is made again with its key has
no second effect. One of a tool whose effect is `once` has.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import Raw

from gateway.chat.tools.sign_ins import SignIns
from gateway.chat.tools.toolbox import Approve, Effect, OnProgress, Tool, ToolResult, tool_digest
from gateway.errors import ToolUnreachable


class FakeCall:
    """One call as a fake tool's function sees it."""

    def __init__(self, tool: Tool, arguments: Raw, key: str, sub: str, effects: Counter[str], told: OnProgress) -> None:
        self.tool = tool
        self.arguments = arguments
        self.key = key
        self.sub = sub
        self._effects = effects
        self._told = told
        self._has_acted = False

    def argument(self, name: str) -> object:
        """Returns one argument, decoded; None where there is none."""
        return msgspec.json.decode(self.arguments, type=dict[str, object]).get(name)

    def act(self) -> None:
        """Has the call's effect now, once however often it is asked; otherwise a call has it when it returns."""
        is_done_already = self.tool.effect == "idempotent" and self._effects[self.key] > 0
        if self.tool.effect != "read" and not self._has_acted and not is_done_already:
            self._effects[self.key] += 1
        self._has_acted = True

    def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Tells how far the call is."""
        fields = {"progress": progress, "total": total, "message": message}
        self._told(Raw(msgspec.json.encode({name: value for name, value in fields.items() if value is not None})))


ToolFunction = Callable[[FakeCall], Awaitable[object]]
"""A function that is a tool: it returns a ToolResult, or what becomes the output of one; or raises a ToolError."""


def fake_tool(
    name: str,
    *,
    description: str = "A fake.",
    parameters: object = None,
    approve: Approve = "ask",
    effect: Effect = "once",
    roles: tuple[str, ...] = ("owner", "approver"),
    editable: bool = False,
) -> Tool:
    """Returns a tool with its digest; `parameters` is its schema, any object where it has none."""
    schema = Raw(msgspec.json.encode({"type": "object"} if parameters is None else parameters))
    return Tool(
        name=name,
        description=description,
        parameters=schema,
        approve=approve,
        effect=effect,
        roles=roles,
        editable=editable,
        digest=tool_digest(name, description, schema),
    )


class FakeToolbox:
    """A Toolbox of functions."""

    def __init__(self, *tools: tuple[Tool, ToolFunction]) -> None:
        self.calls: list[FakeCall] = []
        """Every call that was made, in order."""
        self.effects: Counter[str] = Counter()
        """How many effects the calls of one key had."""
        self.sign_ins: dict[str, SignIns] = {}
        self.is_closed = False
        self.is_known = asyncio.Event()
        """Set unless a test has its servers answer later."""
        self.is_known.set()
        self._tools = {tool.name: tool for tool, _ in tools}
        self._functions = {tool.name: function for tool, function in tools}
        self._keys: set[str] = set()

    @property
    def keys(self) -> list[str]:
        """Returns the key of each call that was made, in order."""
        return [call.key for call in self.calls]

    def offer(self, tool: Tool, function: ToolFunction | None = None) -> None:
        """Offers a tool from now on; or one of the same name in place of what it was, with the same function."""
        self._tools[tool.name] = tool
        if function is not None:
            self._functions[tool.name] = function

    def withdraw(self, name: str) -> None:
        """Offers a tool no more, as when its server is away: calling it raises ToolUnreachable."""
        del self._tools[name]

    def start(self) -> None: ...

    async def known(self, sub: str) -> None:
        await self.is_known.wait()

    def offered(self, sub: str = "") -> Sequence[Tool]:
        return list(self._tools.values()) if self.is_known.is_set() else []

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        if self.is_closed or tool.name not in self._tools:
            raise ToolUnreachable(f"{tool.name} is not offered")
        assert key not in self._keys, f"two calls at once have the key {key}"
        self._keys.add(key)
        call = FakeCall(tool, arguments, key, sub, self.effects, on_progress)
        self.calls.append(call)
        try:
            await asyncio.sleep(0)
            output = await self._functions[tool.name](call)
        finally:
            self._keys.discard(key)
        call.act()
        return output if isinstance(output, ToolResult) else ToolResult(output=Raw(msgspec.json.encode(output)))

    async def aclose(self) -> None:
        self.is_closed = True
