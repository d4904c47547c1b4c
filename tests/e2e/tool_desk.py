"""A gateway whose model calls tools as the user's message says: a line for each, `name {...}`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, serving

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "deploy" / "examples" / "approvals" / "shop.py"
ODD = ROOT / "tests" / "gateway" / "chat" / "tools" / "raw_server.py"
TOOLS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "calls"

[[mcp]]
name = "shop"
command = ["{python}", "{shop}"]
[mcp.tools.find]
approve = "auto"
effect = "read"
[mcp.tools.refund]
effect = "idempotent"
editable = true

[[mcp]]
name = "odd"
command = ["{python}", "{odd}"]
timeout_s = 0.4
[mcp.tools.hang]
approve = "auto"
[mcp.tools.big]
approve = "auto"
effect = "read"
[mcp.tools.error]
approve = "auto"
effect = "read"
[mcp.tools.echo]
"""


async def calls(answer: Answer) -> None:
    """Calls a tool for each line of the message, at once; says `Done.` when it has their results."""
    named = [line.split(" ", 1) for line in answer.ask.text.splitlines()]
    if not all(len(one) == 2 and one[1].startswith("{") for one in named):
        return await TABLE["ok"].behave(answer)
    await start(answer)
    if answer.ask.after_tool:
        await answer.frame(shapes.chunk(answer.ask, {"content": "Done."}))
        return await finish(answer)
    for place, (name, arguments) in enumerate(named):
        await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [shapes.tool_call(place, name, arguments)]}))
    return await finish(answer, "tool_calls")


def tool_gateway(folder: Path, upstream: UpstreamThread, **env: str) -> Iterator[Gateway]:
    """Yields a gateway with every lane, the shop of the examples, and a server that does what servers should not."""
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable, shop=SHOP, odd=ODD))
    upstream.fake.script("calls", calls)
    server = serving(folder, upstream.url, TRILANE_UPSTREAMS=str(file), **env)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()
