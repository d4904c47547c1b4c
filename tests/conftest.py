"""These fixtures give tests a real gateway as a process, a scripted upstream in a thread, and the log from outside."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpcore2
import httpx2
import msgspec
import psutil
import pytest

from events.log.port import Block
from events.log.sqlite.engine import SqliteLog
from gateway.core.engines import retention_policy
from gateway.settings import Settings
from loadtests.ports import free_port
from loadtests.upstream import FakeUpstream
from tests.support.forking import ForkedProcess, can_fork
from tests.support.loop_thread import LoopThread

_read_certificates = functools.lru_cache(
    lambda trust_env, _file, _folder, read=httpcore2.default_ssl_context: read(_trust_env=trust_env)
)
"""Reads the machine's certificates once: every HTTP client of a test would, and that is most of what its calls cost."""
httpcore2.default_ssl_context = lambda *, _trust_env=True: _read_certificates(
    _trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
)

START_S = 60.0
UNMEASURED = {"TRILANE_LIMIT_VOICES": "1000"}
"""Spares a test's gateway the measurement of how many voices it can carry: half of an audio unit's start."""
OURS = ("TRILANE_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OTEL_")
"""Beginnings of the variables that a test gives its gateway by itself."""
READ_LATE = ("TRILANE_", "OPENAI_")
"""Beginnings of the variables that nothing reads when it is imported: any other is given to a new interpreter."""
TRILANE = ("-m", "gateway")
LONG_FOLDERS = ("loadtests", "clients", "deploy", "e2e", "faults")


def eventually(met: Callable[[], object], within_s: float = 20.0, what: str = "", every_s: float = 0.01) -> None:
    """Waits until `met()` is true, which is asked `every_s`; fails with `what` when it is not in time."""
    end = time.monotonic() + within_s
    while not met():
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what or met}")
        time.sleep(every_s)


@dataclass
class Gateway:
    """`trilane serve` as a process of its own, on its own port and folder."""

    folder: Path
    env: dict[str, str]
    unit: str = "chat"
    program: tuple[str, ...] = TRILANE
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | ForkedProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> "Gateway":
        clean = {k: v for k, v in os.environ.items() if not k.upper().startswith(OURS)}
        env = {**clean, **UNMEASURED, "TRILANE_DATA_DIR": str(self.folder), **self.env}
        args = ["serve", self.unit, "--port", str(self.port)]
        path = self.folder / f"stderr-{self.port}.txt"
        if self.program == TRILANE and can_fork() and all(name.startswith(READ_LATE) for name in self.env):
            self.process = ForkedProcess(args, env, path)
        else:
            with path.open("ab") as stderr:
                self.process = subprocess.Popen(
                    [sys.executable, *self.program, *args], env=env, stdout=subprocess.DEVNULL, stderr=stderr
                )
        eventually(self._ready, START_S, f"the gateway is ready; {self.stderr()}", every_s=0.05)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the gateway ended with {self.process.returncode}: {self.stderr()}")
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        return False

    def stderr(self) -> str:
        path = self.folder / f"stderr-{self.port}.txt"
        return path.read_text() if path.exists() else ""

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = 10) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
                self.signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)

    def gauge(self, name: str) -> float:
        """Returns the value of a metric, or the sum over all its labels."""
        lines = httpx2.get(f"{self.url}/metrics").text.splitlines()
        values = [float(line.split()[-1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        assert values, f"no metric {name}"
        return sum(values)

    def fds(self) -> int:
        return psutil.Process(self.pid).num_fds()

    def events(self, topic: str) -> list[tuple[str, Any]]:
        """Returns everything that the log holds of a topic, as (name, data)."""
        return asyncio.run(read_topic(self.folder / "trilane.db", topic))

    def usage(self, sub: str = "local") -> list[dict[str, Any]]:
        return [data for name, data in self.events(f"usage/{sub}") if name == "settled"]


async def read_topic(path: Path, topic: str) -> list[tuple[str, Any]]:
    log = SqliteLog(str(path), retention_policy(Settings()))
    await log.open()
    blocks: list[Block] = []
    try:
        while found := (await log.read(topic, blocks[-1].last if blocks else 0)).blocks:
            blocks += found
    finally:
        await log.close()
    return [(block.name, msgspec.json.decode(data)) for block in blocks for data in block.data]


class UpstreamThread:
    """The scripted upstream, on an event loop of its own."""

    def __init__(self) -> None:
        self.fake = FakeUpstream()
        self._thread = LoopThread(lambda: self.fake)

    def __enter__(self) -> "UpstreamThread":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.stop()

    @property
    def url(self) -> str:
        return self.fake.url

    @property
    def open_requests(self) -> list[Any]:
        return list(self.fake.open_requests)


def serving(folder: Path, upstream_url: str, **env: str) -> Gateway:
    """Returns a gateway whose upstream is the scripted one, not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    base = {"OPENAI_BASE_URL": upstream_url, "OPENAI_API_KEY": "sk-test", "TRILANE_MODEL": "ok"}
    return Gateway(folder, base | env)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects no garbage meanwhile, nor looks later through what was made here and stays: a second for each worker."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first, so that workers which share them come to an end together."""
    items.sort(key=lambda item: next((n for n, folder in enumerate(LONG_FOLDERS) if folder in item.path.parts), 9))


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Yields one gateway for a module; tests that end it start their own with `serving`."""
    made = serving(tmp_path_factory.mktemp("gateway"), upstream.url)
    try:
        yield made.start()
    finally:
        made.stop()
