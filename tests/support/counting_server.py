"""A server of tools that counts effects, made with the package `mcp`; it can kill who calls, before or after it acts.

It notes each call and each effect in the file of the environment's `NOTES`, as `call CHAT KEY` and `effect CHAT KEY`.
Its tool `idempotent` has one effect for a key, `once` one for each call, and `read` none.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("counting", log_level="ERROR")
NOTES = Path(os.environ["NOTES"])
KEY = "dev.trilane/idempotency-key"
DEAD_S = 0.02
called: set[str] = set()
acted: set[str] = set()

Tool = Callable[[Context, str, int, str], Awaitable[str]]


def note(text: str) -> None:
    with NOTES.open("a") as notes:
        notes.write(f"{text}\n")


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(DEAD_S)


def counting(effect: str) -> Tool:
    """Returns the tool of an effect; its caller is the process `pid`, to be killed at the `point` of its first call."""

    async def tool(ctx: Context, chat: str, pid: int, point: str) -> str:
        key = str(dict(ctx.request_context.meta or {})[KEY])
        is_first = key not in called
        called.add(key)
        note(f"call {chat} {key}")
        if is_first and point == "request-left":
            await kill(pid)
        if effect == "once" or (effect == "idempotent" and key not in acted):
            acted.add(key)
            note(f"effect {chat} {key}")
        if is_first and point == "acted":
            await kill(pid)
        return "done"

    return tool


for name in ("read", "idempotent", "once"):
    server.add_tool(counting(name), name=name)

if __name__ == "__main__":
    server.run("streamable-http", port=int(sys.argv[1]), stateless_http=True, json_response=True)
