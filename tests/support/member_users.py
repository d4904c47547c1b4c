"""Users who share chats: their keys, their calls, and a model that asks for what somebody must allow."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, serving
from tests.support.sse_client import user_message

USERS = ("alice", "otto", "edit", "appo", "view", "eve", "newt")
ROLES = {"otto": "owner", "edit": "editor", "appo": "approver", "view": "viewer"}
"""Whom Alice adds to her chats, and as what; Eve is a stranger."""
ASKING = "asks-members"
SERVER = Path(__file__).parents[1] / "gateway" / "chat" / "tools" / "raw_server.py"
TOOLS = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "ok"

[[mcp]]
name = "desk"
command = ["{python}", "{server}"]
[mcp.tools.echo]
approve = "ask"
"""


async def asks(answer: Answer) -> None:
    """Calls a tool that somebody must allow, and says something once it has the result."""
    if answer.ask.after_tool:
        return await TABLE["ok"].behave(answer)
    await start(answer)
    call = shapes.tool_call(0, "desk__echo", '{"text":"one"}')
    await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [call]}))
    return await finish(answer, "tool_calls")


def key(user: str) -> str:
    return f"key-of-{user}-0123456789abcdef0123456789"


class User:
    """One user's calls."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self.name = name
        self.http = httpx2.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {key(name)}"}, timeout=60, trust_env=False
        )

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        return self.http.request(method, path, json=body, **more)

    def say(self, chat: str, text: str, message_id: str = "", **more: Any) -> httpx2.Response:
        message = user_message(text, message_id or f"m-{time.monotonic_ns()}")
        return self.call("POST", "/api/chat", {"id": chat, "message": message, **more})

    def chat(self, chat: str) -> Any:
        return self.call("GET", f"/api/chat/{chat}").json()


Users = dict[str, User]


def shared(users: Users, chat_id: str, **roles: str) -> str:
    """Has Alice make a chat, and add members; returns the shared id."""
    alice = users["alice"]
    assert alice.say(chat_id, "T=1 I=0", f"m-{chat_id}").status_code == 200
    answer: Any = {}
    for name, role in (roles or ROLES).items():
        answer = alice.call("PUT", f"/api/chat/{chat_id}/members/{name}", {"role": role})
        assert answer.status_code == 200, answer.text
    return answer.json()["sharedId"]


def member_gateways(upstream: UpstreamThread, folder: Path) -> Iterator[list[Gateway]]:
    """Yields two processes on one log, in which all of USERS sign in."""
    file = folder / "upstreams.toml"
    file.write_text(TOOLS.format(upstream=upstream.url, python=sys.executable, server=SERVER))
    upstream.fake.script(ASKING, asks)
    keys = ",".join(f"{user}:{key(user)}" for user in USERS)
    made = [serving(folder, upstream.url, TRILANE_API_KEYS=keys, TRILANE_UPSTREAMS=str(file)) for _ in range(2)]
    try:
        for gateway in made:
            gateway.unit = "all"
            gateway.start()
        yield made
    finally:
        for gateway in made:
            gateway.stop()


def member_users(gateway: Gateway) -> Iterator[Users]:
    """Yields all of USERS, signed in at one process."""
    made = {name: User(gateway, name) for name in USERS}
    yield made
    for user in made.values():
        user.http.close()


@contextmanager
def reading(user: User, url: str, path: str, into: list[str]) -> Iterator[threading.Thread]:
    """Reads a stream's lines in a thread; the thread ends when the stream does."""

    def read() -> None:
        headers = {"authorization": f"Bearer {key(user.name)}", "accept": "text/event-stream"}
        with httpx2.stream("GET", url + path, headers=headers, timeout=60, trust_env=False) as answer:
            into.append(str(answer.status_code))
            for line in answer.iter_lines():
                into.append(line)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
        assert not thread.is_alive()
