"""One gateway of every lane with sign-in, which all attacks of a process share, and addresses that each come from."""

import itertools
from collections.abc import Iterator

import httpx2
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


@pytest.fixture
def attacker(gateway: Gateway) -> Iterator[Attacker]:
    """Attacks from an address of its own; meanwhile others are served, and afterwards nothing is left of it."""
    before = gateway.fds()
    with Bystander(gateway), Attacker(gateway, f"127.0.0.{next(_addresses)}") as made:
        yield made
    eventually(lambda: gateway.fds() <= before + 2, 10, f"descriptors: {before} before, {gateway.fds()} now")
    assert "Traceback" not in gateway.stderr(), gateway.stderr()[-3000:]
    assert "request failed" not in gateway.stderr(), gateway.stderr()[-3000:]
