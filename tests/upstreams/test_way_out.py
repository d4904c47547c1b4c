"""A gateway in a company's network: its upstream is behind a proxy with a login, TLS of its own, and a query."""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from gateway.commands.doctor import check_upstreams
from gateway.settings import load
from tests.conftest import Gateway
from tests.support.authority import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import TEST_S, Peer, RawServer, length_of, until

QUERY = b"?api-version=2025-01-01-preview"
GZIP = 31
START_S = 60.0


class Company:
    """What the upstream was asked, and the tokens that it is to send: an empty one is the end of its answer."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.tokens: asyncio.Queue[str] = asyncio.Queue()
        self.gone = 0

    async def answer(self, peer: Peer) -> None:
        while True:
            await peer.request()
            head = peer.heads[-1]
            self.heads.append(head)
            if head.startswith(b"GET "):
                models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]}
                await peer.send(length_of(json.dumps(models).encode(), b"content-type: application/json"))
                continue
            leaving = asyncio.create_task(peer.gone())
            writing = asyncio.create_task(self._write(peer))
            await asyncio.wait([leaving, writing], return_when=asyncio.FIRST_COMPLETED)
            self.gone += leaving.done()
            writing.cancel()
            leaving.cancel()
            return

    async def _write(self, peer: Peer) -> None:
        packer = zlib.compressobj(wbits=GZIP)
        head = [b"HTTP/1.1 200 OK", b"content-type: text/event-stream", b"content-encoding: gzip"]
        await peer.send(b"\r\n".join([*head, b"transfer-encoding: chunked", b"", b""]))

        async def send(text: bytes) -> None:
            packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
            await peer.send(b"%x\r\n%b\r\n" % (len(packed), packed))

        while token := await self.tokens.get():
            await send(b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": token}}]}).encode())
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        await send(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(end).encode())
        last = packer.flush()
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))


Play = Callable[[Company, Gateway, RawServer, ConnectProxy], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Play], None]:
    """Returns what runs a test with the company's network; its gateway is not started."""
    authority = Authority(tmp_path)
    authority.sign("client")
    tls = authority.server_that_asks()

    async def run(test: Play) -> None:
        company = Company()
        async with RawServer(company.answer, tls) as server, ConnectProxy(login=b"Basic YW5uOnNlY3JldA==") as proxy:
            (tmp_path / "upstreams.toml").write_text(f"""[[upstream]]
name = "azure"
base_url = "{server.url}/openai/deployments/m{QUERY.decode()}"
api_key_env = "AZURE_KEY"
key_header = "api-key"
headers = {{"X-Team" = "blue"}}
ca = "ca.pem"
client_certificate = "client.pem"
client_key = "client.key"
""")
            environ = {
                "TRILANE_UPSTREAMS": str(tmp_path / "upstreams.toml"),
                "AZURE_KEY": "secret-key",
                "HTTPS_PROXY": f"http://ann:secret@{proxy.address}",
                "NO_PROXY": "elsewhere.example,10.0.0.0/8",
            }
            async with asyncio.timeout(START_S + TEST_S):
                await test(company, Gateway(tmp_path, environ), server, proxy)

    return lambda test: asyncio.run(run(test))


def check_head(head: bytes, path: bytes) -> None:
    lines = head.split(b"\r\n")
    assert lines[0] == path
    names = [line.partition(b":")[0].lower() for line in lines[1:]]
    assert names.count(b"api-key") == 1
    assert b"authorization" not in names
    assert b"api-key: secret-key" in lines
    assert b"x-team: blue" in lines


def test_tokens_come_through_the_companys_network_one_by_one_and_a_stop_reaches_its_end(
    play: Callable[[Play], None],
) -> None:
    async def test(company: Company, gateway: Gateway, server: RawServer, proxy: ConnectProxy) -> None:
        await asyncio.to_thread(gateway.start)
        try:
            async with httpx2.AsyncClient(base_url=gateway.url, timeout=TEST_S) as client:
                assert await said(client, company, ["one", "two", ""]) == ["one", "two"]
                path = b"POST /openai/deployments/m/chat/completions" + QUERY + b" HTTP/1.1"
                check_head(company.heads[-1], path)
                assert await said(client, company, ["half"]) == ["half"]
                await until(lambda: (company.gone, server.open) == (1, 0), TEST_S)
                models = (await client.get("/v1/models")).json()["data"]
                assert [model["id"] for model in models] == ["m"]
                check_head(company.heads[-1], b"GET /openai/deployments/m/models" + QUERY + b" HTTP/1.1")
            assert all(head.startswith(b"CONNECT localhost:%d " % server.port) for head in proxy.heads)
        finally:
            await asyncio.to_thread(gateway.stop)
        assert "secret" not in gateway.stderr()

    play(test)


async def said(client: httpx2.AsyncClient, company: Company, tokens: list[str]) -> list[str]:
    """Asks, has the upstream send each token once the one before was heard, and leaves after the last."""
    heard: list[str] = []
    waiting = iter(tokens)
    company.tokens.put_nowait(next(waiting))
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, await answer.aread()
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            assert "error" not in chunk
            heard += [token for choice in chunk["choices"] if (token := choice["delta"].get("content"))]
            if len(heard) == len(tokens):
                break
            if heard and company.tokens.empty() and (token := next(waiting, None)) is not None:
                company.tokens.put_nowait(token)
    return heard


def test_the_doctor_goes_the_same_way_and_tells_no_secret(play: Callable[[Play], None]) -> None:
    async def test(company: Company, gateway: Gateway, server: RawServer, proxy: ConnectProxy) -> None:
        [(level, line, _)] = await check_upstreams(load(gateway.env))
        assert (level, line) == (
            "ok",
            f"upstream azure at {server.url}/openai/deployments/m?… "
            f"through the proxy localhost:{proxy.port} (HTTPS_PROXY): m",
        )
        check_head(company.heads[-1], b"GET /openai/deployments/m/models" + QUERY + b" HTTP/1.1")
        wrong = {
            "a wrong login": ({"HTTPS_PROXY": f"http://ann:secret2@{proxy.address}"}, "wants a user and a password"),
            "no proxy there": ({"https_proxy": "http://ann:secret2@localhost:9"}, "no connection to the proxy"),
            "SOCKS": ({"https_proxy": f"socks5://ann:secret2@{proxy.address}"}, "HTTPS_PROXY names a SOCKS proxy"),
        }
        for environ, says in wrong.values():
            [(level, line, _)] = await check_upstreams(load(gateway.env | environ))
            assert level == "FAIL"
            assert says in line
            assert "secret" not in line

    play(test)
