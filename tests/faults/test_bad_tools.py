"""Tools that do what tools should not, as a chat shows them: servers made with the package `mcp`, over both transports.

The model calls the tool that the question names. `tests/gateway/chat/tools` has what a single server may do wrong.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest

from loadtests.ports import free_port
from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import UpstreamThread, eventually, serving
from tests.gateway.chat.tools.boxes import HERE, STARTS_S, http_server

TRANSPORTS = ("piped", "web")
"""Names of the servers: the first speaks stdio, the second Streamable HTTP."""
HUGE = 50_000_000
MAX_OUTPUT = 256 << 10
MAX_GROWTH = 60 << 20
NEW_DESCRIPTION = "Sends all of your money away."
HASTE_S, PATIENCE_S = 2, 100
UPSTREAM = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "calls"
"""
SERVERS = """
[[mcp]]
name = "{before}piped"
command = ["{python}", "{server}"]
env = ["PATH", "NOTES"]
timeout_s = {timeout_s}
{tools}
[[mcp]]
name = "{before}web"
url = "http://127.0.0.1:{port}/mcp"
timeout_s = {timeout_s}
{tools}
"""
READING = ("garbage", "big", "change", "add", "echo")
TOOLS = {**dict.fromkeys(READING, "read"), "crash": "once"}
ASKING = ("echo",)


async def call_the_tool(answer: Answer) -> None:
    """Calls the tool that the question names with the input that it gives, and speaks once there is a result."""
    if answer.ask.after_tool:
        return await TABLE["ok"].behave(answer)
    name, arguments, *_ = answer.ask.body["messages"][-1]["content"].split("\n")
    await start(answer)
    await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [shapes.tool_call(0, name, arguments)]}))
    return await finish(answer, "tool_calls")


def tables_of(effects: dict[str, str]) -> str:
    """Returns the tables of tools with these effects."""
    table = '[mcp.tools.{}]\napprove = "{}"\neffect = "{}"\n'
    return "".join(table.format(tool, "ask" if tool in ASKING else "auto", effects[tool]) for tool in effects)


class Tools:
    """A gateway with both servers, of which that over HTTP can be started again."""

    def __init__(self, folder: Path, upstream: UpstreamThread) -> None:
        self._port, self._notes = free_port(), folder / "notes"
        self._upstream = upstream
        self._server = ExitStack()
        file, program = folder / "upstreams.toml", HERE / "tool_server.py"
        same = {"python": sys.executable, "server": program, "port": self._port}
        patient = SERVERS.format(before="", timeout_s=PATIENCE_S, tools=tables_of(TOOLS), **same)
        hasty = SERVERS.format(before="hasty_", timeout_s=HASTE_S, tools=tables_of({"hang": "read"}), **same)
        file.write_text(UPSTREAM.format(upstream=upstream.url) + patient + hasty)
        env = {"TRILANE_UPSTREAMS": str(file), "NOTES": str(self._notes)}
        self.gateway = serving(folder, upstream.url, **env)

    def start(self) -> "Tools":
        self.serve_web()
        self.gateway.start()
        for transport in TRANSPORTS:
            self.until_called(transport)
        return self

    def serve_web(self) -> None:
        self._server.close()
        self._server.enter_context(http_server(self._port, self._notes))

    def until_called(self, transport: str) -> None:
        """Waits until a server answers calls."""
        eventually(lambda: self.call(transport, "add", a=1, b=2).get("output") == {"sum": 3}, STARTS_S, every_s=0.2)

    def stop(self) -> None:
        self.gateway.stop()
        self._server.close()

    def call(self, transport: str, tool: str, chat: str = "", **arguments: object) -> dict[str, Any]:
        """Lets a chat call a tool, and returns the call as the chat shows it once nothing runs any more.

        It is empty where the gateway does not offer the tool: then the call is the client's.
        """
        chat = chat or uuid4().hex
        text = f"{transport}__{tool}\n{json.dumps(arguments)}\nT=2 I=0"
        message = {"id": f"{chat}-u", "role": "user", "parts": [{"type": "text", "text": text}]}
        answer = httpx2.post(f"{self.gateway.url}/api/chat", json={"id": chat, "message": message}, timeout=100)
        assert answer.text.endswith("data: [DONE]\n\n"), answer.text[-1000:]
        return self.shown(chat)

    def snapshot(self, chat: str) -> dict[str, Any]:
        return httpx2.get(f"{self.gateway.url}/api/chat/{chat}", timeout=30).json()

    def shown(self, chat: str) -> dict[str, Any]:
        eventually(lambda: self.snapshot(chat)["activeRun"] is None, 60)
        parts = self.snapshot(chat)["messages"][-1]["parts"]
        return next((part for part in parts if part["type"] == "dynamic-tool"), {})

    def offered(self, name: str) -> str:
        """Returns what a model is told of a tool now."""
        self.call("web", "add", a=1, b=2)
        body = self._upstream.fake.requests[-1].body
        assert body is not None
        return next(json.dumps(one) for one in body["tools"] if one["function"]["name"] == name)

    def approve(self, chat: str) -> dict[str, Any]:
        [ask] = self.snapshot(chat)["pending"]
        url = f"{self.gateway.url}/api/chat/{chat}/approvals/{ask['approvalId']}"
        assert httpx2.post(url, json={"approved": True}, timeout=30).status_code == 200
        return self.shown(chat)


@pytest.fixture(scope="module")
def tools(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    upstream.fake.script("calls", call_the_tool)
    tools = Tools(tmp_path_factory.mktemp("tools"), upstream)
    try:
        yield tools.start()
    finally:
        tools.stop()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_tool_that_hangs_is_given_up_after_its_time(transport: str, tools: Tools) -> None:
    eventually(lambda: tools.call(f"hasty_{transport}", "hang", seconds=0), STARTS_S, "the tool is offered")
    call = tools.call(f"hasty_{transport}", "hang", seconds=600)
    assert call["state"] == "output-error"
    assert f"did not answer within {HASTE_S} s" in call["errorText"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_that_dies_of_a_call_leaves_a_doubt_and_is_found_again(transport: str, tools: Tools) -> None:
    chat = uuid4().hex
    assert tools.call(transport, "crash", chat)["state"] == "approval-requested"
    [ask] = tools.snapshot(chat)["pending"]
    assert (ask["kind"], ask["toolName"]) == ("doubt", f"{transport}__crash")
    if transport == "web":
        tools.serve_web()
    tools.until_called(transport)


def test_garbage_between_the_lines_of_a_server_is_dropped(tools: Tools) -> None:
    call = tools.call("piped", "garbage")
    assert (call["state"], call["output"]) == ("output-available", {"result": "after garbage"})


def test_garbage_in_place_of_an_answer_is_an_error_and_the_next_call_is_answered(tools: Tools) -> None:
    call = tools.call("web", "garbage")
    assert call["state"] == "output-error"
    assert "garbage" in call["errorText"]
    assert tools.call("web", "add", a=1, b=2)["output"] == {"sum": 3}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_huge_result_is_cut_and_does_not_grow_the_gateway(transport: str, tools: Tools) -> None:
    before = psutil.Process(tools.gateway.pid).memory_info().rss
    call = tools.call(transport, "big", count=HUGE)
    assert call["state"] == "output-available"
    assert "xxx" in call["output"]
    assert len(call["output"]) <= MAX_OUTPUT
    assert int(call["output"].split("cut: the tool gave ")[1].split()[0]) >= HUGE
    assert psutil.Process(tools.gateway.pid).memory_info().rss - before < MAX_GROWTH


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_tool_that_has_changed_since_it_was_asked_about_is_asked_about_again(transport: str, tools: Tools) -> None:
    chat = uuid4().hex
    assert tools.call(transport, "echo", chat, text="hi")["state"] == "approval-requested"
    [first] = tools.snapshot(chat)["pending"]
    changed = tools.call(transport, "change", description=NEW_DESCRIPTION)
    assert changed["output"] == {"result": "changed"}
    eventually(lambda: NEW_DESCRIPTION in tools.offered(f"{transport}__echo"), 30, "the gateway has seen the change")
    assert tools.approve(chat)["state"] == "approval-requested"
    [second] = tools.snapshot(chat)["pending"]
    assert first["approvalId"] != second["approvalId"]
    notes = [part["data"].get("note") for part in tools.snapshot(chat)["messages"][-1]["parts"] if "data" in part]
    assert notes[-1] == "tool_changed"
    call = tools.approve(chat)
    assert (call["state"], call["output"]) == ("output-available", {"result": "hi"})
