"""A toolbox whose calls are spans, in the words of OpenTelemetry's conventions for generative AI.

They tell the name that the operator has given a tool, and nothing of its input or output.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Raw

from gateway.chat.tools.toolbox import OnProgress, Tool, Toolbox, ToolResult

if TYPE_CHECKING:
    from gateway.core.tracing import Span

EXECUTE_TOOL = "execute_tool"
TOOL_ERROR = "tool_error"
"""The word for a call that its tool has answered with an error."""


class TracedToolbox:
    """The toolbox of one run: another one, each of whose calls is a child of the span of that run."""

    def __init__(self, toolbox: Toolbox, run: "Span") -> None:
        self.sign_ins = toolbox.sign_ins
        self.start, self.known, self.aclose = toolbox.start, toolbox.known, toolbox.aclose
        self._toolbox = toolbox
        self._run = run

    def offered(self, sub: str) -> Sequence[Tool]:
        return self._toolbox.offered(sub)

    async def call(self, tool: Tool, arguments: Raw, *, key: str, sub: str, on_progress: OnProgress) -> ToolResult:
        span = self._run.inner(
            f"{EXECUTE_TOOL} {tool.name}",
            {"gen_ai.operation.name": EXECUTE_TOOL, "gen_ai.tool.name": tool.name, "gen_ai.tool.type": "extension"},
        )
        try:
            result = await self._toolbox.call(tool, arguments, key=key, sub=sub, on_progress=on_progress)
        except BaseException as err:
            span.end({}, err)
            raise
        span.end({}, TOOL_ERROR if result.error_text else None)
        return result
