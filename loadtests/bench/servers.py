"""Starts what is measured: one server at a time, alone on its core, and makes sure it is the one that answers.

Core 0 is the server's; the load client, the fake upstream and this program share core 1.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import machine

SERVER_CORE, CLIENT_CORE = 0, 1
ROOT = Path(__file__).resolve().parents[2]

OPENAI_BODY = '{"model":"bench","stream":true,"user":"b-%d","messages":[{"role":"user","content":"T=@T I=@I"}]}'
CHAT_BODY = (
    '{"id":"b-%d","messages":[{"id":"m-%d","role":"user","parts":[{"type":"text","text":"T=@T I=@I"}]}],'
    '"trigger":"submit-message"}'
)

NGINX = """
@USER worker_processes 1; daemon off; pid nginx.pid; error_log stderr;
events { worker_connections 8192; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream llm { server 127.0.0.1:@UPSTREAM; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:@PORT backlog=4096;
    location = /readyz { return 200; }
    location / { proxy_pass http://llm; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }
  }
}
"""


@dataclass(frozen=True)
class Target:
    """Something to measure. `drain_s`: how long its answers may run on once their readers should be gone."""

    name: str
    path: str
    body: str
    drain_s: float = 0.0


TARGETS = {
    "direct": Target("direct", "/v1/chat/completions", OPENAI_BODY),
    "nginx": Target("nginx", "/v1/chat/completions", OPENAI_BODY),
    "litestar": Target("litestar", "/v1/chat/completions", OPENAI_BODY),
    "trilane": Target("trilane", "/api/chat", CHAT_BODY, drain_s=4.0),
    "trilane-v1": Target("trilane-v1", "/v1/chat/completions", OPENAI_BODY, drain_s=4.0),
}


@dataclass(frozen=True)
class Ports:
    """Where this run listens."""

    server: int
    upstream: int


class NotStarted(Exception):
    """A server did not come up, or not on its own port; the message ends with what it printed."""


def pinned(core: int, command: list[str]) -> list[str]:
    """The command on one core, where the machine has it and taskset is there."""
    if (os.cpu_count() or 1) <= core or shutil.which("taskset") is None:
        return command
    return ["taskset", "-c", str(core), *command]


@contextlib.contextmanager
def upstream(program: Path, port: int) -> Iterator[int]:
    """The fake upstream on the client's core; yields its pid."""
    with _process(pinned(CLIENT_CORE, [str(program), str(port)]), Path(tempfile.gettempdir()), {}) as process:
        _await_ready(process, port, "/v1/models")
        yield process.pid


@contextlib.contextmanager
def server(target: Target, ports: Ports, settings: dict[str, str]) -> Iterator[list[int]]:
    """The measured server on its own core; yields the pids of its processes (none for `direct`)."""
    if target.name == "direct":
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        command, env = _command(target, ports, Path(folder), settings)
        with _process(pinned(SERVER_CORE, command), Path(folder), env) as process:
            _await_ready(process, ports.server, "/readyz")
            yield machine.tree(process.pid)


def missing(target: Target) -> str | None:
    """Why a target cannot be measured here."""
    if target.name == "nginx" and shutil.which("nginx", path=_search_path()) is None:
        return "not installed"
    return None


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin"


def _command(target: Target, ports: Ports, folder: Path, settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    if target.name == "nginx":
        user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
        values = {"@USER": user, "@UPSTREAM": str(ports.upstream), "@PORT": str(ports.server)}
        text = NGINX
        for name, value in values.items():
            text = text.replace(name, value)
        (folder / "nginx.conf").write_text(text)
        return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], {}
    env = {
        "OPENAI_BASE_URL": f"http://127.0.0.1:{ports.upstream}/v1",
        "OPENAI_API_KEY": "x",
        "TRILANE_MODEL": "bench",
        "TRILANE_DATA_DIR": str(folder / "data"),
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    port = str(ports.server)
    if target.name == "litestar":
        return [sys.executable, "-m", "loadtests.bench.peer_litestar", port], env
    return [sys.executable, "-m", "gateway", "serve", "chat", "--host", "127.0.0.1", "--port", port], env


@contextlib.contextmanager
def _process(command: list[str], folder: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TRILANE_", "OPENAI_"))}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, "PATH": _search_path(), **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        except NotStarted as err:
            output.seek(max(0, output.tell() - 3000))
            raise NotStarted(f"{err}\n{output.read().decode(errors='replace')}") from err
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask once, then end it: runs left over by a measurement need no graceful drain."""
    pids = machine.tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(3)
    except subprocess.TimeoutExpired:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _await_ready(process: subprocess.Popen[bytes], port: int, path: str, timeout_s: float = 30) -> None:
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
