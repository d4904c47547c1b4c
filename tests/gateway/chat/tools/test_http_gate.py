"""Over HTTP a call says truly whether it was made, whatever its server or what stands before that answers."""

import asyncio
import gzip
import json
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.chat.tools import server
from gateway.errors import ToolError, ToolUnreachable
from gateway.tool_settings import McpSettings, ToolSettings
from gateway.upstream_settings import Network
from tests.gateway.chat.tools.boxes import Box, box_of, run
from tests.support.authority import Authority
from tests.support.raw_server import Peer, RawServer

TOOLS = ["echo", "cut", "half", "reset", "huge", "forget", "pretty", "lines"]


def head(status: str, length: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {length}", *lines, "", ""]).encode()


class SessionServer:
    """A server of the protocol's older revision, with sessions, which its tools have do what servers should not."""

    def __init__(self, status: str = "", tls: ssl.SSLContext | None = None) -> None:
        """`status`: what a call is answered in place of a result."""
        self.server = RawServer(self._serve, tls)
        self.sessions: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        """The name and the `Idempotency-Key` of each call that was made."""
        self.heads: list[bytes] = []
        self.status = status
        self.coding = ""

    @property
    def settings(self) -> McpSettings:
        headers = {"x-team": "a"}
        tools = {name: ToolSettings() for name in TOOLS}
        return McpSettings(name="web", url=f"{self.server.url}/mcp", headers=headers, tools=tools)

    async def _serve(self, peer: Peer) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._exchange(peer):
                pass

    async def _exchange(self, peer: Peer) -> bool:
        """Answers one request; returns whether the connection stays open."""
        body = await peer.request()
        self.heads.append(peer.heads[-1])
        if not body:  # there are no news to be had, and no session to be left
            await peer.send(head("405 Method Not Allowed", 0))
            return True
        lines = dict(line.split(": ", 1) for line in peer.heads[-1].decode().split("\r\n")[1:-2])
        return await self._answer(peer, json.loads(body), {name.lower(): text for name, text in lines.items()})

    async def _answer(self, peer: Peer, request: dict[str, Any], lines: dict[str, str]) -> bool:
        session = lines.get("mcp-session-id", "")
        match request["method"]:
            case "initialize":
                self.sessions.add(name := f"s{len(self.heads)}")
                version = request["params"]["protocolVersion"]
                info = {"name": "web", "version": "1"}
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
                await self._result(peer, request, result, f"mcp-session-id: {name}")
            case "server/discover":
                await peer.send(head("404 Not Found", 0))
            case _ if session not in self.sessions:
                await peer.send(head("404 Not Found", 0))
            case "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
                await self._result(peer, request, {"tools": tools})
            case "tools/call":
                return await self._call(peer, request, lines)
            case _:
                await peer.send(head("202 Accepted", 0))
        return True

    async def _call(self, peer: Peer, request: dict[str, Any], lines: dict[str, str]) -> bool:
        if self.status:
            await peer.send(head(self.status, 0, "location: http://elsewhere/mcp"))
            return True
        name = request["params"]["name"]
        self.calls.append((name, lines.get("idempotency-key", "")))
        match name:
            case "cut":
                return False
            case "reset":
                peer.reset()
                return False
            case "half":
                await peer.send(head("200 OK", 500, "content-type: application/json"), b'{"jsonrpc":')
                return False
            case "huge":
                text = json.dumps({"content": [{"type": "text", "text": "x" * 6_000_000}]})
                await peer.send(head("200 OK", len(text), "content-type: application/json"), text.encode())
            case "pretty" | "lines":
                text = "x" if name == "pretty" else "x" * 5_000_000
                result = {"content": [{"type": "text", "text": text}] * (1 if name == "pretty" else 3)}
                message = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}, indent=1)
                lines_of_data = "".join(f"data: {line}\r\n" for line in message.splitlines())
                events = f"id: 1\r\ndata: \r\n\r\nevent: message\r\n{lines_of_data}\r\n".encode()
                await peer.send(head("200 OK", len(events), "content-type: text/event-stream") + events)
            case "forget":
                self.sessions.clear()
                await self._result(peer, request, {"content": []})
            case _:
                await self._result(peer, request, {"content": [{"type": "text", "text": name}]})
        return True

    async def _result(self, peer: Peer, request: dict[str, Any], result: Any, *lines: str) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
        coding = [f"content-encoding: {self.coding}"] if self.coding and request["method"] == "tools/call" else []
        body = gzip.compress(body) if coding else body
        await peer.send(head("200 OK", len(body), "content-type: application/json", *lines, *coding) + body)


async def failure(box: Box, name: str) -> ToolError:
    with pytest.raises(ToolError) as error:
        await box.call(name)
    return error.value


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "FIRST_PAUSE_S", 0.05)


def test_a_call_carries_its_key_and_the_headers_of_the_settings() -> None:
    async def test() -> None:
        web = SessionServer()
        async with web.server, box_of(web.settings) as box:
            assert await box.output("echo", key="r1:k9") == "echo"
            assert web.calls == [("echo", "r1:k9")]
            assert all(b"x-team: a" in sent for sent in web.heads)
            assert [b"idempotency-key" in sent for sent in web.heads].count(True) == 1

    run(test())


@pytest.mark.parametrize("name", ["cut", "reset", "half"])
def test_a_call_whose_answer_is_cut_may_have_been_made(name: str) -> None:
    async def test() -> None:
        web = SessionServer()
        async with web.server, box_of(web.settings) as box:
            error = await failure(box, name)
            assert error.code == "tool_failed"
            assert f"tool '{name}' of 'web': " in error.detail
            await box.offers()
            assert await box.output("echo") == "echo"
            assert web.calls == [(name, "r1:k1"), ("echo", "r1:k1")]

    run(test())


@pytest.mark.parametrize("status", ["401 Who", "403 No", "404 Not Found", "429 Later", "307 Elsewhere", "405 No"])
def test_a_call_that_is_refused_was_not_made(status: str) -> None:
    async def test() -> None:
        web = SessionServer(status)
        async with web.server, box_of(web.settings) as box:
            error = await failure(box, "echo")
            assert isinstance(error, ToolUnreachable)
            assert f"it answered {status[:3]}" in error.detail
            assert "elsewhere" not in error.detail

    run(test())


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Away", "504 Too late", "202 Accepted"])
def test_a_call_that_is_answered_with_no_result_may_have_been_made(status: str) -> None:
    async def test() -> None:
        web = SessionServer(status)
        async with web.server, box_of(web.settings) as box:
            error = await failure(box, "echo")
            assert error.code == "tool_failed"
            assert status[:3] in error.detail

    run(test())


def test_a_server_that_has_forgotten_the_session_is_called_in_another_one() -> None:
    async def test() -> None:
        web = SessionServer()
        async with web.server, box_of(web.settings) as box:
            assert await box.output("forget") == ""
            assert await box.output("echo", key="r1:k2") == "echo"
            assert web.calls == [("forget", "r1:k1"), ("echo", "r1:k2")]

    run(test())


def test_a_message_of_several_lines_of_an_event_is_read() -> None:
    async def test() -> None:
        web = SessionServer()
        async with web.server, box_of(web.settings) as box:
            assert await box.output("pretty") == "x"

    run(test())


def test_a_result_that_is_too_large_is_cut_and_one_that_is_compressed_is_not_read() -> None:
    async def test() -> None:
        web = SessionServer()
        async with web.server, box_of(web.settings) as box:
            assert "cut: the tool gave 6000" in await box.output("huge")
            assert "cut: the tool gave " in await box.output("lines")
            web.coding = "gzip"
            error = await failure(box, "echo")
            assert "compressed" in error.detail

    run(test())


def test_the_authorities_of_the_environment_are_trusted_and_no_other_ones(tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def test() -> None:
        web = SessionServer(tls=authority.server())
        async with web.server, box_of(web.settings, waits=False) as box:
            [one] = box.toolbox._servers
            await one.tried.wait()
            assert "CERTIFICATE_VERIFY_FAILED" in one.failure
        async with web.server, box_of(web.settings, network=Network(ssl_cert_file=str(authority.pem))) as box:
            assert await box.output("echo") == "echo"

    run(test())
