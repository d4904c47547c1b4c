"""Gateways on one log, whose tool asks and counts its calls, and what a client does in their chats."""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2

from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, ROOT, SERVER_CORE, NotStarted, await_ready, on_core, process

TOOL = "desk__count"
FILE = """
[[upstream]]
name = "default"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "x"
model = "ok"

[[mcp]]
name = "desk"
command = ["{python}", "-m", "loadtests.counting_server"]
env = ["NOTES", "PYTHONPATH"]
[mcp.tools.count]
approve = "ask"
effect = "once"
"""
START_S = 120.0
OFFERED_S = 60.0
TIMEOUT_S = 60.0


class Asking(NamedTuple):
    """What runs: the gateways, and the file in which their tool notes its calls."""

    urls: list[str]
    pids: list[int]
    notes: Path

    @property
    def calls(self) -> list[str]:
        """Returns the text of each call."""
        return self.notes.read_text().splitlines()


@contextlib.contextmanager
def asking(port: int, count: int, settings: dict[str, str], more: str = "") -> Generator[Asking]:
    """Runs a fake upstream on `port`, and so many gateways on the ports after it; `more` ends their file of upstreams.

    Raises NotStarted.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trilane-bench-")))
        notes, file, here = folder / "notes", folder / "upstreams.toml", {"PYTHONPATH": str(ROOT)}
        notes.touch()
        file.write_text(FILE.format(upstream=port, python=sys.executable) + more)
        command = [sys.executable, "-m", "loadtests.upstream", "--port", str(port)]
        upstream = stack.enter_context(process(on_core(CLIENT_CORE, command), folder, here))
        await_ready(upstream, port, "/v1/models", START_S)
        env = {**here, "NOTES": str(notes), "TRILANE_UPSTREAMS": str(file), "TRILANE_DATA_DIR": str(folder / "data")}
        pids: list[int] = []
        for own in range(port + 1, port + 1 + count):
            command = [sys.executable, "-m", "gateway", "serve", "chat", "--host", "127.0.0.1", "--port", str(own)]
            child = stack.enter_context(process(on_core(SERVER_CORE, command), folder, {**env, **settings}))
            await_ready(child, own, "/readyz", START_S)
            pids.append(child.pid)
        there = Asking([f"http://127.0.0.1:{port + 1 + place}" for place in range(count)], pids, notes)
        for url in there.urls:
            _await_tools(url)
        yield there


def _await_tools(url: str) -> None:
    """Waits until a gateway offers its tool: its server starts beside it."""
    end, number = time.monotonic() + OFFERED_S, 0
    while not park(url, f"warm-{url[-5:]}-{number}", TOOL):
        if time.monotonic() > end:
            raise NotStarted(f"the gateway at {url} offers no tools")
        number += 1
        time.sleep(0.1)


def client() -> httpx2.Client:
    """Returns a client that keeps no connection: a gateway may close one that waits, as others wait for their turn."""
    return httpx2.Client(timeout=TIMEOUT_S, limits=httpx2.Limits(max_keepalive_connections=0), verify=False)


def body_of(chat_id: str, text: str) -> dict[str, Any]:
    """Returns a question as a client posts it."""
    return {"id": chat_id, "message": {"id": "u1", "role": "user", "parts": [{"type": "text", "text": text}]}}


def park(url: str, chat_id: str, tool: str = "", calls: str = "tools") -> list[dict[str, Any]]:
    """Has a chat ask; returns its asks, and none where the gateway does not know the tool yet."""
    named = f" C={tool}" if tool else ""
    with client() as http:
        http.post(f"{url}/api/chat", json=body_of(chat_id, f"{chat_id} B={calls}{named} T=1 I=0")).raise_for_status()
    asks = chat_of(url, chat_id)["pending"]
    return [ask for ask in asks if not tool or ask.get("kind", "approval") == "approval"]


def chat_of(url: str, chat_id: str) -> dict[str, Any]:
    with client() as http:
        return http.get(f"{url}/api/chat/{chat_id}").raise_for_status().json()


def tasks_of(url: str) -> float:
    """Returns the number of tasks of a gateway's event loop."""
    with client() as http:
        lines = http.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith("trilane_gateway_tasks "))


def memory_kib(pid: int) -> float:
    """Returns what a process has of memory for itself alone."""
    return machine.own_memory_kib(pid)


def answered(message: dict[str, Any], ask: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Returns an answer as a client holds it on which somebody has answered an ask."""
    parts = [part | fields if part.get("toolCallId") == ask["toolCallId"] else part for part in message["parts"]]
    return {**message, "parts": parts}


def responded(message: dict[str, Any], ask: dict[str, Any], *, approved: bool) -> dict[str, Any]:
    """Returns that where the ask is whether a call may be made."""
    approval = {"id": ask["approvalId"], "approved": approved}
    return answered(message, ask, state="approval-responded", approval=approval)


def first_token_ms(http: httpx2.Client, method: str, url: str, **request: Any) -> float:
    """Returns how long it takes from a request to the first text of its stream. Raises NotStarted where none comes."""
    began = time.perf_counter()
    with http.stream(method, url, timeout=TIMEOUT_S, **request) as response:
        lines = response.iter_lines()
        for line in lines:
            if line.startswith('data: {"type":"text-delta"'):
                took = (time.perf_counter() - began) * 1000
                for _ in lines:
                    pass
                return took
    raise NotStarted(f"{method} {url}: {response.status_code}, and no text came")


def kinds_of(lines: list[str], call_id: str) -> set[str]:
    """Returns the types of the records about a call, of the lines of a stream."""
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return {chunk["type"] for chunk in chunks if chunk.get("toolCallId") == call_id}
