"""Readers of a chat leave, come back, follow and stop its run, from any device."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually
from tests.faults.chat_clients import LONG, Open, requests_with, run_id, snapshot, texts
from tests.support.sse_client import Frames, chat_body, follow, iter_frames, send

# Leaving


@pytest.mark.quiet
@pytest.mark.parametrize("policy", ["continue", "cancel", {"cancelAfter": 0.5}])
def test_a_run_whose_reader_leaves_ends_as_its_policy_says(
    policy: Any, gateway: Gateway, upstream: UpstreamThread
) -> None:
    name = policy if isinstance(policy, str) else "after"
    text = "T=120 I=10000" if policy == "continue" else LONG
    client = Open(gateway, chat_body(f"leave-{name}", f"{text} <leave-{name}>", onDisconnect=policy))
    [request] = requests_with(upstream, f"<leave-{name}>")
    partial = client.leave()
    left_at = time.monotonic()
    eventually(lambda: request.closed_at, 5, "the upstream request is over")
    assert request.closed_at is not None
    took = request.closed_at - left_at
    _, rest = follow(gateway.url, f"leave-{name}", partial.cursor)
    said_words = (partial.text + rest.text).split()
    assert said_words == [f"w{n}" for n in range(len(said_words))]
    if policy == "continue":
        assert request.completed
        assert ([c["type"] for c in rest.terminals], len(said_words)) == (["finish"], 120)
    else:
        assert not request.completed
        assert [c["type"] for c in rest.terminals] == ["abort"]
        assert took < 0.4 if policy == "cancel" else 0.3 < took < 1.2, f"closed after {took:.2f} s"
        eventually(lambda: snapshot(gateway, f"leave-{name}")["activeRun"] is None)
        assert texts(gateway, f"leave-{name}")[-1] == partial.text + rest.text


@pytest.mark.quiet
def test_a_reader_that_comes_back_in_time_keeps_the_run(gateway: Gateway, upstream: UpstreamThread) -> None:
    """The time counts from when the last one left: an earlier absence is forgotten."""
    body = chat_body("back", f"{LONG} <back>", onDisconnect={"cancelAfter": 1.0})
    Open(gateway, body).leave()
    began = time.monotonic()
    time.sleep(0.3)
    back = Open(gateway, body)
    time.sleep(max(0.0, began + 0.8 - time.monotonic()))
    back.leave()
    left_at = time.monotonic()
    [request] = requests_with(upstream, "<back>")
    eventually(lambda: request.closed_at, 5, "the upstream request is over")
    assert request.closed_at is not None
    assert request.closed_at - left_at > 0.9


def test_one_of_two_readers_that_leaves_cancels_nothing(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("two", "T=100 I=5000 <two>", onDisconnect="cancel")
    stays, leaves = Open(gateway, body), Open(gateway, body)
    leaves.leave()
    assert [c["type"] for c in stays.join().terminals] == ["finish"]
    assert [request.completed for request in requests_with(upstream, "<two>")] == [True]


# Following


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId", "lastEventID", "after"])
def test_a_cursor_may_come_in_the_query(name: str, gateway: Gateway) -> None:
    _, whole = send(gateway.url, chat_body("query", "T=5 I=0"))
    url = f"{gateway.url}/api/chat/query/stream"
    frames = Frames()
    answer = httpx2.get(url, params={name: whole.events[3][0]})
    list(iter_frames(answer.text.splitlines(), frames))
    assert (answer.status_code, frames.events, frames.done) == (200, whole.events[4:], True)


def test_the_header_goes_before_the_query(gateway: Gateway) -> None:
    _, whole = send(gateway.url, chat_body("both-ways", "T=5 I=0"))
    url = f"{gateway.url}/api/chat/both-ways/stream"
    frames = Frames()
    headers = {"last-event-id": whole.events[5][0]}
    answer = httpx2.get(url, params={"after": whole.events[1][0], "last_event_id": ""}, headers=headers)
    list(iter_frames(answer.text.splitlines(), frames))
    assert frames.events == whole.events[6:]


def test_nothing_to_follow_is_204(gateway: Gateway) -> None:
    _, whole = send(gateway.url, chat_body("over", "T=2 I=0"))
    for chat_id in ("over", "never-heard-of"):
        response, _ = follow(gateway.url, chat_id)
        assert (response.status_code, response.content) == (204, b"")
    response, rest = follow(gateway.url, "over", whole.cursor)
    assert (response.status_code, rest.events, rest.done) == (200, [], True)


def test_an_active_run_is_replayed_from_its_start(gateway: Gateway) -> None:
    client = Open(gateway, chat_body("replay", "T=60 I=5000"))
    _, all_of_it = follow(gateway.url, "replay")
    assert all_of_it.types[0] == "start"
    assert all_of_it.events == client.join().events


# Stopping


def test_stop_is_idempotent_and_ignores_what_is_stale(gateway: Gateway, upstream: UpstreamThread) -> None:
    url = f"{gateway.url}/api/chat/stop/stop"
    _, old = send(gateway.url, chat_body("stop", "T=1 I=0", message_id="m1"))
    client = Open(gateway, chat_body("stop", f"{LONG} <stop>", message_id="m2"))
    stale = httpx2.post(url, json={"activeStreamId": run_id(old)}).json()
    assert stale == {"stopped": False, "runId": None}
    assert upstream.open_requests
    active = snapshot(gateway, "stop")["activeRun"]["runId"]
    first = httpx2.post(url, json={"activeStreamId": active}).json()
    assert first == {"stopped": True, "runId": active}
    frames = client.join()
    assert ([c["type"] for c in frames.terminals], frames.done) == (["abort"], True)
    for body in ({}, {"activeStreamId": active}, {"activeStreamId": None}):
        again = httpx2.post(url, json=body)
        assert (again.status_code, again.json()["stopped"]) == (200, False)
    assert httpx2.post(url).json()["stopped"] is False
    assert texts(gateway, "stop")[-1] == frames.text
    assert [row["outcome"] for row in gateway.usage() if row["chatId"] == "stop"] == ["finish", "abort"]


def test_stop_at_once_from_ten_devices_is_one_abort(gateway: Gateway) -> None:
    client = Open(gateway, chat_body("stops", LONG))
    with ThreadPoolExecutor(10) as pool:
        url = f"{gateway.url}/api/chat/stops/stop"
        answers = list(pool.map(lambda _: httpx2.post(url, json={}, verify=False).status_code, range(10)))
    assert answers == [200] * 10
    assert [c["type"] for c in client.join().terminals] == ["abort"]
