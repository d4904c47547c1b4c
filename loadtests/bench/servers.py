"""What the chat benchmark measures: one server at a time, alone on its core, beside a fake upstream."""

import contextlib
import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import machine
from loadtests.bench.processes import CLIENT_CORE, ROOT, SERVER_CORE, await_ready, pinned, process, search_path

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


@contextlib.contextmanager
def upstream(program: Path, port: int) -> Generator[int]:
    """The fake upstream on the client's core; yields its pid."""
    with process(pinned(CLIENT_CORE, [str(program), str(port)]), Path(tempfile.gettempdir()), {}) as started:
        await_ready(started, port, "/v1/models")
        yield started.pid


@contextlib.contextmanager
def server(target: Target, ports: Ports, settings: dict[str, str]) -> Generator[list[int]]:
    """The measured server on its own core; yields the pids of its processes (none for `direct`)."""
    if target.name == "direct":
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        command, env = _command(target, ports, Path(folder), settings)
        with process(pinned(SERVER_CORE, command), Path(folder), env) as started:
            await_ready(started, ports.server, "/readyz")
            yield machine.tree(started.pid)


def missing(target: Target) -> str | None:
    """Why a target cannot be measured here."""
    if target.name == "nginx" and shutil.which("nginx", path=search_path()) is None:
        return "not installed"
    return None


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
