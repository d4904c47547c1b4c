"""A server of tools made with the package `mcp`, over stdio or Streamable HTTP: some that do as asked, and bad ones.

It notes what happens to it in the file of the environment's `NOTES`.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

server = MCPServer("test", log_level="ERROR")
NOTES = Path(os.environ.get("NOTES", os.devnull))


def note(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{text}\n")


@server.tool()
def echo(text: str) -> str:
    """Says it back."""
    return text


@server.tool()
def add(a: int, b: int) -> dict[str, int]:
    return {"sum": a + b}


@server.tool(structured_output=False)
def picture() -> list[Any]:
    return ["a dot", Image(data=b"\x89PNG", format="png")]


@server.tool()
def fail(text: str) -> str:
    raise ToolError(text)  # another error would be printed with all its frames


@server.tool()
def crash() -> str:
    note("crash")
    os._exit(9)


@server.tool()
def big(count: int) -> str:
    return "x" * count


@server.tool()
async def hang(seconds: float) -> str:
    note("begun")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    note("done")
    return "done"


@server.tool()
async def work(ctx: Context, steps: int, seconds: float) -> str:
    for step in range(steps):
        await ctx.report_progress(step + 1, steps, f"step {step + 1}")
        await asyncio.sleep(seconds)
    return "worked"


@server.tool(annotations=ToolAnnotations(destructive_hint=True, read_only_hint=False))
async def key(ctx: Context) -> dict[str, Any]:
    meta = dict(ctx.request_context.meta or {})
    headers = ctx.headers or {}
    return {"meta": meta.get("dev.trilane/idempotency-key"), "header": headers.get("idempotency-key")}


@server.tool()
async def change(ctx: Context, description: str) -> str:
    """Gives `echo` another description, and says so."""
    server.remove_tool("echo")
    server.tool(name="echo", description=description)(echo)
    await ctx.notify_tools_changed()
    return "changed"


@server.tool()
def environment() -> dict[str, str]:
    return dict(os.environ)


@server.tool()
def garbage() -> str:
    """Writes what is no message where messages are written; over HTTP `Garbling` answers in its place."""
    os.write(1, b'not JSON\n{"jsonrpc":\n[1,2]\n\n{"id":99,"result":3}\n\xff\xfe\n')
    return "after garbage"


class Garbling:
    """An ASGI app that answers calls of `garbage` with what is no message, and all else as another one."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive() if scope["type"] == "http" else {}
        if b'"garbage"' in message.get("body", b""):
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b'data: not JSON\n\ndata: {"jsonrpc":\n\n\xff\xfe'})
            return
        waiting = [message] if message else []

        async def again() -> Any:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, again, send)


if __name__ == "__main__":
    note(f"pid {os.getpid()}")
    if sys.argv[1:2] == ["http"]:
        app = Garbling(server.streamable_http_app(json_response="json" in sys.argv))
        uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
    else:
        server.run("stdio")
