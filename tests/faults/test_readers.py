"""Many readers of one run read at their own speeds, and none of them slows the run down.

LONG_TESTS=1 makes the reader that stops reading do so for a minute instead of five seconds.
"""

import asyncio
import http.client
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import httpx2
import pytest

from events.log.hub import Hub
from events.log.port import Block, Commit, EventLog, Slice
from events.log.source import Source
from gateway.serving.open_streams import OpenStreams
from gateway.serving.sse import EventStream
from loadtests.upstream import Answer, words
from loadtests.upstream.shapes import chunk
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.faults.chat_clients import Open, snapshot
from tests.faults.run_readers import Peak, frames_of, get, reading
from tests.support.sse_client import Frames, chat_body, follow, iter_frames
from tests.support.streams import FakeServer

STALL_S = 60.0 if os.environ.get("LONG_TESTS") else 5.0
DELTAS = 5000
DELTA_BYTES = 4096
MIB = 1 << 20
RING_BYTES = MIB
"""Memory that the newest frames of one run may take, for all its readers."""
READER_BYTES = 131_072
"""Memory that a reader that does not read may take: one write, and the server's own buffer."""
STALLED = 6
PACED = 1500


async def flood(answer: Answer) -> None:
    """Sends about 20 MB as fast as the gateway takes it, in numbered pieces."""
    await start(answer)
    for number in range(DELTAS):
        await answer.frame(chunk(answer.ask, {"content": f"<{number}>".ljust(DELTA_BYTES, "x")}))
        answer.record.tokens_sent += 1
    await finish(answer)


def test_a_slow_reader_and_a_fast_one_get_the_same(gateway: Gateway) -> None:
    with reading(gateway, chat_body("speeds", "T=400 I=1000")) as fast:
        slow = get(gateway, "/api/chat/speeds/stream", receive_bytes=2048)
        lines: list[str] = []
        for line in slow:
            lines.append(line.decode().rstrip("\n"))
            time.sleep(0.0005)
        late = Frames()
        list(iter_frames(lines, late))
    assert late.events == fast.events
    assert late.done
    assert late.text == words(400)


@pytest.mark.timeout(180)
def test_readers_that_stop_reading_cost_nothing_and_miss_nothing(upstream: UpstreamThread, tmp_path: Path) -> None:
    """The same answer in two processes: with a client that reads, and with six more that do not.

    Were it kept for each of them, they would take 120 MB.
    """
    upstream.fake.script("flood", flood)
    keep = {"TRILANE_RETENTION_BYTES": str(64 * MIB)}
    with_a_reader = peak_of_flood(serving(tmp_path / "one", upstream.url, **keep), upstream, stalled_count=0)
    with_stalled = peak_of_flood(serving(tmp_path / "more", upstream.url, **keep), upstream, stalled_count=STALLED)
    print(f"\npeak with a client that reads: {with_a_reader / MIB:.0f} MiB")
    print(f"peak with {STALLED} more that stop for {STALL_S:g} s: {with_stalled / MIB:.0f} MiB")
    copies = 2 * DELTAS * DELTA_BYTES  # the answer itself is in memory a few times at its end, not always as often
    assert with_stalled <= with_a_reader + RING_BYTES + STALLED * READER_BYTES + copies


def peak_of_flood(gateway: Gateway, upstream: UpstreamThread, stalled_count: int) -> int:
    """Returns the peak memory of a gateway that writes a flood; the stalled readers then read all of it."""
    gateway.start()
    try:
        with Peak(gateway.pid) as peak, reading(gateway, chat_body("flood", "go", model="flood")):
            readers = [get(gateway, "/api/chat/flood/stream", receive_bytes=65_536) for _ in range(stalled_count)]
            began = time.monotonic()
            request = upstream.fake.requests[-1]
            eventually(lambda: request.completed, 30, "the upstream has said everything")
            print(
                f"\nwith {stalled_count} stalled readers the upstream was done "
                f"after {request.closed_at - request.opened_at:.2f} s"
            )
            time.sleep(max(0.0, began + STALL_S - time.monotonic()) if stalled_count else 0)
            for reader in readers:
                assert_complete(frames_of(reader))
        assert gateway.gauge("trilane_gateway_open_streams") == 0
        return peak.rss
    finally:
        gateway.stop()


def assert_complete(frames: Frames) -> None:
    pieces = [c["delta"] for c in frames.chunks if c["type"] == "text-delta"]
    assert [piece[: piece.index(">") + 1] for piece in pieces] == [f"<{number}>" for number in range(DELTAS)]
    assert {len(piece) for piece in pieces} == {DELTA_BYTES}
    assert ([c["type"] for c in frames.terminals], frames.done) == (["finish"], True)


class Behind(Source):
    """A source that is always behind: each slice has to be fetched, and news arrive during every other fetch."""

    def __init__(self, slices: int) -> None:
        self.on_wake: Callable[[], object] = lambda: None
        self.expected = b"".join(b"<%d>" % number for number in range(slices))
        self._slices = [b"<%d>" % number for number in range(slices)]
        self._pending = b""

    @property
    def ended(self) -> bool:
        return not (self._slices or self._pending)

    @property
    def complete(self) -> bool:
        return self.ended

    def poll(self) -> bytes | None:
        pending, self._pending = self._pending, b""
        return pending or None

    async def catch_up(self) -> None:
        await asyncio.sleep(0)
        if len(self._slices) % 2:
            self.on_wake()
            await asyncio.sleep(0)
        self._pending = self._slices.pop(0) if self._slices else b""

    def close(self) -> None:
        """Does nothing: the source holds nothing."""


def test_news_that_come_during_a_catch_up_overwrite_nothing() -> None:
    source = Behind(5)

    async def main() -> bytes:
        server = FakeServer(EventStream(source, ping_s=15, open_streams=OpenStreams()), direct=True)
        await server.over(5)
        return server.body

    assert asyncio.run(main()).removeprefix(b": ok\n") == source.expected


class Elsewhere:
    """A log that another process writes: during each read, one more event arrives and is announced.

    Told at once, or as the next thing that the event loop does: then the read may be over, and nobody looks again.
    """

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self.listener: Callable[[list[Commit]], None] = lambda _: None
        self.interest: object = ()
        self.head = 1
        self.news = False

    async def read(self, topic: str, after: int, **limits: int) -> Slice:
        head, blocks = self.head, [Block(n, [b"%d" % n], "chunk", 0) for n in range(after + 1, self.head + 1)]
        if self.news:
            self.news = False
            self.head += 1
            news = [Commit(topic=topic, epoch="e", block=None)]
            if self._at_once:
                self.listener(news)
            else:
                asyncio.get_running_loop().call_soon(self.listener, news)
        return Slice(epoch="e", head=head, blocks=blocks)


@pytest.mark.parametrize("at_once", [True, False])
def test_news_from_another_process_that_come_while_it_is_read_are_not_forgotten(at_once: bool) -> None:
    async def main() -> bytes:
        log = Elsewhere(at_once=at_once)
        hub = Hub(cast(EventLog, log))
        reader = await hub.open("run/far", lambda epoch, block: block.data, None)
        assert await reader.next() == b"1"
        log.news = True
        hub.refresh("run/far")
        data = b""
        async with asyncio.timeout(1):
            while not data:
                data = await reader.next()
        return data

    assert asyncio.run(main()) == b"2"


async def pace(answer: Answer) -> None:
    """Sends about 6 MB over as many seconds as reading the log takes while it is written."""
    answer.interval_s = 0.0007
    await start(answer)
    for number in range(PACED):
        await answer.tick()
        await answer.frame(chunk(answer.ask, {"content": f"<{number}>".ljust(DELTA_BYTES, "x")}))
    await finish(answer)


def test_readers_that_lag_behind_a_live_run_miss_nothing(gateway: Gateway, upstream: UpstreamThread) -> None:
    """They fall off the ring and onto the log, and find back, while the run goes on."""
    upstream.fake.script("paced", pace)
    offsets: dict[float, list[int]] = {}

    def read(pause_s: float) -> None:
        own_offsets = offsets[pause_s] = []
        for line in get(gateway, "/api/chat/lag/stream", receive_bytes=65_536):
            if line.startswith(b"id: "):
                own_offsets.append(int(line.rsplit(b".", 1)[1]))
                time.sleep(pause_s if len(own_offsets) % 20 == 0 else 0)

    with reading(gateway, chat_body("lag", "go", model="paced")) as frames:
        readers = [threading.Thread(target=read, args=(n * 0.004,)) for n in range(8)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    expected = [int(event_id.rsplit(".", 1)[1]) for event_id, _ in frames.events]
    assert len(expected) > PACED
    assert {pause_s: own_offsets == expected for pause_s, own_offsets in offsets.items()} == dict.fromkeys(
        offsets, True
    )


def test_a_reader_that_falls_off_the_log_is_cut_and_told_where_the_answer_is(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    upstream.fake.script("flood", flood)
    gateway = serving(tmp_path, upstream.url, TRILANE_RETENTION_BYTES=str(2 * MIB)).start()
    try:
        asker = Open(gateway, chat_body("evicted", "go", model="flood"))
        reader = get(gateway, "/api/chat/evicted/stream", receive_bytes=4096)
        first = next(line for line in reader if line.startswith(b"id: "))
        asker.leave()
        eventually(lambda: snapshot(gateway, "evicted")["activeRun"] is None, 60, "the answer is over")
        run_id = first.decode()[4:].split(".")[0]
        eventually(lambda: len(gateway.events(f"run/{run_id}")) < DELTAS, 10, "the log has forgotten the beginning")
        with pytest.raises(http.client.IncompleteRead):
            reader.read()
        response, _ = follow(gateway.url, "evicted", first.decode()[4:].strip())
        assert (response.status_code, response.json()["code"]) == (410, "evicted")
        chat = httpx2.get(gateway.url + response.json()["snapshot"]).json()
        assert len(chat["messages"][-1]["parts"][0]["text"]) == DELTAS * DELTA_BYTES
        eventually(lambda: gateway.gauge("trilane_gateway_open_streams") == 0, what="no open stream")
        assert "Traceback" not in gateway.stderr()
    finally:
        gateway.stop()


def test_fifty_readers_get_the_same_bytes(gateway: Gateway, upstream: UpstreamThread) -> None:
    """They come one after the other while it is written: some replay, some are there from the start."""
    before = len(upstream.fake.requests)
    with reading(gateway, chat_body("fifty", "T=200 I=15000")):
        bodies: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: bodies.append(get(gateway, "/api/chat/fifty/stream").read()))
            for _ in range(50)
        ]
        for thread in threads:
            thread.start()
            time.sleep(0.004)
        for thread in threads:
            thread.join()
    assert len(bodies) == 50
    assert len(set(bodies)) == 1
    assert bodies[0].endswith(b"data: [DONE]\n\n")
    assert len(upstream.fake.requests) == before + 1
