"""The events benchmark measures Trilane's events unit, the same under plain uvicorn, and what others run.

Each runs alone on the server's core, with pings every 15 s (Litestar sends none). Ours keep events in SQLite, Nchan in
its memory, the other peers nowhere: what they cannot do for that reason stands in `EventsTarget.cannot`.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.harness import machine, peers
from loadtests.bench.harness.peers import Environment
from loadtests.bench.harness.processes import ROOT, SERVER_CORE, await_ready, on_core, process, search_path

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
class EventsTarget:
    """A server to measure, with its routes, which contain `@TOPIC`."""

    name: str
    subscribe: str
    earliest: str
    publish: str
    trilane: bool = False
    """Whether it publishes lists, says hello, and keeps events in a database."""
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])
    """Reasons, each after "it cannot", for which a case means nothing for it."""
    environment: Environment | None = None
    """The environment that it runs in, when that is not ours."""

    def options(self, port: int, topic: str) -> dict[str, object]:
        """Returns what the load client must know."""
        paths = {"path": self.subscribe, "earliest": self.earliest, "publish-path": self.publish}
        own: dict[str, object] = {"topic": topic, "hello": True} if self.trilane else {}
        return {"port": port, **{name: path.replace("@TOPIC", topic) for name, path in paths.items()}, **own}


_OURS = ("/api/events?topic=@TOPIC", "/api/events?topic=@TOPIC&from=earliest", "/api/events")
_THEIRS = ("/events?topic=@TOPIC", "/events?topic=@TOPIC", "/publish?topic=@TOPIC")
_KEEPS_NOTHING = {
    "slow": "keep what a reader has not read",
    "storm": "tell a reader that comes back what it has missed",
    "replay": "say again what was said before",
}
_KNOWN = (
    EventsTarget("nchan", "/events?topic=@TOPIC", "/earliest?topic=@TOPIC", "/publish?topic=@TOPIC"),
    EventsTarget("fastapi", *_THEIRS, cannot=_KEEPS_NOTHING, environment=peers.FASTAPI),
    EventsTarget("litestar", *_THEIRS, cannot=_KEEPS_NOTHING),
    EventsTarget("nginx", *_THEIRS),
    EventsTarget("trilane", *_OURS, trilane=True),
    EventsTarget("plain", *_OURS, trilane=True),
)
TARGETS = {target.name: target for target in _KNOWN}


@contextlib.contextmanager
def server(target: EventsTarget, port: int, folder: Path, settings: dict[str, str]) -> Generator[list[int]]:
    """Runs the server on its core, its data in `folder`; yields the pids of its processes. Raises NotStarted."""
    command, env = _command(target, port, folder, settings)
    with process(on_core(SERVER_CORE, command), folder, env) as child:
        await_ready(child, port, "/readyz")
        yield machine.tree(child.pid)


def missing(target: EventsTarget) -> str | None:
    """Returns why a target cannot be measured here, and what to do; installs a peer's environment first."""
    match target.name:
        case "nginx":
            return "serves no events of its own: it needs a module, see nchan"
        case "nchan" if _nchan_module() is None:
            return "not installed (Debian: apt install nginx-light libnginx-mod-nchan)"
    return peers.missing(target.environment)


def _command(
    target: EventsTarget, port: int, folder: Path, settings: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Returns the command to run, and its environment variables. Raises NotStarted."""
    here = {"PYTHONPATH": str(ROOT)}
    match target.name:
        case "nchan":
            return _nchan(port, folder)
        case "fastapi":
            return [peers.FASTAPI.python(), "-m", "loadtests.bench.events.peer_fastapi", str(port)], here
        case "litestar":
            return [sys.executable, "-m", "loadtests.bench.events.peer_litestar", str(port)], here
        case _:
            return _trilane(target, port, folder, {**here, **settings})


def _trilane(
    target: EventsTarget, port: int, folder: Path, settings: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    env = {
        "TRILANE_LOG": f"sqlite:///{folder / 'events.db'}",
        "TRILANE_DATA_DIR": str(folder),
        "TRILANE_LIMIT_PROCESS_STREAMS": str(MOST_STREAMS),
        **settings,
    }
    if target.name == "plain":
        return [sys.executable, "-m", "loadtests.bench.events.plain", str(port)], env
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
    """Returns Nchan's module, where this machine's nginx looks for its modules."""
    program = shutil.which("nginx", path=search_path())
    if program is None:
        return None
    output = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    modules = re.search(r"--modules-path=(\S+)", output)
    module = Path(modules.group(1)) / NCHAN if modules else None
    return module if module and module.exists() else None
