"""A run in the background is answered 202: it goes on by itself, and is one run however often it is asked for."""

from typing import Any

import httpx2

from tests.conftest import Gateway, UpstreamThread, eventually
from tests.faults.chat_clients import requests_with, snapshot, texts
from tests.support.problems import check_problem
from tests.support.sse_client import Frames, chat_body, read_frames, send


def accept(gateway: Gateway, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    """Has a run begin in the background; returns what says where it is."""
    answer = httpx2.post(f"{gateway.url}/api/chat", json=body | {"background": True}, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json"), answer.text
    return answer.json()


def read(gateway: Gateway, accepted: dict[str, Any]) -> Frames:
    with httpx2.stream("GET", gateway.url + accepted["streamUrl"], timeout=20) as answer:
        assert answer.status_code == 200
        return read_frames(answer.iter_lines())


def is_over(gateway: Gateway, chat_id: str) -> bool:
    return snapshot(gateway, chat_id)["activeRun"] is None


def test_nobody_needs_to_read_it_and_whoever_reads_gets_all(gateway: Gateway) -> None:
    accepted = accept(gateway, chat_body("alone", "T=20 I=50000"))
    assert accepted["id"] == "alone"
    assert snapshot(gateway, "alone")["activeRun"] == {name: accepted[name] for name in ("runId", "cursor")}
    eventually(lambda: is_over(gateway, "alone"))
    frames = read(gateway, accepted)
    assert (frames.types[0], frames.types[-1], frames.done) == ("start", "finish", True)
    assert frames.text == texts(gateway, "alone")[-1] == " ".join(f"w{n}" for n in range(20))


def test_a_reader_that_leaves_does_not_end_it_whatever_it_says(gateway: Gateway) -> None:
    accepted = accept(gateway, chat_body("left", "T=40 I=20", onDisconnect="cancel"))
    with httpx2.stream("GET", gateway.url + accepted["streamUrl"], timeout=20) as answer:
        assert next(answer.iter_lines())
    eventually(lambda: is_over(gateway, "left"))
    assert read(gateway, accepted).types[-1] == "finish"


def test_the_same_message_again_is_the_same_run_streamed_or_not(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("same", "T=10 I=20 <same>")
    first = accept(gateway, body)
    assert accept(gateway, body) == first
    _, frames = send(gateway.url, body)
    assert accept(gateway, body) == first, "also once it is over"
    assert frames.events == read(gateway, first).events
    assert len(requests_with(upstream, "<same>")) == 1
    assert accept(gateway, body, **{"idempotency-key": "another"})["runId"] != first["runId"]


def test_what_the_upstream_refuses_is_told_to_who_reads(gateway: Gateway) -> None:
    accepted = accept(gateway, chat_body("refused", "T=1 I=0", model="429"))
    eventually(lambda: is_over(gateway, "refused"))
    [end] = read(gateway, accepted).terminals
    assert end["type"] == "error"


def test_it_can_be_stopped_as_any_other(gateway: Gateway) -> None:
    accepted = accept(gateway, chat_body("stopped", "T=1000 I=20"))
    answer = httpx2.post(f"{gateway.url}/api/chat/stopped/stop", json={"activeStreamId": accepted["runId"]})
    assert answer.json() == {"stopped": True, "runId": accepted["runId"]}
    eventually(lambda: is_over(gateway, "stopped"))
    assert read(gateway, accepted).types[-1] == "abort"


def test_a_completion_has_none(gateway: Gateway) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "background": True}
    answer = httpx2.post(f"{gateway.url}/v1/chat/completions", json=body)
    check_problem(answer, 400, "unsupported_parameter")
    assert answer.json()["error"]["param"] == "background"
    assert httpx2.post(f"{gateway.url}/v1/chat/completions", json=body | {"background": False}).status_code == 200
