"""`make load` without a host loads this deployment: a Trilane with every lane, behind it a fake upstream.

All on free ports of this machine, with a SQLite log in a folder that is gone afterwards. The upstream's tokens carry
marks, so a chat user sees a token lost before the gateway numbered it. For a rehearsal a faulty proxy stands before it.
"""

import asyncio
import importlib.util
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.audio.client import speak
from loadtests.bench.audio.speech import silence
from loadtests.bench.harness.processes import ROOT, NotStarted, process
from loadtests.ports import free_port

MISTAKES = ("buffer", "no-pings", "no-resume")
"""Switches of `loadtests.lossy_proxy`."""
START_S = 60.0
HOST = "127.0.0.1"
TOOLS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
api_key = "x"
model = "ok+marks"

[[mcp]]
name = "desk"
command = ["{python}", "-m", "loadtests.counting_server"]
env = ["NOTES", "PYTHONPATH"]
[mcp.tools.count]
approve = "ask"
effect = "once"
[mcp.tools.times]
approve = "auto"
effect = "read"
"""
"""The file of a gateway that has the tools of those who are asked."""


class Deployed(NamedTuple):
    """What was started: the URL that users load, and the gateway's process."""

    url: str
    gateway: int


@contextmanager
def deployment(settings: dict[str, str], *, via: str = "", with_audio: bool = True) -> Generator[Deployed]:
    """Starts all of it. Raises NotStarted, whose message ends with what the process printed.

    `with_audio`: a first session has been held, so that the model is in memory when the load begins.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trilane-load-")))
        upstream, gateway = free_port(), free_port()
        _start(stack, folder, upstream, ["loadtests.upstream", "--port", str(upstream)], "/v1/models", {})
        env = {
            "OPENAI_BASE_URL": f"http://{HOST}:{upstream}/v1",
            "OPENAI_API_KEY": "x",
            "TRILANE_MODEL": "ok+marks",
            "TRILANE_DATA_DIR": str(folder),
            "TRILANE_DRAIN_WINDOW_S": "0",  # nobody is left to be sent elsewhere
            **(_tools(folder, upstream) if can_ask() else {}),
            **settings,
        }
        pid = _start(stack, folder, gateway, ["gateway", "serve", "all", "--port", str(gateway)], "/readyz", env)
        if with_audio:
            asyncio.run(speak(f"ws://{HOST}:{gateway}/api/audio", silence(0.5), pace=10))
        port = _behind_proxy(stack, folder, gateway, via) if via else gateway
        yield Deployed(f"http://{HOST}:{port}", pid)


def can_ask() -> bool:
    """Returns whether a gateway of this environment can run tools: the package `mcp` is an extra."""
    return importlib.util.find_spec("mcp") is not None


def _tools(folder: Path, upstream: int) -> dict[str, str]:
    """Returns the settings that give a gateway the tools of those who are asked."""
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=f"http://{HOST}:{upstream}/v1", python=sys.executable))
    return {"TRILANE_UPSTREAMS": str(file), "NOTES": str(folder / "notes")}


def _behind_proxy(stack: ExitStack, folder: Path, gateway: int, mistake: str) -> int:
    port = free_port()
    proxy = ["loadtests.lossy_proxy", "--port", str(port), "--to", f"{HOST}:{gateway}", f"--{mistake}"]
    _start(stack, folder, port, proxy, "/readyz", {})
    return port


def _start(stack: ExitStack, folder: Path, port: int, module: list[str], path: str, env: dict[str, str]) -> int:
    """Runs a module of ours until the stack is closed; returns its process once it answers."""
    command = [sys.executable, "-m", *module]
    child = stack.enter_context(process(command, folder, {"PYTHONPATH": str(ROOT), **env}))
    end = time.monotonic() + START_S
    while not _answers(port, path):
        if child.poll() is not None:
            raise NotStarted(f"`{' '.join(module)}` ended with {child.returncode}")
        if time.monotonic() > end:
            raise NotStarted(f"`{' '.join(module)}` did not answer {path} within {START_S:g} s")
        time.sleep(0.05)
    return child.pid


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
