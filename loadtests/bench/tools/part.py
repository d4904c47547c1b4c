"""A tool's call by the gateway's toolbox beside the same call by the package `mcp` alone, one after the other in turns.

    python -m loadtests.bench tools [--quick] [--targets stdio,http]

The server is the package's own, with one tool that says its text back; it runs on the server's core. Over stdio each
side has a process of its own. What is told is how long a call takes in the caller, and how much longer ours does.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from mcp import Client, StdioServerParameters
from msgspec import Raw

from gateway.chat.tools.mcp_toolbox import open_toolbox
from gateway.settings import Settings
from gateway.tool_settings import McpSettings, ToolServers, ToolSettings
from loadtests.bench.harness import rounds
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.processes import SERVER_CORE, NotStarted, on_core, process
from loadtests.bench.harness.records import Record
from loadtests.bench.report.rows import Row, at
from loadtests.bench.report.table import Table

START_S = 60.0
SERVER = [sys.executable, str(Path(__file__).with_name("echo_server.py"))]
MAX_MORE_MS = 3.0
"""Milliseconds that a call of ours may take longer than the package's own, at the median."""
QUANTILES = {"p50_ms": 0.5, "p99_ms": 0.99}
Call = Callable[[int], Awaitable[object]]


@dataclass(frozen=True)
class ToolsPlan:
    """Says how many calls of each kind are timed, after some that are not."""

    calls: int = 2000
    warm_up: int = 100


@dataclass
class ToolsRig:
    """Says where the server is, and what went wrong with it."""

    target: str
    port: int
    folder: Path
    plan: ToolsPlan
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0


@dataclass(frozen=True)
class CallCase:
    """A call that is answered with its own text."""

    name: str = "call"
    targets: tuple[str, ...] = ("stdio", "http")

    def measure(self, rig: ToolsRig) -> Record:
        with contextlib.ExitStack() as stack:
            url = ""
            if rig.target == "http":
                stack.enter_context(process(on_core(SERVER_CORE, [*SERVER, str(rig.port)]), rig.folder, {}))
                url = f"http://127.0.0.1:{rig.port}/mcp"
            return asyncio.run(_measure(url, rig))


async def _measure(url: str, rig: ToolsRig) -> Record:
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(_ours(url))
        direct = await stack.enter_async_context(_direct(url))
        for number in range(rig.plan.warm_up):
            await ours(-number)
            await direct(-number)
        times_ms: dict[str, list[float]] = {"ours": [], "direct": []}
        for number in range(rig.plan.calls):
            for name, call in (("ours", ours), ("direct", direct)):
                began = time.perf_counter()
                await call(number)
                times_ms[name].append((time.perf_counter() - began) * 1000)
    told: Record = {name: _quantiles(times) for name, times in times_ms.items()}
    return {**told, "more_ms": statistics.median(times_ms["ours"]) - statistics.median(times_ms["direct"])}


def _quantiles(times_ms: list[float]) -> dict[str, float]:
    ordered = sorted(times_ms)
    return {name: ordered[int(quantile * (len(ordered) - 1))] for name, quantile in QUANTILES.items()}


@asynccontextmanager
async def _ours(url: str) -> AsyncGenerator[Call]:
    command = [] if url else on_core(SERVER_CORE, SERVER)
    server = McpSettings(name="bench", url=url, command=command, tools={"echo": ToolSettings()})
    toolbox = open_toolbox(Settings(tools=ToolServers(mcp=[server])))
    toolbox.start()
    try:
        await _until_offered(lambda: bool(toolbox.offered("bench")))
        [tool] = toolbox.offered("bench")

        async def call(number: int) -> None:
            arguments = Raw(b'{"text":"%d"}' % number)
            result = await toolbox.call(tool, arguments, key=f"r:{number}", sub="bench", on_progress=print)
            assert bytes(result.output) == b'"%d"' % number

        yield call
    finally:
        await toolbox.aclose()


async def _until_offered(is_offered: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while not is_offered():
        if time.monotonic() > end:
            raise NotStarted(f"the server of tools did not answer within {START_S:g} s")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _direct(url: str) -> AsyncGenerator[Call]:
    program, *args = on_core(SERVER_CORE, SERVER)
    async with Client(url or StdioServerParameters(command=program, args=args)) as client:

        async def call(number: int) -> None:
            await client.call_tool("echo", {"text": str(number)})

        yield call


TABLE = Table(
    [
        Row("a call, p50 ms", at("call", "ours", "p50_ms")),
        Row("  p99 ms", at("call", "ours", "p99_ms")),
        Row("by the package alone, p50 ms", at("call", "direct", "p50_ms")),
        Row("  p99 ms", at("call", "direct", "p99_ms")),
        Row("ours takes longer by, p50 ms", at("call", "more_ms"), goal=MAX_MORE_MS, judged="stdio"),
        Row("  over HTTP", at("call", "more_ms"), goal=MAX_MORE_MS, judged="http"),
    ],
    faults="calls not as they must be",
)


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], ToolsRig]]:
    """Opens nothing that lives longer than a measurement."""
    yield lambda job: ToolsRig(job.target, run.port, job.folder, run.plan)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=1)


PART = Part(
    name="tools",
    says="What a call of a tool costs beside the package alone.",
    port=18480,
    cases=(CallCase(),),
    ours=("stdio", "http"),
    plans=Plans(ToolsPlan(), quick=ToolsPlan(calls=300, warm_up=50)),
    session=session,
    table=TABLE,
    arguments=_arguments,
    about=lambda _: {"versions": {"mcp": metadata.version("mcp")}},
)


def main(argv: list[str]) -> int:
    """Measures the calls of tools."""
    return rounds.main([PART], argv)
