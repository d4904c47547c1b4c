"""A WebSocket client that floods the gateway is cut off, and nobody else notices.

Real sockets to a real process: one flood after another, from a client that comes back whenever it is cut.
"""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, Self

import httpx2
import psutil
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.bystander import check_latencies, latencies
from tests.support.raw_sockets import BINARY, CLOSE, LAST, MORE, PING, PONG, TEXT, UNFINISHED, close_in, dial, frame
from tests.support.sse_client import chat_body, read_frames

FLOOD_S = 1.0
LONG_FLOOD_S = 5.0
CHUNK_BYTES = 120_000
CUT_S = 20.0
"""Longest time in seconds that one connection may flood before it is told so and cut."""
GROWTH_BYTES = 64 << 20
"""More memory than a flood leaves behind: some thousand sessions, and what the allocator keeps."""

pytestmark = pytest.mark.quiet

REALTIME = "/v1/realtime?intent=transcription"
LIVE = "/api/chat/flooded/live"
START = frame(TEXT, b'{"type":"start"}')


def repeat(piece: bytes) -> bytes:
    return piece * (CHUNK_BYTES // len(piece))


class Flood(NamedTuple):
    """A client's first bytes, those it sends for ever after, and the close code it gets, None when it does not read."""

    flood: bytes
    code: int | None = 4504
    prelude: bytes = START
    path: str = "/api/audio"


FLOODS = {
    "empty pings": Flood(repeat(frame(PING))),
    "pings of 125 bytes": Flood(repeat(frame(PING, b"x" * 125))),
    "pongs that nobody asked for": Flood(repeat(frame(PONG))),
    "empty audio": Flood(repeat(frame(BINARY))),
    "empty text": Flood(repeat(frame(TEXT)), 4500),
    "keepalives": Flood(repeat(frame(TEXT, b'{"type":"keepalive"}'))),
    "fragments of nothing": Flood(repeat(frame(MORE)), 1009, START + frame(UNFINISHED)),
    "fragments of one byte": Flood(repeat(frame(MORE, b"x")), 1009, START + frame(UNFINISHED)),
    "messages in pieces of one byte": Flood(repeat(frame(UNFINISHED, b"\0") + frame(LAST, b"\0"))),
    "pings between fragments": Flood(repeat(frame(PING) * 99 + frame(MORE, b"x")), 4504, START + frame(UNFINISHED)),
    "pings before `start`": Flood(repeat(frame(PING)), 4504, b""),
    "pings that are answered to nobody": Flood(repeat(frame(PING, b"x" * 125)), None),
    "pings after a close of ours": Flood(repeat(frame(PING)), 4500, frame(TEXT, b"nonsense")),
    "pings after a close of theirs": Flood(repeat(frame(PING)), 1000, START + frame(CLOSE, b"\x03\xe8")),
    "bytes after a close of theirs": Flood(bytes(CHUNK_BYTES), 1000, START + frame(CLOSE, b"\x03\xe8")),
    "a frame without end": Flood(bytes(CHUNK_BYTES), 1009, START + b"\x82\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0"),
    "events of Realtime": Flood(repeat(frame(TEXT, b"{}")), 4504, b"", REALTIME),
    "pings to Realtime": Flood(repeat(frame(PING)), 4504, b"", REALTIME),
    "commands of a chat": Flood(repeat(frame(TEXT, b'{"type":"stop"}')), 4504, b"", LIVE),
    "answers that nobody reads": Flood(repeat(frame(TEXT, b'{"type":"stop"}')), None, b"", LIVE),
    "nothing to a chat": Flood(repeat(frame(TEXT)), 4504, b"", LIVE),
    "bytes to a chat": Flood(repeat(frame(BINARY, bytes(60_000))), 4504, b"", LIVE),
}


class Flooder:
    """Floods from a thread of its own, and reconnects whenever it is cut."""

    def __init__(self, gateway: Gateway, flood: Flood, *, piece_bytes: int = CHUNK_BYTES) -> None:
        self.codes: list[int | None] = []
        """The code with which each connection was closed; None for one that ended without a close."""
        self.lasted: list[float] = []
        self.reasons: set[str] = set()
        self._gateway = gateway
        self._flood = flood
        self._piece_bytes = piece_bytes
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            with dial(self._gateway, self._flood.path) as client:
                client.sendall(self._flood.prelude)
                output = self._send_until_cut(client)
            if not self._over.is_set():
                code, reason = close_in(output)
                self.codes.append(code)
                self.reasons.add(reason)
                self.lasted.append(time.monotonic() - began)

    def _send_until_cut(self, client: socket.socket) -> bytes:
        client.setblocking(False)
        flood, output, at = memoryview(self._flood.flood), bytearray(), 0
        reads = self._flood.code is not None
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                readable, writable, _ = select.select([client] if reads else [], [client], [], 0.05)
                if readable:
                    if not (piece := client.recv(1 << 20)):
                        break
                    output += piece
                if writable:
                    at = (at + client.send(flood[at : at + self._piece_bytes])) % len(flood)
        return bytes(output)


def memory(gateway: Gateway) -> int:
    return psutil.Process(gateway.pid).memory_info().rss


@pytest.fixture(scope="module")
def gateway(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp("floods"), upstream.url, TRILANE_LIMIT_VOICES="10000")
    server.unit = "all"
    try:
        server.start()
        with dial(server) as client, dial(server, REALTIME) as other:  # the model is loaded for the first session
            client.sendall(START)
            assert client.recv(1)
            assert other.recv(1)
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("name", FLOODS)
def test_a_client_that_floods_is_told_and_cut_and_others_are_served(gateway: Gateway, name: str) -> None:
    before = memory(gateway)
    with Flooder(gateway, FLOODS[name]) as flooder:
        latencies_s = latencies(gateway, FLOOD_S)
        eventually(lambda: flooder.codes, CUT_S, "the client is cut")
    check_latencies(latencies_s)
    assert set(flooder.codes) <= {FLOODS[name].code}, flooder.reasons
    assert max(flooder.lasted) < CUT_S
    assert memory(gateway) < before + GROWTH_BYTES


@pytest.mark.parametrize("piece_bytes", [1, 6, 7])
def test_a_client_that_floods_in_tiny_segments_holds_nobody_up(gateway: Gateway, piece_bytes: int) -> None:
    with Flooder(gateway, FLOODS["empty pings"], piece_bytes=piece_bytes):
        latencies_s = latencies(gateway, FLOOD_S)
    check_latencies(latencies_s)


def test_a_run_beside_a_flood_goes_on_token_by_token(gateway: Gateway) -> None:
    times: list[float] = []
    body = chat_body("run", "T=100 I=50")
    with Flooder(gateway, FLOODS["empty pings"]), ThreadPoolExecutor(1) as beside:
        asking = beside.submit(latencies, gateway, LONG_FLOOD_S)
        with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, timeout=30) as answer:
            frames = read_frames(stamp(answer.iter_lines(), times))
        latencies_s = asking.result()
    assert frames.text == " ".join(f"w{n}" for n in range(100))
    assert [chunk["type"] for chunk in frames.terminals] == ["finish"]
    assert max(later - earlier for earlier, later in pairwise(times)) < 1
    check_latencies(latencies_s)


def stamp(lines: Iterable[str], times: list[float]) -> Iterator[str]:
    for line in lines:
        times.append(time.monotonic())
        yield line


# After all that


def test_no_flood_was_logged_as_a_fault_of_the_gateway(gateway: Gateway) -> None:
    eventually(lambda: gateway.fds() < 100, 10, "no connection is left")
    assert "Traceback" not in gateway.stderr()
