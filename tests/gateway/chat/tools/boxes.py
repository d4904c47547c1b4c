"""Gives tests toolboxes of real servers, and a way to call them."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import uvloop
from msgspec import Raw

from gateway.chat.tools.mcp_toolbox import McpToolbox, open_toolbox
from gateway.chat.tools.toolbox import Tool, ToolResult
from gateway.limit_settings import Limits
from gateway.settings import Settings
from gateway.tool_settings import McpSettings, ToolServers, ToolSettings
from gateway.upstream_settings import Network

HERE = Path(__file__).parent
STARTS_S = 90.0
"""Seconds in which a server of the package is there, on a machine that is busy."""
RAW_TOOLS = ["echo", "garbage", "crash", "big", "hang", "deaf", "flood", "error", "pid"]
PACKAGE_TOOLS = [*("echo", "add", "picture", "fail", "crash", "big", "hang", "work", "key", "change", "environment")]


def raw_server(*args: str, notes: Path, name: str = "raw", **fields: Any) -> McpSettings:
    """Returns the settings of a server without the package, which starts at once."""
    command = [sys.executable, "-I", str(HERE / "raw_server.py"), *args]
    return _settings(name, RAW_TOOLS, command=command, env={"NOTES": str(notes)}, **fields)


def package_server(notes: Path, url: str = "", **fields: Any) -> McpSettings:
    """Returns the settings of a server made with the package: over stdio, or at a `url`."""
    if url:
        return _settings("real", PACKAGE_TOOLS, url=url, **fields)
    command = [sys.executable, str(HERE / "tool_server.py")]
    return _settings("real", PACKAGE_TOOLS, command=command, env={"NOTES": str(notes), "PATH": "/bin"}, **fields)


def _settings(name: str, tools: list[str], **fields: Any) -> McpSettings:
    return McpSettings(name=name, tools={tool: ToolSettings() for tool in tools}, **fields)


@contextmanager
def http_server(port: int, notes: Path, *args: str) -> Generator[Popen[bytes]]:
    """Runs a server made with the package at `http://127.0.0.1:PORT/mcp`, where it answers some seconds later."""
    command = [sys.executable, str(HERE / "tool_server.py"), "http", str(port), *args]
    with Popen(command, env={**os.environ, "NOTES": str(notes)}) as process:
        try:
            yield process
        finally:
            process.kill()


async def until(met: Callable[[], object]) -> None:
    """Waits until `met()` is true."""
    async with asyncio.timeout(STARTS_S):
        while not met():  # noqa: ASYNC110 what is waited for are processes
            await asyncio.sleep(0.01)


class Box:
    """A toolbox, and calls by the server's own names."""

    def __init__(self, toolbox: McpToolbox) -> None:
        self.toolbox = toolbox
        self.told: list[dict[str, Any]] = []
        """The progress that was told."""

    @property
    def tools(self) -> dict[str, Tool]:
        return {tool.name.partition("__")[2]: tool for tool in self.toolbox.offered("alice")}

    async def offers(self, met: Callable[[Mapping[str, Tool]], object] = bool) -> None:
        """Waits until what is offered is as `met` says: by default that there is something."""
        await until(lambda: met(self.tools))

    async def call(self, name: str, key: str = "r1:k1", tool: Tool | None = None, **arguments: object) -> ToolResult:
        return await self.toolbox.call(
            tool or self.tools[name],
            Raw(json.dumps(arguments).encode()),
            key=key,
            sub="alice",
            on_progress=lambda progress: self.told.append(json.loads(bytes(progress))),
        )

    async def output(self, name: str, **arguments: object) -> Any:
        """Returns the output of a call that did what it was asked."""
        result = await self.call(name, **arguments)  # type: ignore[arg-type]
        assert not result.error_text, result.error_text
        return json.loads(bytes(result.output))


@asynccontextmanager
async def box_of(*servers: McpSettings, network: Network | None = None, waits: bool = True) -> AsyncGenerator[Box]:
    """Opens a toolbox of these servers, whose outputs may have 1000 bytes, and waits until it offers something."""
    tools, limits = ToolServers(mcp=list(servers)), Limits(tool_bytes=1000)
    toolbox = open_toolbox(Settings(tools=tools, limits=limits, network=network or Network()))
    assert isinstance(toolbox, McpToolbox)
    toolbox.start()
    box = Box(toolbox)
    try:
        if waits:
            await box.offers()
        yield box
    finally:
        await toolbox.aclose()


def run(test: Any) -> None:
    """Runs a test in a loop of the kind that the gateway runs in, which nothing is left behind in."""

    async def whole() -> None:
        before = asyncio.all_tasks()
        async with asyncio.timeout(110):
            await test
        assert asyncio.all_tasks() == before

    with contextlib.closing(uvloop.new_event_loop()) as loop:
        loop.run_until_complete(whole())
