"""Runs end correctly when clients, other devices or processes leave, stop, die or wake up again."""

import json
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.chat.topics import chat_topic
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, follow, iter_frames, send

LONG = "T=400 I=20000"


@contextmanager
def reading(gateway: Gateway, body: dict[str, Any]) -> Iterator[tuple[Frames, Any]]:
    """Opens a client in the middle of its answer; yields the frames so far, and the iterator that reads on."""
    frames = Frames()
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, timeout=30) as response:
        assert response.status_code == 200, response.read()
        events = iter_frames(response.iter_lines(), frames)
        for _, chunk in events:
            if chunk["type"] == "text-delta":
                break
        yield frames, events


@pytest.mark.quiet
def test_stop_from_another_client_closes_the_upstream_within_100_ms(gateway: Gateway, upstream: UpstreamThread) -> None:
    took_ms: list[float] = []
    for number in range(50):
        with reading(gateway, chat_body(f"stop-{number}", LONG)) as (frames, events):
            [request] = upstream.open_requests
            asked_at = time.monotonic()
            response = httpx2.post(f"{gateway.url}/api/chat/stop-{number}/stop", json={})
            assert response.json()["stopped"] is True
            eventually(lambda request=request: request.closed_at, what="the upstream request is closed")
            took_ms.append((request.closed_at - asked_at) * 1000)
            list(events)
        assert [c["type"] for c in frames.terminals] == ["abort"]
        assert frames.done
        snapshot = httpx2.get(f"{gateway.url}/api/chat/stop-{number}").json()
        assert snapshot["messages"][-1]["parts"][0]["text"] == frames.text
    print(f"\nstop -> upstream closed: median {statistics.median(took_ms):.1f} ms, max {max(took_ms):.1f} ms of 50")
    assert statistics.median(took_ms) <= 100


def test_a_client_that_leaves_changes_nothing_by_default(gateway: Gateway) -> None:
    with reading(gateway, chat_body("leaves", "T=40 I=5000")) as (frames, _):
        pass
    _, rest = follow(gateway.url, "leaves", frames.cursor)
    assert (frames.text + rest.text).split() == [f"w{n}" for n in range(40)]
    assert [c["type"] for c in rest.terminals] == ["finish"]


@pytest.mark.quiet
@pytest.mark.parametrize("moment", ["before", "at", "after"])
def test_a_client_that_takes_its_run_along_closes_the_upstream(
    moment: str, gateway: Gateway, upstream: UpstreamThread
) -> None:
    rows = len(gateway.usage())
    body = chat_body(
        f"along-{moment}", LONG, onDisconnect="cancel", model="slow-headers" if moment == "before" else "ok"
    )
    if moment == "before":
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{gateway.url}/api/chat", json=body, timeout=0.3)
    else:
        with reading(gateway, body) as (_, events):
            for _ in range(5 if moment == "after" else 0):
                next(events)
    left_at = time.monotonic()
    eventually(lambda: not upstream.open_requests, what="the upstream request is closed")
    assert time.monotonic() - left_at < 0.5
    eventually(lambda: len(gateway.usage()) == rows + 1, what="one usage row")
    assert gateway.usage()[-1]["outcome"] == "abort"


def test_a_completions_client_that_leaves_closes_the_upstream(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = {"model": "ok", "stream": False, "messages": [{"role": "user", "content": LONG}]}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=0.5)
    eventually(lambda: not upstream.open_requests, 0.5, "the upstream request is closed")


def test_sigterm_lets_the_answer_finish(upstream: UpstreamThread, tmp_path: Path) -> None:
    gateway = serving(tmp_path, upstream.url, TRILANE_DRAIN_WINDOW_S="5").start()
    try:
        with reading(gateway, chat_body("drain", "T=40 I=5000")) as (frames, events):
            gateway.signal(signal.SIGTERM)
            list(events)
        assert gateway.wait() == 0
        assert [c["type"] for c in frames.terminals] == ["finish"]
        assert [row["outcome"] for row in gateway.usage()] == ["finish"]
    finally:
        gateway.stop()


def test_a_killed_process_is_ended_by_another_and_its_zombie_cannot_append(
    upstream: UpstreamThread, tmp_path: Path
) -> None:
    """The first process is frozen, not killed: so it can wake up after the second has ended its run."""
    first = serving(tmp_path, upstream.url).start()
    second = serving(tmp_path, upstream.url).start()
    try:
        with reading(first, chat_body("zombie", "T=2000 I=20000")) as (frames, _):
            run_id = frames.cursor.split(".")[0]
            first.signal(signal.SIGSTOP)
            _, rest = follow(second.url, "zombie", timeout_s=40)
        assert [c["type"] for c in rest.terminals] == ["error"]
        assert rest.metadata["code"] == "interrupted"
        assert rest.text.startswith(frames.text)
        events = second.events(f"run/{run_id}")
        first.signal(signal.SIGCONT)
        eventually(lambda: first.gauge("trilane_chat_open_runs") == 0, what="the zombie gives up")
        eventually(lambda: not upstream.open_requests, what="the zombie's upstream request is closed")
        assert second.events(f"run/{run_id}") == events
        assert [row["outcome"] for row in second.usage()] == ["interrupted"]
        snapshot = httpx2.get(f"{second.url}/api/chat/zombie").json()
        assert snapshot["activeRun"] is None
        assert snapshot["messages"][-1]["parts"][0]["text"] == rest.text
    finally:
        first.stop()
        second.stop()


def test_kill_9_and_restart_keeps_what_was_said_and_ends_the_run(upstream: UpstreamThread, tmp_path: Path) -> None:
    first = serving(tmp_path, upstream.url).start()
    with reading(first, chat_body("killed", "T=2000 I=20000")) as (frames, events):
        for _ in range(20):
            next(events)
        first.signal(signal.SIGKILL)
        first.wait()
        with pytest.raises(httpx2.TransportError):
            list(events)
    second = serving(tmp_path, upstream.url).start()
    try:
        _, rest = follow(second.url, "killed", frames.cursor, timeout_s=40)
        assert [c["type"] for c in rest.terminals] == ["error"]
        assert rest.metadata["code"] == "interrupted"
        said_words = (frames.text + rest.text).split()
        assert said_words == [f"w{n}" for n in range(len(said_words))]
        assert len(said_words) >= 20
        assert [(row["outcome"], row["estimated"]) for row in second.usage()] == [("interrupted", True)]
        _, again = send(second.url, chat_body("killed", "T=3 I=0", message_id="next"))
        assert [c["type"] for c in again.terminals] == ["finish"]
    finally:
        second.stop()


def test_the_same_request_at_once_from_many_tabs_is_one_run(gateway: Gateway, upstream: UpstreamThread) -> None:
    before = len(upstream.fake.requests)
    results: list[Frames] = []
    body = chat_body("tabs", "T=20 I=5000")
    tabs = [threading.Thread(target=lambda: results.append(send(gateway.url, body)[1])) for _ in range(8)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(upstream.fake.requests) == before + 1
    assert {frames.text for frames in results} == {results[0].text}
    assert len(results) == 8


def test_a_request_over_many_lines_is_stored_on_one(gateway: Gateway) -> None:
    """Parts are kept as they came, and the log's events are lines."""
    body = chat_body("pretty", "T=2 I=0", note={"why": "extra"})
    content = json.dumps(body, indent=2).replace("\n", "\r\n")
    response = httpx2.post(f"{gateway.url}/api/chat", content=content, timeout=10)
    assert response.text.rstrip().endswith("data: [DONE]")
    assert httpx2.get(f"{gateway.url}/api/chat/pretty").json()["messages"][0]["parts"] == body["messages"][0]["parts"]
    events = gateway.events(chat_topic("local", "pretty"))
    assert [name for name, _ in events] == ["chat", "message", "run-started", "run-finished"]
