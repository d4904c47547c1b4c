"""Readers, stops and messages of one run work from another process as they do from its own."""

import json
import signal
import statistics
import time
from collections.abc import Iterator

import httpx2
import pytest

from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.faults.run_readers import frames_of, get, reading
from tests.support.sse_client import Frames, chat_body, iter_frames, send


@pytest.fixture(scope="module")
def second(gateway: Gateway, upstream: UpstreamThread) -> Iterator[Gateway]:
    """Runs another process on the log of the first."""
    server = serving(gateway.folder, upstream.url)
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.mark.quiet
def test_a_reader_in_another_process_follows_live(gateway: Gateway, second: Gateway) -> None:
    late_ms: list[float] = []
    with reading(gateway, chat_body("across", "T=150 I=8000", model="ok+marks")) as here:
        there = Frames()
        response = get(second, "/api/chat/across/stream")
        for _, data in iter_frames((line.decode().rstrip("\n") for line in response), there):
            if data["type"] == "text-delta":
                sent_ns = int(data["delta"].split("~t")[1].split("~")[0])
                late_ms.append((time.monotonic_ns() - sent_ns) / 1e6)
    assert there.events == here.events
    assert there.done
    live = sorted(late_ms[50:])
    print(
        f"\na token in another process: median {statistics.median(live):.0f} ms, max {live[-1]:.0f} ms of {len(live)}"
    )
    assert live[int(len(live) * 0.95)] < 300


@pytest.mark.quiet
def test_stop_in_another_process_stops_the_run_here(
    gateway: Gateway, second: Gateway, upstream: UpstreamThread
) -> None:
    took_ms: list[float] = []
    for number in range(5):
        with reading(gateway, chat_body(f"far-{number}", "T=400 I=20000")) as frames:
            eventually(lambda: upstream.open_requests, what="the upstream is asked")
            [request] = upstream.open_requests
            asked_at = time.monotonic()
            assert httpx2.post(f"{second.url}/api/chat/far-{number}/stop", json={}).json()["stopped"] is True
            eventually(lambda request=request: request.closed_at, what="the upstream request is closed")
            took_ms.append((request.closed_at - asked_at) * 1000)
        assert [c["type"] for c in frames.terminals] == ["abort"]
    print(f"\nstop in another process: median {statistics.median(took_ms):.0f} ms, max {max(took_ms):.0f} ms")
    assert statistics.median(took_ms) < 300


def test_a_second_message_in_another_process_stops_the_run_here(gateway: Gateway, second: Gateway) -> None:
    with reading(gateway, chat_body("moved", "T=400 I=20000")) as first:
        eventually(lambda: gateway.gauge("trilane_chat_open_runs") == 1)
        _, answer = send(second.url, chat_body("moved", "T=3 I=0", message_id="next"))
    assert [c["type"] for c in first.terminals] == ["abort"]
    assert answer.text == words(3)
    messages = httpx2.get(f"{gateway.url}/api/chat/moved").json()["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[1]["parts"][0]["text"] == first.text


def test_a_frozen_reader_does_not_keep_a_run_from_ending(gateway: Gateway, second: Gateway) -> None:
    """A process that sleeps and wakes reads on where it stood."""
    with reading(gateway, chat_body("frozen", "T=100 I=15000")) as here:
        response = get(second, "/api/chat/frozen/stream")
        second.signal(signal.SIGSTOP)
    assert here.done
    second.signal(signal.SIGCONT)
    assert frames_of(response).events == here.events


def test_a_snapshot_says_how_to_join(gateway: Gateway) -> None:
    with reading(gateway, chat_body("join", "T=60 I=25000")) as here:
        active = httpx2.get(f"{gateway.url}/api/chat/join").json()["activeRun"]
        rest = frames_of(get(gateway, "/api/chat/join/stream", active["cursor"]))
    assert rest.events == here.events
    assert json.loads(json.dumps(active))["runId"] == here.cursor.split(".")[0]
