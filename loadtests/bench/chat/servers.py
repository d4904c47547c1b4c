"""The servers that the chat benchmark measures, one at a time, alone on its core, beside a fake upstream.

What a peer keeps and what it does not stands at the top of its `peer_*` file. nginx passes bytes on and reads nothing.
"""

import contextlib
import os
import pwd
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.harness import machine, peers
from loadtests.bench.harness.peers import Environment
from loadtests.bench.harness.processes import CLIENT_CORE, ROOT, SERVER_CORE, await_ready, on_core, process, search_path
from loadtests.bench.native.build import tool

HERE = Path(__file__).parent

OPENAI_BODY = '{"model":"bench","stream":true,"user":"b-%d","messages":[{"role":"user","content":"T=@T I=@I"}]}'
MESSAGES_BODY = (
    '{"model":"bench","max_tokens":9999,"stream":true,"metadata":{"user_id":"b-%d"},'
    '"messages":[{"role":"user","content":"T=@T I=@I"}]}'
)
RESPONSES_BODY = '{"model":"bench","stream":true,"user":"b-%d","input":"T=@T I=@I"}'
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
class ChatTarget:
    """A server to measure. `drain_s` is how long its answers may run on once their readers should be gone."""

    name: str
    path: str
    body: str
    drain_s: float = 0.0
    environment: Environment | None = None
    """The environment that it runs in, when that is not ours."""
    ready: str = "/readyz"
    start_s: float = 30.0
    repeats: bool = False
    """Whether an answer says its tokens again at its end."""


_OPENAI = ("/v1/chat/completions", OPENAI_BODY)
_CHAT = ("/api/chat", CHAT_BODY)
_KNOWN = (
    ChatTarget("direct", *_OPENAI),
    ChatTarget("nginx", *_OPENAI),
    ChatTarget("litestar", *_OPENAI),
    ChatTarget("fastapi", *_OPENAI, environment=peers.FASTAPI),
    ChatTarget("litellm", *_OPENAI, environment=peers.LITELLM, ready="/health/readiness", start_s=90.0),
    ChatTarget("ai-sdk", *_CHAT, environment=peers.AI_SDK),
    ChatTarget("trilane", *_CHAT, drain_s=4.0),
    ChatTarget("trilane-v1", *_OPENAI, drain_s=4.0),
    ChatTarget("trilane-messages", "/v1/messages", MESSAGES_BODY, drain_s=4.0),
    ChatTarget("trilane-responses", "/v1/responses", RESPONSES_BODY, drain_s=4.0, repeats=True),
)
TARGETS = {target.name: target for target in _KNOWN}


@dataclass(frozen=True)
class Ports:
    """The ports that this run listens on."""

    server: int
    upstream: int


@contextlib.contextmanager
def upstream(port: int) -> Generator[int]:
    """Runs the fake upstream on the client's core; yields its pid."""
    with process(on_core(CLIENT_CORE, [str(tool("llm")), str(port)]), Path(tempfile.gettempdir()), {}) as child:
        await_ready(child, port, "/v1/models")
        yield child.pid


@contextlib.contextmanager
def server(
    target: ChatTarget, ports: Ports, settings: dict[str, str], *, is_pinned: bool = True
) -> Generator[list[int]]:
    """Runs the measured server, on its own core if pinned; yields the pids of its processes (none for `direct`)."""
    if target.name == "direct":
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        command, env = _command(target, ports, Path(folder), settings)
        command = on_core(SERVER_CORE, command) if is_pinned else command
        with process(command, Path(folder), env) as child:
            await_ready(child, ports.server, target.ready, target.start_s)
            yield machine.tree(child.pid)


def missing(target: ChatTarget) -> str | None:
    """Returns why a target cannot be measured here, and what to do; installs a peer's environment first."""
    if target.name == "nginx" and shutil.which("nginx", path=search_path()) is None:
        return "not installed (Debian: apt install nginx-light)"
    return peers.missing(target.environment)


def _command(
    target: ChatTarget, ports: Ports, folder: Path, settings: dict[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Returns the command that runs a target, and its environment variables. Raises NotStarted."""
    port = str(ports.server)
    env = {"OPENAI_BASE_URL": f"http://127.0.0.1:{ports.upstream}/v1", "OPENAI_API_KEY": "x"}
    here = {**env, "PYTHONPATH": str(ROOT)}
    match target.name:
        case "nginx":
            return _nginx(ports, folder)
        case "litestar":
            return [sys.executable, "-m", "loadtests.bench.chat.peer_litestar", port], here
        case "fastapi":
            return [peers.FASTAPI.python(), "-m", "loadtests.bench.chat.peer_fastapi", port], here
        case "litellm":
            return _litellm(port, env)
        case "ai-sdk":
            program = shutil.copy(HERE / "peer_ai_sdk.mjs", peers.AI_SDK.make())  # Node looks for packages beside it
            return [peers.node(), str(program), port], {**env, "NODE_ENV": "production"}
        case _:
            ours = {"TRILANE_MODEL": "bench", "TRILANE_DATA_DIR": str(folder / "data")}
            command = [sys.executable, "-m", "gateway", "serve", "chat", "--host", "127.0.0.1", "--port", port]
            return command, {**here, **ours, **settings}


def _nginx(ports: Ports, folder: Path) -> tuple[list[str], dict[str, str]]:
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    values = {"@USER": user, "@UPSTREAM": str(ports.upstream), "@PORT": str(ports.server)}
    text = NGINX
    for name, value in values.items():
        text = text.replace(name, value)
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], {}


def _litellm(port: str, env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    own = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches one at its start
    }
    run = [peers.LITELLM.python(), "-c", "import litellm; litellm.run_server()"]
    config = ["--config", str(HERE / "peer_litellm.yaml"), "--host", "127.0.0.1", "--port", port, "--num_workers", "1"]
    return [*run, *config], {**env, **own}
