"""An MCP server over stdio, made with the package `mcp`, that knows how often it did what it was told.

`count` does it, and `times` says how often it was done with a text that begins with the same word. All servers with
one file in the environment's `NOTES` count together, so that a second effect is seen whichever process had it.
"""

import os
from pathlib import Path

from mcp.server.mcpserver import MCPServer

NOTES = Path(os.environ.get("NOTES", "notes"))
server = MCPServer("desk", log_level="ERROR")


@server.tool(structured_output=False)
def count(text: str) -> str:
    with NOTES.open("a") as notes:
        notes.write(f"{text}\n")
    return times(text)


@server.tool(structured_output=False)
def times(text: str) -> str:
    lines = NOTES.read_text().splitlines() if NOTES.exists() else []
    return str(sum(line.split()[:1] == text.split()[:1] for line in lines))


if __name__ == "__main__":
    server.run("stdio")
