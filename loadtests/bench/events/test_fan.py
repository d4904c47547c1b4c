"""The load client of the events lane notices what a gateway must not do: each fault of a stand-in, seen by `fan`."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from loadtests.bench.events.fan import FAULTS
from loadtests.bench.native.build import tool

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("cc") is None, reason="the load client is built from C and there is no cc"),
]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
HELLO = b': ok\nevent: hello\nid: c0\nretry: 1000\ndata: {"recovered":true,"replay":0}\n\n'
Frames = Callable[[int, int, bytes], list[bytes]]


def frame(n: int, data: bytes) -> bytes:
    return b"id: c%d\ndata: %b\n\n" % (n, data)


class Gateway:
    """Streams what is published to all who listen, as `frames(reader, n, data)` says."""

    def __init__(self) -> None:
        self.frames: Frames = lambda reader, n, data: [frame(n, data)]
        self.hello = HELLO
        self.pieces = 1 << 20
        self.cursors: list[str] = []
        self.events: dict[int, bytes] = {}
        self.readers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            if head.startswith("POST"):
                length = re.search(r"content-length: (\d+)", head)
                assert length is not None
                await self._publish(json.loads(await reader.readexactly(int(length[1]))))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                continue
            cursor = re.search(r"last-event-id: c(\d+)", head)
            self.cursors.append(cursor[0] if cursor else "")
            await self._write(writer, HEAD, self.chunk(self.hello))
            for n, data in self.events.items():
                if n > (int(cursor[1]) if cursor else 0 if "earliest" in head else len(self.events)):
                    await self._write(writer, self.chunk(frame(n, data)))
            self.readers.append(writer)
        writer.close()

    async def _publish(self, body: Any) -> None:
        for event in body if isinstance(body, list) else [body]:
            data = json.dumps(event["data"], separators=(",", ":")).encode()
            n = event["data"]["n"]
            self.events[n] = data
            for index, writer in enumerate(self.readers):
                for piece in self.frames(index, n, data):
                    await self._write(writer, self.chunk(piece))

    async def _write(self, writer: asyncio.StreamWriter, *data: bytes) -> None:
        whole = b"".join(data)
        for start in range(0, len(whole), self.pieces):
            writer.write(whole[start : start + self.pieces])
            await asyncio.sleep(0)

    @staticmethod
    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


async def _head(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode().lower().replace("post", "POST", 1)
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


class Client:
    """Holds `fan` and its conversation."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command.encode() + b"\n")
        return json.loads(await self.process.stdout.readline())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[Client]:
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    paths = {"path": "/?topic=a", "earliest": "/?topic=a&from=earliest", "publish-path": "/"}
    arguments = {"port": str(port), **paths, "topic": "a", "slow": "1", "patience": "0.3"}
    options = ["--hello", *(word for name, value in arguments.items() for word in (f"--{name}", value))]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(tool("fan"), *options, stdin=pipe, stdout=pipe)
    yield Client(process)
    process.kill()
    await process.wait()
    for writer in gateway.readers:
        writer.transport.abort()
    server.close()
    await asyncio.sleep(0.01)


def faults(answer: dict[str, Any]) -> dict[str, int]:
    return {name: answer[name] for name in FAULTS if answer[name]}


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
async def test_every_event_is_counted_however_its_bytes_are_split(
    gateway: Gateway, client: Client, pieces: int
) -> None:
    gateway.pieces = pieces
    start = await client.ask("open 4")
    assert (start["live"], faults(start)) == (4, {})
    answer = await client.ask("publish 0 20 5")
    assert (answer["events"], answer["expected"], answer["accepted"]) == (60, 60, 20)  # three that are not slow
    assert answer["delay_ms"]["n"] == 60
    assert faults(answer) == {}


WRONG: dict[str, tuple[Frames, dict[str, int]]] = {
    "an event is missing": (lambda r, n, d: [] if (r, n) == (1, 2) else [frame(n, d)], {"lost": 1}),
    "an event comes twice": (lambda r, n, d: [frame(n, d)] * (2 if (r, n) == (1, 2) else 1), {"doubled": 1}),
    "one id of an event is another": (
        lambda r, n, d: [frame(n + 50 if (r, n) == (2, 2) else n, d)],
        {"id_differs": 1},
    ),
    "an event has no id": (lambda r, n, d: [frame(n, d) if n != 2 else b"data: %b\n\n" % d], {"no_id": 3}),
    "an unknown field": (lambda r, n, d: [b"dat: x\n" + frame(n, d) if n == 2 else frame(n, d)], {"malformed": 3}),
    "an event of unknown name": (lambda r, n, d: [b"event: x\n" + frame(n, d), frame(n, d)], {"malformed": 9}),
    "it is told that an event is missing": (
        lambda r, n, d: [b"event: gap\nid: c2\ndata: {}\n\n"] if n == 2 else [frame(n, d)],
        {"gaps": 3, "told": 3},
    ),
    "it is sent away": (
        lambda r, n, d: [frame(n, d), b"event: drain\ndata: {}\n\n"] if n == 3 else [frame(n, d)],
        {"sent_away": 3},
    ),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_wrong_in_a_stream_is_counted(gateway: Gateway, client: Client, what: str) -> None:
    wrong, expected = WRONG[what]
    gateway.frames = lambda reader, n, data: wrong(reader, n, data) if reader else [frame(n, data)]
    await client.ask("open 4")
    answer = await client.ask("publish 0 3 1")
    assert faults(answer) == expected


async def test_a_stream_that_is_cut_is_counted(gateway: Gateway, client: Client) -> None:
    await client.ask("open 3")
    gateway.readers[1].transport.abort()
    answer = await client.ask("wait 0.1")
    assert (faults(answer), answer["live"]) == ({"cut": 1}, 2)


async def test_a_stream_that_ends_is_counted(gateway: Gateway, client: Client) -> None:
    await client.ask("open 3")
    gateway.readers[1].write(b"0\r\n\r\n")
    answer = await client.ask("wait 0.1")
    assert (faults(answer), answer["live"]) == ({"ended": 1}, 2)


async def test_a_broken_chunk_is_counted(gateway: Gateway, client: Client) -> None:
    await client.ask("open 3")
    gateway.readers[1].write(b"3\r\n: x!")
    answer = await client.ask("wait 0.1")
    assert (faults(answer), answer["live"]) == ({"malformed": 1}, 2)


async def test_readers_come_back_with_their_cursors_and_miss_nothing(gateway: Gateway, client: Client) -> None:
    await client.ask("open 3")
    await client.ask("publish 0 4 1")
    await client.ask("drop")
    gateway.readers.clear()
    assert (await client.ask("publish 0 5 5"))["expected"] == 0
    answer = await client.ask("return")
    assert (answer["live"], answer["up"], answer["events"], answer["slow_events"], faults(answer)) == (3, 3, 10, 5, {})
    assert gateway.cursors[3:] == ["last-event-id: c4"] * 3
    assert answer["up_ms"]["n"] == 3


async def test_a_reader_that_was_not_recovered_is_counted(gateway: Gateway, client: Client) -> None:
    await client.ask("open 2")
    await client.ask("publish 0 4 1")
    await client.ask("drop")
    gateway.readers.clear()
    gateway.events.clear()
    gateway.hello = HELLO.replace(b"true", b"false")
    answer = await client.ask("return")
    assert faults(answer) == {"unrecovered": 2}
    gateway.hello = HELLO


async def test_a_slow_reader_gets_everything_once_it_reads_again(client: Client) -> None:
    await client.ask("open 2")
    await client.ask("stall")
    before = await client.ask("publish 0 50 10")
    assert (before["events"], before["slow_events"], before["expected"]) == (50, 0, 50)
    after = await client.ask("resume")
    assert (after["slow_events"], after["up"], faults(after)) == (50, 2, {})


async def test_replays_are_timed_from_the_request_to_the_last_event(client: Client) -> None:
    await client.ask("open 2")
    await client.ask("publish 0 50 10")
    whole, rest = await client.ask("replay 2"), await client.ask("catchup 3")
    assert (whole["events"], whole["up_ms"]["n"], faults(whole)) == (100, 2, {})
    assert (rest["events"], rest["up_ms"]["n"], faults(rest)) == (147, 3, {})


async def test_pings_are_timed_from_the_byte_before(gateway: Gateway, client: Client) -> None:
    await client.ask("open 2")
    await client.ask("wait 0.3")
    gateway.readers[0].write(gateway.chunk(b": ping\n"))
    answer = await client.ask("wait 0.1")
    assert answer["pings"] == 1
    assert 250 < answer["ping_after_ms"]["max"] < 500
