"""What the events benchmark measures: Trilane's events unit, the same under plain uvicorn, and nginx with Nchan.

Each runs alone on the server's core, on SQLite (Nchan: its own memory), with pings every 15 s.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import machine
from loadtests.bench.processes import ROOT, SERVER_CORE, await_ready, pinned, process, search_path

HOST = "127.0.0.1"
NCHAN = "ngx_nchan_module.so"
MOST_STREAMS = 30_000
NGINX = """
load_module @MODULE;
@USER worker_processes 1; daemon off; pid nginx.pid; error_log stderr; worker_rlimit_nofile @FILES;
events { worker_connections @CONNECTIONS; multi_accept on; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  nchan_shared_memory_size 256M;
  server {
    listen 127.0.0.1:@PORT backlog=4096;
    nchan_channel_id $arg_topic;
    location = /readyz { return 200; }
    location = /publish { nchan_publisher; nchan_message_buffer_length 20000; nchan_message_timeout 600s; }
    location = /events {
      nchan_subscriber eventsource; nchan_subscriber_first_message newest;
      nchan_eventsource_ping_interval 15; nchan_eventsource_ping_comment "ping";
      nchan_eventsource_ping_event ""; nchan_eventsource_ping_data "";
    }
    location = /earliest { nchan_subscriber eventsource; nchan_subscriber_first_message oldest; }
  }
}
"""


@dataclass(frozen=True)
class Target:
    """Something to measure: its routes, `@TOPIC` in them."""

    name: str
    subscribe: str
    earliest: str
    publish: str
    trilane: bool = True
    """Publishes lists, says hello, keeps events in a database."""

    def options(self, port: int, topic: str) -> dict[str, object]:
        """What the load client must know."""
        paths = {"path": self.subscribe, "earliest": self.earliest, "publish-path": self.publish}
        own: dict[str, object] = {"topic": topic, "hello": True} if self.trilane else {}
        return {"port": port, **{name: path.replace("@TOPIC", topic) for name, path in paths.items()}, **own}


_OURS = ("/api/events?topic=@TOPIC", "/api/events?topic=@TOPIC&from=earliest", "/api/events")
TARGETS = {
    "nchan": Target("nchan", "/events?topic=@TOPIC", "/earliest?topic=@TOPIC", "/publish?topic=@TOPIC", trilane=False),
    "trilane": Target("trilane", *_OURS),
    "plain": Target("plain", *_OURS),
}


@contextlib.contextmanager
def server(target: Target, port: int, folder: Path, settings: dict[str, str]) -> Generator[list[int]]:
    """The server on its core, its data in `folder`; yields the pids of its processes. Raises NotStarted."""
    command, env = _nchan(port, folder) if target.name == "nchan" else _trilane(target, port, folder)
    with process(pinned(SERVER_CORE, command), folder, {**env, **(settings if target.trilane else {})}) as started:
        await_ready(started, port, "/readyz")
        yield machine.tree(started.pid)


def missing(target: Target) -> str | None:
    """Why a target cannot be measured here."""
    if target.name == "nchan" and _nchan_module() is None:
        return "not installed"
    return None


def _trilane(target: Target, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    env = {
        "TRILANE_LOG": f"sqlite:///{folder / 'events.db'}",
        "TRILANE_DATA_DIR": str(folder),
        "TRILANE_LIMIT_STREAMS": str(MOST_STREAMS),
        "PYTHONPATH": str(ROOT),
    }
    if target.name == "plain":
        return [sys.executable, "-m", "loadtests.bench.plain", str(port)], env
    return [sys.executable, "-m", "gateway", "serve", "events", "--host", HOST, "--port", str(port)], env


def _nchan(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    files = machine.allow_descriptors()
    values = {
        "@MODULE": str(_nchan_module()),
        "@USER": f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else "",
        "@FILES": str(files),
        "@CONNECTIONS": str(min(files - 100, MOST_STREAMS)),
        "@PORT": str(port),
    }
    text = NGINX
    for name, value in values.items():
        text = text.replace(name, value)
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"], {}


def _nchan_module() -> Path | None:
    """Nchan's module, where this machine's nginx looks for its modules."""
    program = shutil.which("nginx", path=search_path())
    if program is None:
        return None
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"--modules-path=(\S+)", said)
    module = Path(found.group(1)) / NCHAN if found else None
    return module if module and module.exists() else None
