"""`trilane doctor URL` finds in real proxies what keeps a stream from its reader, and nothing where nothing does."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.commands import deployment
from gateway.commands.deployment import Deployment, findings
from gateway.commands.findings import Finding
from tests.conftest import Gateway, UpstreamThread, serving
from tests.deploy.doors import ADDRESSES, COMMANDS, Change, Site, door, make_site
from tests.support.loop_thread import LoopThread
from tests.support.outage_proxy import OutageProxy

KEY = "a key of alice for the doctor"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_API_KEYS": f"alice:{KEY}", "TRILANE_PING_S": "0.5"}
    gateway = serving(tmp_path_factory.mktemp("examined"), upstream.url, **env)
    gateway.unit = "all"
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def report(
    url: str, key: str | None = KEY, *, chat: bool = False, transport: httpx2.AsyncBaseTransport | None = None
) -> list[Finding]:
    async def examined() -> list[Finding]:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(10, read=None), transport=transport) as client:
            return [finding async for finding in findings(Deployment(url, key, client), chat=chat)]

    return asyncio.run(examined())


def faults(found: list[Finding]) -> str:
    return "\n".join(f"{finding.text}: {finding.advice}" for finding in found if finding.level in ("warn", "FAIL"))


# Behind the files of `deploy/proxies`, as they are and with a mistake in them


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


class ToThisMachine(httpx2.AsyncBaseTransport):
    """Connects to this machine, whatever name a request has."""

    def __init__(self, site: Site) -> None:
        self._transport = httpx2.AsyncHTTPTransport(verify=site.context)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1")
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self._transport.aclose()


def report_behind(proxy: str, place: Gateway, site: Site, folder: Path, *changes: Change) -> list[Finding]:
    """Returns what is found behind a proxy with its file of `deploy/proxies`, to which `changes` are made."""
    addresses = {address: f"127.0.0.1:{place.port}" for address in ADDRESSES}
    with door(proxy, folder, site, addresses, *changes) as front:
        return report(front.origin, transport=ToThisMachine(site))


@pytest.mark.parametrize("proxy", COMMANDS)
def test_the_files_of_deploy_have_no_fault(proxy: str, place: Gateway, site: Site, tmp_path: Path) -> None:
    found = report_behind(proxy, place, site, tmp_path)
    assert faults(found) == ""
    assert "a WebSocket reaches the audio lane" in "".join(finding.text for finding in found)


MISTAKES: dict[str, tuple[Change, str, str]] = {
    "nginx: another Host": (
        ("proxy_set_header Host $http_host;", "proxy_set_header Host 127.0.0.1;"),
        "it is called by another name",
        "nginx: `proxy_set_header Host $http_host;`",
    ),
    "nginx: no upgrade": (
        ("proxy_set_header Upgrade $http_upgrade;", 'proxy_set_header Upgrade "";'),
        "a WebSocket's handshake is answered",
        "`proxy_set_header Upgrade $http_upgrade;`",
    ),
    "nginx: a short timeout": (
        ("proxy_read_timeout 75s;", "proxy_read_timeout 300ms;"),
        "s, before the ping",
        "nginx: `proxy_read_timeout 75s;`",
    ),
    "nginx: compression": (
        ("proxy_buffering off;", "gzip on; gzip_types text/event-stream; gzip_proxied any;"),
        "compressed (gzip)",
        "nginx: `gzip off;`",
    ),
    "nginx: no cursor": (
        ("proxy_buffering off;", 'proxy_buffering off; proxy_set_header Last-Event-ID "";'),
        "Last-Event-ID does not reach",
        "nginx: no `proxy_set_header Last-Event-ID`",
    ),
    "Caddy: another Host": (
        ("lb_policy least_conn", "lb_policy least_conn\n\theader_up Host 127.0.0.1"),
        "it is called by another name",
        "Caddy: no `header_up Host`",
    ),
    "Caddy: no upgrade": (
        ("lb_policy least_conn", "lb_policy least_conn\n\theader_up -Upgrade\n\theader_up -Connection"),
        "a WebSocket's handshake is answered",
        "Caddy: no `header_up` for Upgrade or Connection",
    ),
    "Caddy: a short timeout": (
        ("dial_timeout 2s", "dial_timeout 2s\n\t\tread_timeout 300ms"),
        "s, before the ping",
        "Caddy: no `read_timeout`",
    ),
    "Caddy: buffering": (
        ("lb_policy least_conn", "lb_policy least_conn\n\tresponse_buffers 64KiB"),
        "it is buffered",
        "Caddy: no `response_buffers`",
    ),
    "HAProxy: another Host": (
        ("http-request set-header X-Forwarded-Proto https", "http-request set-header Host 127.0.0.1"),
        "it is called by another name",
        "\nHAProxy: no `http-request set-header Host`",
    ),
    "HAProxy: no scheme": (
        ("http-request set-header X-Forwarded-Proto https", ""),
        "it is called by another name or scheme",
        "\nHAProxy: `http-request set-header X-Forwarded-Proto https`",
    ),
    "nginx: no scheme": (
        ("proxy_set_header X-Forwarded-Proto $scheme;", ""),
        "it is called by another name or scheme",
        "\nnginx: `proxy_set_header X-Forwarded-Proto $scheme;`",
    ),
    "HAProxy: no upgrade": (
        (
            "http-request set-header X-Forwarded-Proto https",
            "http-request set-header X-Forwarded-Proto https\n\thttp-request del-header Upgrade",
        ),
        "a WebSocket's handshake is answered",
        "\nHAProxy: no `http-request del-header Upgrade`",
    ),
    "HAProxy: a short timeout": (
        ("timeout server 75s", "timeout server 300ms"),
        "s, before the ping",
        "\nHAProxy: `timeout server 75s`",
    ),
    "HAProxy: buffering": (
        ("timeout server 75s", "timeout server 75s\n\thttp-response wait-for-body time 20s"),
        "it is buffered",
        "\nHAProxy: no `http-response wait-for-body`",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_proxy_is_found_and_its_line_named(
    place: Gateway, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    change, fault, line = MISTAKES[mistake]
    if "buffering" in mistake:
        for seconds in ("FIRST_BYTES_S", "ANSWER_S"):
            monkeypatch.setattr(deployment, seconds, 2.0)
    found = report_behind(mistake.partition(":")[0], place, site, tmp_path, change)
    (finding,) = [finding for finding in found if fault in finding.text] or [Finding("skip", faults(found))]
    assert line in finding.advice, finding
    assert [other for other in found if other.level == "FAIL" and other != finding] == []


def test_an_open_figure_is_found(place: Gateway, site: Site, tmp_path: Path) -> None:
    as_if_from_here = 'proxy_set_header Host localhost; proxy_set_header X-Forwarded-For "";'
    change = ("location / { return 404; }", f"location / {{ proxy_pass http://chat; {as_if_from_here} }}")
    assert "/metrics is open" in faults(report_behind("nginx", place, site, tmp_path, change))


class HoldingProxy(OutageProxy):
    """A proxy that passes on no piece of an event stream before it has 4 KiB of it, as a buffer does.

    nginx 1.22 is none, whatever its settings: with `proxy_buffering on`, too, it passes on what is there.
    """

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                held += data
                if b"text/event-stream" not in held or len(held) >= 4096:
                    writer.write(held)
                    held = b""
        writer.transport.abort()


def test_a_proxy_that_buffers_is_found(place: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "FIRST_BYTES_S", 0.5)
    proxy = HoldingProxy(place.port)
    thread = LoopThread(lambda: proxy)
    thread.start()
    try:
        text = faults(report(f"http://127.0.0.1:{proxy.port}"))
    finally:
        thread.stop()
    assert "not there after 0.5 s: it is buffered" in text
    assert "\nnginx: `proxy_buffering off;`" in text


def test_what_is_no_gateway_is_told_as_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    [finding] = report(f"http://127.0.0.1:{port}")
    assert (finding.level, "does not answer" in finding.text) == ("FAIL", True)


def test_the_command_prints_a_line_for_each_finding_and_fails_with_them(place: Gateway) -> None:
    result = CliRunner().invoke(main, ["doctor", place.url, "--key", "-"], input=f"{KEY}\n")
    assert (result.exit_code, "ok   a gateway answers" in result.output) == (0, True)
    assert KEY not in result.output
    result = CliRunner().invoke(main, ["doctor", place.url, "--key", "a wrong key"])
    assert (result.exit_code, "FAIL a stream is refused" in result.output) == (1, True)
    assert "\n     Is the key right?" in result.output
