"""A framework is an environment, made once, and a program in it that serves one agent under several paths."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from loadtests.ports import free_port

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = Path(os.environ.get("FRAMEWORKS_DIR", HERE.parents[1] / "build" / "frameworks"))
START_S = 240.0
INSTALL_S = 1200.0
"""Seconds that making an environment may take, once."""


@dataclass(frozen=True)
class Framework:
    """One framework: its packages, and the paths under which its agent does what."""

    name: str
    packages: tuple[str, ...]
    kind: str
    paths: dict[str, str]
    """Path of each case: `tool` (a call and an answer), `slow` (a call of ten seconds), `ask`, `error`."""
    program: str = ""
    keeps_running: bool = False
    """Whether a tool in flight runs to its end although nobody is connected any more."""
    missing: dict[str, str] = field(default_factory=dict)
    """Why a case cannot be had."""

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / f"fw-{self.program_name}"

    @property
    def program_name(self) -> str:
        return self.program or self.name

    def install(self) -> None:
        """Makes its environment, unless it is there."""
        if (self.folder / "installed").exists():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        pip = [self.folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *self.packages], check=True, timeout=INSTALL_S)
        (self.folder / "installed").touch()

    @contextmanager
    def served(self, upstream: str) -> Iterator["ServedFramework"]:
        """Yields its agents, whose model is at `upstream`."""
        port = free_port()
        program = HERE / "agents" / f"{self.program_name.replace('-', '_')}_agent.py"
        command = [self.folder / "bin" / "python", program, str(port), upstream]
        quiet = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OTEL_SDK_DISABLED": "true",
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "XDG_DATA_HOME": str(self.folder / "data"),
        }
        process = subprocess.Popen(command, env={**os.environ, **quiet}, cwd=self.folder)
        url = f"http://127.0.0.1:{port}"
        try:
            _until_up(process, url)
            yield ServedFramework(self, url, process)
        finally:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class ServedFramework:
    framework: Framework
    url: str
    process: "subprocess.Popen[bytes]"


def _until_up(process: "subprocess.Popen[bytes]", url: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the agent ended with {process.returncode}")
        try:
            httpx2.get(f"{url}/ticks", timeout=2)
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"the agent did not listen at {url} within {START_S} s")


SERVER = ("fastapi", "uvicorn")
FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework(
            name="pydantic-ai-agui",
            packages=("pydantic-ai-slim[openai,ag-ui]", "starlette", "uvicorn"),
            kind="ag-ui",
            program="pydantic-ai",
            paths={
                "tool": "/ag-ui/agent-tools",
                "slow": "/ag-ui/agent-slow",
                "ask": "/ag-ui/agent-tools?asks=1",
                "error": "/ag-ui/error-openai",
            },
        ),
        Framework(
            name="pydantic-ai-ui",
            packages=("pydantic-ai-slim[openai,ag-ui]", "starlette", "uvicorn"),
            kind="ui-message",
            program="pydantic-ai",
            paths={
                "tool": "/ui/agent-tools",
                "slow": "/ui/agent-slow",
                "ask": "/ui/agent-tools?asks=1",
                "error": "/ui/error-openai",
            },
        ),
        Framework(
            name="langgraph",
            packages=("langgraph", "ag-ui-langgraph", "langchain-openai", *SERVER),
            kind="ag-ui",
            paths={"tool": "/tools", "slow": "/slow", "ask": "/asks", "error": "/error"},
            keeps_running=True,
        ),
        Framework(
            name="ag2",
            packages=("ag2[openai,ag-ui]", *SERVER),
            kind="ag-ui",
            paths={"tool": "/tools", "slow": "/slow", "ask": "/asks", "error": "/error"},
            keeps_running=True,
        ),
        Framework(
            name="google-adk",
            packages=("google-adk", "ag-ui-adk", "litellm", *SERVER),
            kind="ag-ui",
            paths={"tool": "/tools", "slow": "/slow", "error": "/error"},
            keeps_running=True,
            missing={"ask": "its outcome is opt-in, for tools that the client runs"},
        ),
        Framework(
            name="crewai",
            packages=("crewai", "ag-ui-crewai", *SERVER),
            kind="ag-ui",
            paths={"tool": "/tools", "slow": "/slow", "ask": "/asks", "error": "/error"},
        ),
    )
}


def ticks(url: str) -> int:
    """Returns how often the slow tool has shown a sign of life."""
    return int(httpx2.get(f"{url}/ticks", timeout=10).json()["ticks"])
