"""A flood of connections from one address, and files that are small until somebody decodes them."""

import contextlib
import io
import select
import socket
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
import soundfile

from tests.attacks.attacker import ALICE, Attacker, head
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.bystander import Bystander

pytestmark = pytest.mark.quiet

PER_ADDRESS = 40
FILE_S = 60
HELLO = head("GET /healthz")
MAX_GROWTH = 128 << 20


@pytest.fixture(scope="module")
def narrow(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway that takes few connections of one address, and short files."""
    limits = {"CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS), "FILE_SECONDS": str(FILE_S)}
    env = {"TRILANE_API_KEYS": f"alice:{ALICE}", **{f"TRILANE_LIMIT_{name}": value for name, value in limits.items()}}
    server = serving(tmp_path_factory.mktemp("narrow"), upstream.url, **env)
    server.unit = "all"
    try:
        server.start()
        with Attacker(server, "127.0.0.1") as somebody:
            assert somebody.ask("POST", UPLOAD, files={"file": ("a", b"x")}).status_code == 400  # the model is loaded
        yield server
    finally:
        server.stop()


@pytest.fixture
def flooder(narrow: Gateway) -> Iterator[Attacker]:
    before = narrow.fds()
    with Bystander(narrow), Attacker(narrow, "127.0.0.90") as made:
        yield made
    eventually(lambda: narrow.fds() <= before + 2, 10, f"descriptors: {before} before, {narrow.fds()} now")
    assert "Traceback" not in narrow.stderr(), narrow.stderr()[-3000:]


def is_open(client: socket.socket) -> bool:
    """Returns whether the gateway has left a connection open; what it has answered is thrown away."""
    with contextlib.suppress(ConnectionError):
        while select.select([client], [], [], 0)[0]:
            if not client.recv(65_536):
                return False
        return True
    return False


@pytest.mark.parametrize("request_", [b"", HELLO[:10], HELLO, head("GET /api/events?topic=flood")])
def test_a_flood_of_connections_from_one_address(flooder: Attacker, request_: bytes) -> None:
    """They may send nothing, a part, a whole request, or become streams: all count alike."""
    held: list[socket.socket] = []
    for _ in range(20 * PER_ADDRESS):
        client = flooder.connect()
        with contextlib.suppress(ConnectionError):
            client.sendall(request_)
        held.append(client)
    eventually(lambda: sum(map(is_open, held)) <= PER_ADDRESS, 10, "the rest is turned away")
    with Attacker(flooder.gateway, "127.0.0.91") as other:
        assert other.ask("GET", "/api/chats").status_code == 200
    for client in held:
        client.close()


def test_a_storm_of_connections_that_come_and_go(flooder: Attacker) -> None:
    ends_at, count = time.monotonic() + 3, 0
    while time.monotonic() < ends_at:
        with socket.create_connection(("127.0.0.1", flooder.gateway.port), 10, source_address=("127.0.0.92", 0)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0" if count % 2 else b"\0" * 8)
            count += 1
    print(f"{count} connections")


UPLOAD = "/v1/audio/transcriptions"


def silence(kind: str, seconds: int, rate: int = 8000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    block = np.zeros((rate * 60, channels), np.int16)
    with soundfile.SoundFile(file, "w", rate, channels, format=kind) as sound:
        for _ in range(seconds // 60):
            sound.write(block)
    return file.getvalue()


def without_length(flac: bytes) -> bytes:
    """Returns a FLAC file whose header does not say how long it is."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Returns files that would grow: the first ones ten-thousandfold."""
    long = silence("FLAC", 1200)
    return {
        "long FLAC": long,
        "long FLAC that does not say so": without_length(long),
        "a little FLAC that says that it is long": long[:21] + bytes([long[21] | 0x0F]) + b"\xff" * 4 + long[26:9000],
        "FLAC of eight channels": without_length(silence("FLAC", 120, 48_000, 8)),
        "Ogg": silence("OGG", 300),
        "MP3": silence("MP3", 300),
        "AIFF of a rate that nobody has": silence("AIFF", 60).replace(b"\x40\x0b\xfa", b"\x40\x20\xff", 1),
    }


def test_a_file_that_grows_when_it_is_decoded(bombs: dict[str, bytes], flooder: Attacker) -> None:
    gateway = psutil.Process(flooder.gateway.pid)
    before, took_s, cpu_s = gateway.memory_info().rss, dict[str, float](), dict[str, float]()
    for name, data in bombs.items():
        cpu, began = sum(gateway.cpu_times()[:2]), time.monotonic()
        for stream in ("false", "true"):
            answer = flooder.ask("POST", UPLOAD, files={"file": ("a", data)}, data={"stream": stream})
            assert answer.status_code in (400, 413) or (stream == "true" and '"error"' in answer.text), (
                name,
                answer.text,
            )
        took_s[name], cpu_s[name] = time.monotonic() - began, sum(gateway.cpu_times()[:2]) - cpu
        assert gateway.memory_info().rss < before + MAX_GROWTH, name
    print({name: f"{took_s[name]:.1f} s, {cpu_s[name]:.1f} s of CPU" for name in took_s})
    assert max(cpu_s.values()) < 10, cpu_s


def test_a_compressed_upload_is_not_unpacked(flooder: Attacker) -> None:
    part = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.gz"\r\n%b\r\n\r\n%b\r\n--b--\r\n'
    bomb = b"\x1f\x8b\x08" + b"\0" * 100_000
    form = {"content-type": "multipart/form-data; boundary=b"}
    for coding in ("gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "compress"):
        body = part % (b"content-encoding: gzip", bomb)
        answer = flooder.ask("POST", UPLOAD, content=body, headers={**form, "content-encoding": coding})
        assert answer.status_code == 415, (coding, answer.text)
    for line in (b"content-encoding: gzip", b"content-transfer-encoding: base64", b"content-type: application/gzip"):
        answer = flooder.ask("POST", UPLOAD, content=part % (line, bomb), headers=form)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_audio"), (line, answer.text)
