"""`trilane doctor URL` finds in real proxies what keeps a stream from its reader, and nothing where nothing does."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.commands import deployment
from gateway.commands.deployment import Deployment, Finding, findings
from loadtests.bench.harness.processes import process
from loadtests.ports import free_port
from loadtests.users.swarm import listens
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.deploy.doors import program
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


def report(url: str, key: str | None = KEY, *, chat: bool = False) -> list[Finding]:
    async def examined() -> list[Finding]:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(10, read=None)) as client:
            return [finding async for finding in findings(Deployment(url, key, client), chat=chat)]

    return asyncio.run(examined())


def faults(found: list[Finding]) -> str:
    return "\n".join(f"{finding.text}: {finding.advice}" for finding in found if finding.level in ("warn", "FAIL"))


WHOLE = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; "
WHOLE += "proxy_set_header Connection $connection_upgrade; proxy_buffering off; proxy_read_timeout 1h;"


@pytest.fixture
def nginx(place: Gateway, tmp_path: Path) -> Callable[[str], contextlib.AbstractContextManager[str]]:
    @contextlib.contextmanager
    def started(settings: str) -> Generator[str]:
        port = free_port()
        temporary = " ".join(
            f"{part}_temp_path {part};" for part in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        (tmp_path / "nginx.conf").write_text(
            f"{user} worker_processes 1; events {{}} http {{ access_log off; {temporary}"
            "map $http_upgrade $connection_upgrade { default upgrade; '' ''; } gzip_types *;"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {place.url}; {settings} }} }} }}"
        )
        options = ["-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
        command = [program("nginx", "nginx-light"), *options, "-g", f"daemon off; pid {tmp_path}/nginx.pid;"]
        with process(command, tmp_path, {}):
            eventually(lambda: listens(port), what="nginx listens")
            yield f"http://127.0.0.1:{port}"

    return started


def test_a_gateway_by_itself_has_no_fault(place: Gateway) -> None:
    found = report(place.url, chat=True)
    assert faults(found) == ""
    text = "\n".join(finding.text for finding in found)
    for part in ("public name", "clock", "/metrics is not open", "Last-Event-ID", "a ping after", "audio", "a model"):
        assert part in text


def test_without_a_key_it_looks_at_what_is_public_and_says_what_it_left_out(place: Gateway) -> None:
    found = report(place.url, None)
    assert faults(found) == ""
    assert found[-1].level == "skip"
    assert "--key" in found[-1].advice


def test_a_wrong_key_is_told(place: Gateway) -> None:
    assert "refused with 401" in faults(report(place.url, "a wrong key"))


def test_a_good_proxy_has_no_fault(nginx: Callable[[str], contextlib.AbstractContextManager[str]]) -> None:
    with nginx(WHOLE) as url:
        assert faults(report(url)) == ""


def without(part: str, instead: str = "") -> str:
    assert part in WHOLE
    return WHOLE.replace(part, instead)


MISTAKES = {
    "compression": (WHOLE + "gzip on; gzip_types text/event-stream; gzip_proxied any;", ("compressed (gzip)",)),
    "no Last-Event-ID": (WHOLE + 'proxy_set_header Last-Event-ID "";', ("Last-Event-ID does not reach",)),
    "another Host": (without("proxy_set_header Host $http_host;"), ("another name", "proxy_set_header Host")),
    "no upgrade": (without("proxy_set_header Upgrade $http_upgrade;"), ("WebSocket", "Upgrade")),
    "a short timeout": (without("proxy_read_timeout 1h;", "proxy_read_timeout 300ms;"), ("cut after", "read timeout")),
    "an open figure": (
        WHOLE + 'proxy_set_header X-Forwarded-For ""; proxy_set_header Host localhost;',
        ("/metrics is open",),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_a_proxy_is_found_with_what_to_do(
    nginx: Callable[[str], contextlib.AbstractContextManager[str]], mistake: str
) -> None:
    settings, words = MISTAKES[mistake]
    with nginx(settings) as url:
        text = faults(report(url))
    for word in words:
        assert word in text, text


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
    assert "proxy_buffering off" in text


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
    assert "       Is the key right?" in result.output
