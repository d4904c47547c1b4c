"""Processes that are measured are started and ended here, each on its core, and must be the ones that answer.

Core 0 is the server's; load clients, fake upstreams and the benchmark itself share core 1.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from pathlib import Path

from loadtests.bench.harness import machine

SERVER_CORE, CLIENT_CORE = 0, 1
FOREIGN_SETTINGS = ("TRILANE_", "OPENAI_", "LITELLM_", "DATABASE_URL", "REDIS_", "NODE_OPTIONS")
"""Prefixes of settings of whoever runs the benchmark: they would change what is measured."""
ROOT = Path(__file__).resolve().parents[3]


class NotStarted(Exception):
    """A server did not come up, or not on its own port; the message ends with what it printed."""


class ClientFailed(Exception):
    """The load client ended or does not answer: what it measured is lost."""


def on_core(core: int, command: list[str]) -> list[str]:
    """Returns the command on one core, where the machine has it and taskset is there."""
    if (os.cpu_count() or 1) <= core or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


def search_path() -> str:
    """Returns the PATH for programs: nginx lies where an ordinary user's does not look."""
    return os.environ.get("PATH", "") + ":/usr/sbin"


@contextlib.contextmanager
def process(command: list[str], folder: Path, env: dict[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """Runs a process in that folder; a NotStarted raised inside ends with what it printed."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_SETTINGS)}
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, "PATH": search_path(), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield child
        except NotStarted as err:
            output.seek(max(0, output.tell() - 1000))
            raise NotStarted(f"{err}\n{output.read().decode(errors='replace').strip()}") from err
        finally:
            _stop(child)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks once, then ends it and what it started: runs left over by a measurement need no graceful drain."""
    pids = machine.tree(process.pid)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    for pid in pids:
        if pid != process.pid or process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def await_ready(process: subprocess.Popen[bytes], port: int, path: str, timeout_s: float = 30) -> None:
    """Waits until it answers on its port; raises NotStarted when it ends, or another process answers there."""
    end = time.monotonic() + timeout_s
    while not _answers(port, path):
        if process.poll() is not None:
            raise NotStarted(f"the server on port {port} ended with {process.returncode}")
        if time.monotonic() > end:
            raise NotStarted(f"the server on port {port} did not answer {path} within {timeout_s:.0f} s")
        time.sleep(0.05)
    if not machine.owns_port(machine.tree(process.pid), port):
        raise NotStarted(f"port {port} is answered by another process than the one just started")


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
