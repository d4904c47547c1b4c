"""What the doctor says of an upstream, by what it answers; the whole command is tested with the units."""

import sys
from pathlib import Path

import msgspec
import pytest

from gateway.commands.doctor import check_descriptors, check_disk, check_tools, check_upstreams, check_workers
from gateway.settings import Settings, load
from gateway.tool_settings import McpSettings, ToolServers, ToolSettings
from gateway.upstream_settings import Network
from loadtests.ports import free_port
from tests.gateway.chat.tools.boxes import raw_server
from tests.support.authority import Authority
from tests.support.raw_server import Peer, RawServer, length_of, polite

pytestmark = pytest.mark.anyio

LIST = b'{"object":"list","data":[{"id":"m1","object":"model","created":1,"owned_by":"x"}]}'
NONE = b"HTTP/1.1 404 Not here\r\ncontent-length: 2\r\n\r\nno"
REFUSED = b"HTTP/1.1 401 Who\r\ncontent-length: 10\r\n\r\nsecret-key"
CASES: dict[str, tuple[bytes, str, bool, str]] = {
    "a list": (length_of(LIST, b"content-type: application/json"), "", True, ": m1"),
    "a list, and a model is configured": (length_of(LIST, b"content-type: application/json"), "m", True, ": m"),
    "no list, and a model is configured": (NONE, "m", True, ": m"),
    "no list": (NONE, "", False, "answers 404 and does not list its models: set its `model`"),
    "the key is refused": (REFUSED, "m", False, "does not accept the gateway's key"),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(("answer", "model", "is_well", "said"), CASES.values(), ids=CASES)
async def test_an_upstream_is_asked_even_when_its_models_are_configured(
    answer: bytes, model: str, is_well: bool, said: str
) -> None:
    async def again(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    async with RawServer(again) as server:
        environ = {"OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": "secret-key", "TRILANE_MODEL": model}
        [(level, line, _)] = await check_upstreams(load(environ))
    assert (level == "ok") is is_well
    assert line.startswith(f"upstream default at {server.url}/v1: ")
    assert line.endswith(said)
    assert "secret" not in line


async def test_an_agent_is_asked_for_any_answer_at_all(tmp_path: Path) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")

    def settings(url: str) -> Settings:
        text = f'[[upstream]]\nname = "a"\nkind = "ag-ui"\nbase_url = "{url}/run?k=secret"\n'
        (tmp_path / "up.toml").write_text(text)
        return load({"TRILANE_UPSTREAMS": str(tmp_path / "up.toml")})

    async with RawServer(refuse) as server:
        [(level, line, _)] = await check_upstreams(settings(server.url))
        assert (level, line) == ("ok", f"agent a at {server.url}/run?…: it answers; asked as a")
    [(level, line, _)] = await check_upstreams(settings(f"http://127.0.0.1:{free_port()}"))
    assert level == "FAIL"
    assert "secret" not in line


async def test_an_upstream_that_cannot_be_reached_is_told_with_what_to_set(tmp_path: Path) -> None:
    async with RawServer(polite, Authority(tmp_path).server()) as server:
        [(level, line, _)] = await check_upstreams(load({"OPENAI_BASE_URL": server.url, "TRILANE_MODEL": "m"}))
        assert level == "FAIL"
        assert "set `ca` of its [[upstream]], or SSL_CERT_FILE" in line
    [(level, line, _)] = await check_upstreams(load({"OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1"}))
    assert level == "FAIL"
    assert line.endswith("cannot be reached")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OPENAI_BASE_URL": "localhost:8000/v1"}, "OPENAI_BASE_URL"),
        ({"OPENAI_API_KEY": "sk-…"}, "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": "sk-1", "all_proxy": "socks5://p"}, "ALL_PROXY"),
        ({"OPENAI_API_KEY": "sk-1", "SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE"),
        ({"OPENAI_API_KEY": "sk-1", "SSL_CERT_DIR": "/nowhere"}, "SSL_CERT_DIR"),
    ],
)
async def test_a_setting_that_cannot_be_used_is_named(environ: dict[str, str], named: str) -> None:
    [(level, line, _)] = await check_upstreams(load(environ))
    assert level == "FAIL"
    assert named in line


@pytest.mark.parametrize(
    ("workers", "log", "is_well", "said"),
    [
        ("", "", True, "one process serves; 6 CPUs may be used"),
        ("3", "", True, "3 processes serve; 6 CPUs may be used"),
        ("auto", "", True, "6 processes serve; 6 CPUs may be used"),
        ("1", "memory:", True, "one process serves"),
        ("auto", "memory:", False, "6 workers would each have another log"),
    ],
)
def test_workers_are_counted(workers: str, log: str, is_well: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.commands.doctor.usable_cpus", lambda: 6)
    level, line, _ = check_workers(load({"TRILANE_WORKERS": workers, "TRILANE_LOG": log}))
    assert (level == "ok", said in line) == (is_well, True)


@pytest.mark.parametrize(("limit", "is_ok"), [(-1, True), (10_200, True), (10_199, False), (1024, False)])
def test_too_few_descriptors_are_told(limit: int, is_ok: bool) -> None:
    level, line, advice = check_descriptors(Settings(), limit)
    assert (level == "ok") is is_ok
    assert is_ok or (f"{limit} may be open" in line and "LimitNOFILE" in advice)


@pytest.mark.parametrize(("free_bytes", "is_ok"), [(1 << 30, True), ((1 << 30) - 1, False)])
def test_a_disk_that_is_nearly_full_is_told(tmp_path: Path, free_bytes: int, is_ok: bool) -> None:
    places: list[Path] = []

    def free(path: Path) -> int:
        places.append(path)
        return free_bytes

    assert check_disk(Settings(data_dir=tmp_path / "not" / "made"), free).level == ("ok" if is_ok else "FAIL")
    assert check_disk(Settings(log=f"sqlite:///{tmp_path}/log.db", data_dir=Path("/")), free).level == (
        "ok" if is_ok else "FAIL"
    )
    assert places == [tmp_path, tmp_path]


# Tools


async def test_each_server_of_tools_has_a_line_with_what_it_offers(tmp_path: Path) -> None:
    raw = raw_server(notes=tmp_path / "notes")
    listed = {"echo": ToolSettings(approve="auto", effect="read"), "pid": ToolSettings(approve="deny")}
    url = f"http://user:secret@127.0.0.1:{free_port()}/mcp?key=secret"
    servers = [
        msgspec.structs.replace(raw, tools=listed),
        msgspec.structs.replace(raw, name="other", tools={**listed, "nothing": ToolSettings()}),
        McpSettings(name="away", url=url),
        McpSettings(name="no", command=["/no/such/program"]),
    ]
    findings = await check_tools(Settings(tools=ToolServers(mcp=servers)))
    assert [finding.level for finding in findings] == ["ok", "FAIL", "FAIL", "FAIL"]
    offered, missing, away, no = [finding.text for finding in findings]
    assert offered == f"tools of raw at `{sys.executable}`: raw__echo (auto, read)"
    assert missing.endswith("it has none of the name 'nothing'")
    assert away.startswith("tools of away at 127.0.0.1:")
    assert "secret" not in away
    assert no.endswith("/no/such/program: No such file or directory")


async def test_without_servers_of_tools_there_is_no_line_of_them() -> None:
    assert await check_tools(Settings()) == []
    proxied = ToolServers(mcp=[McpSettings(name="a", url="http://a/mcp")])
    settings = Settings(tools=proxied, network=Network(http_proxy="socks5://p"))
    [finding] = await check_tools(settings)
    assert finding.level == "FAIL"
    assert "HTTP_PROXY" in finding.text


@pytest.mark.parametrize(
    ("listed", "level", "said"),
    [
        ('{"object":"list","data":[{"id":"m"},{"id":"n"}]}', "ok", "aliases fast = n"),
        ('{"object":"list","data":[{"id":"m"}]}', "warn", "It does not list 'n'"),
        ('{"object":"list","data":[]}', "ok", "aliases fast = n"),
    ],
)
async def test_an_alias_of_a_model_that_is_not_listed_is_told(
    tmp_path: Path, listed: str, level: str, said: str
) -> None:
    async def tell(peer: Peer) -> None:
        await peer.request()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(listed)}\r\n\r\n"
        await peer.send((head + listed).encode())

    path = tmp_path / "upstreams.toml"
    async with RawServer(tell) as server:
        text = f'[[upstream]]\nname = "a"\nbase_url = "{server.url}/v1"\nmodels = ["m"]\naliases = {{ fast = "n" }}\n'
        path.write_text(text)
        [(found, line, advice)] = await check_upstreams(load({"TRILANE_UPSTREAMS": str(path)}))
    assert found == level
    assert said in f"{line} {advice}"
