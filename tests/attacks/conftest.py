"""One gateway of every lane with sign-in, which all attacks of a process share, and addresses that each come from."""

import itertools
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest

from tests.attacks.attacker import ALICE, BOB, HANDSHAKE, JWT_SECRET, Attacker, head
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.bystander import P99_S, Bystander, latencies
from tests.support.raw_sockets import CLOSE, TEXT, frame

_addresses = itertools.count(2)


@pytest.fixture(scope="session")
def upstream() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        yield thread


@pytest.fixture(scope="session")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}", "TRILANE_JWT_SECRET": JWT_SECRET, "TRILANE_PING_S": "1"}
    server = serving(tmp_path_factory.mktemp("attacked"), upstream.url, TRILANE_MODEL="ok+echo", **env)
    server.unit = "all"
    try:
        server.start()
        load_model(server)
        open_counters(server)
        eventually(lambda: max(latencies(server, 0.5)) < P99_S / 2, 30, "the gateway is at rest")
        yield server
    finally:
        server.stop()


def load_model(gateway: Gateway) -> None:
    """Opens a session of each kind: the first one loads the model and more, which is no attacker's doing."""
    with Attacker(gateway, "127.0.0.1") as somebody:
        for path in ("/api/audio", "/v1/realtime?intent=transcription"):
            client = somebody.connect()
            client.sendall(head(f"GET {path}", *HANDSHAKE))
            assert client.recv(65_536).startswith(b"HTTP/1.1 101")
            client.sendall(frame(TEXT, b'{"type":"start"}') + frame(CLOSE, b"\x03\xe8"))
            client.settimeout(30)
            assert client.recv(1)


def open_counters(gateway: Gateway) -> None:
    """Has the file of limits opened, which the first ticket does."""
    headers = {"authorization": f"Bearer {ALICE}"}
    assert httpx2.post(f"{gateway.url}/api/tickets", json={"route": "/api/events"}, headers=headers).status_code == 200


def held(gateway: Gateway, upstream: UpstreamThread) -> int:
    """Returns how many descriptors the gateway holds, beside the connections that it keeps to its upstream."""
    port = urlsplit(upstream.url).port
    links = psutil.Process(gateway.pid).net_connections("tcp")
    return gateway.fds() - sum(bool(link.raddr) and link.raddr.port == port for link in links)


@pytest.fixture
def attacker(gateway: Gateway, upstream: UpstreamThread) -> Iterator[Attacker]:
    """Attacks from an address of its own; meanwhile others are served, and afterwards nothing is left of it."""
    before = held(gateway, upstream)
    with Bystander(gateway), Attacker(gateway, f"127.0.0.{next(_addresses)}") as made:
        yield made
    eventually(lambda: held(gateway, upstream) <= before + 2, 10, f"descriptors: {before} before, {gateway.fds()} now")
    assert "Traceback" not in gateway.stderr(), gateway.stderr()[-3000:]
    assert "request failed" not in gateway.stderr(), gateway.stderr()[-3000:]
