"""A chat works over many requests and devices: one run per question, edits, lists, deletion, restarts."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.chat.topics import chat_topic
from loadtests.upstream import Answer, words
from loadtests.upstream.shapes import chunk, tool_call
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.faults.chat_clients import LONG, Open, requests_with, run_id, snapshot, ten_times, texts
from tests.support.sse_client import Frames, chat_body, follow, send, user_message

# Starting


def newest(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the body of a client that posts its newest message alone, as one that the history precedes."""
    rest = {name: value for name, value in body.items() if name != "messages"}
    return {**rest, "message": body["messages"][-1]}


@pytest.mark.parametrize("name", ["message id", "idempotency-key", "x-run-id"])
def test_a_question_asked_ten_times_at_once_is_one_run(name: str, gateway: Gateway, upstream: UpstreamThread) -> None:
    """Ten devices or retries ask at once; with a key even where each names its message otherwise."""
    chat_id = f"ten-{name.replace(' ', '-')}"
    keys = {} if name == "message id" else {name: f"key-of-{chat_id}"}
    numbers = iter(range(10))

    def ask() -> tuple[httpx2.Response, Frames]:
        own = {"message_id": f"m{next(numbers)}"} if keys else {}
        return send(gateway.url, chat_body(chat_id, f"T=10 I=2000 <{chat_id}>", **own), **keys)

    frames = ten_times(ask)
    assert len(requests_with(upstream, f"<{chat_id}>")) == 1
    assert {run_id(f) for f in frames} == {run_id(frames[0])}
    assert {tuple(map(str, f.events)) for f in frames} == {tuple(map(str, frames[0].events))}
    assert len(snapshot(gateway, chat_id)["messages"]) == 2
    assert [row["chatId"] for row in gateway.usage()].count(chat_id) == 1


def test_another_key_is_another_run(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("keys", "T=3 I=0 <keys>")
    _, first = send(gateway.url, body, idempotency_key="one")
    _, again = send(gateway.url, body, idempotency_key="one")
    _, second = send(gateway.url, body, idempotency_key="two")
    assert run_id(first) == run_id(again) != run_id(second)
    assert len(requests_with(upstream, "<keys>")) == 2


def test_a_question_asked_again_after_its_answer_is_the_same_run(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("again", "T=3 I=0 <again>")
    first, second = send(gateway.url, body)[1], send(gateway.url, body)[1]
    assert first.events == second.events
    assert len(requests_with(upstream, "<again>")) == 1


def test_one_message_or_the_whole_conversation_are_the_same(gateway: Gateway, upstream: UpstreamThread) -> None:
    """The upstream sees the stored conversation, whatever part of it the client repeats."""
    send(gateway.url, chat_body("short", "T=2 I=0 <short> first", message_id="m1"))
    only = {"id": "short", "message": user_message("T=2 I=0 <short> second", "m2")}
    send(gateway.url, only)
    conversation = requests_with(upstream, "<short>")[-1].body
    assert conversation is not None
    assert [(m["role"], m["content"]) for m in conversation["messages"]] == [
        ("user", "T=2 I=0 <short> first"),
        ("assistant", "w0 w1"),
        ("user", "T=2 I=0 <short> second"),
    ]


def test_fields_of_an_application_are_kept_with_the_run(gateway: Gateway) -> None:
    send(gateway.url, chat_body("extra", "T=1 I=0", mood={"level": [1, None, "é"]}))
    [start_event] = [data for name, data in gateway.events(chat_topic("local", "extra")) if name == "run-started"]
    assert start_event["extra"] == {"mood": {"level": [1, None, "é"]}}


def calling(arguments: str) -> Callable[[Answer], Any]:
    """Returns an upstream whose model calls a tool with these arguments, exactly as written."""

    async def behave(answer: Answer) -> None:
        await start(answer)
        call = tool_call(0, "look", arguments)
        await answer.frame(chunk(answer.ask, {"tool_calls": [call]}))
        await finish(answer, "tool_calls")

    return behave


@pytest.mark.parametrize(
    "layout", ['{\n  "city": "Zürich",\r\n\t"days": [1,\n2]\n}', '{"city": "Zürich", "days": [1, 2]}']
)
def test_tool_arguments_in_any_layout_are_the_same(layout: str, gateway: Gateway, upstream: UpstreamThread) -> None:
    """Models like to write JSON over several lines; a frame and a line of the log end at the first of them."""
    chat_id = f"layout-{len(layout)}"
    upstream.fake.script(chat_id, calling(layout))
    _, frames = send(gateway.url, chat_body(chat_id, "go", model=chat_id))
    [call_chunk] = [c for c in frames.chunks if c["type"] == "tool-input-available"]
    assert call_chunk["input"] == {"city": "Zürich", "days": [1, 2]}
    [c] = frames.terminals
    assert (c["type"], c["finishReason"]) == ("finish", "tool-calls")
    [part] = snapshot(gateway, chat_id)["messages"][-1]["parts"]
    assert (part["state"], part["input"]) == ("input-available", call_chunk["input"])
    assert follow(gateway.url, chat_id, frames.events[0][0])[1].events == frames.events[1:]


def test_tool_arguments_that_are_no_json_do_not_hurt(gateway: Gateway, upstream: UpstreamThread) -> None:
    for name, arguments in {"cut": '{"city": "Zür', "deep": "[" * 100_000 + "]" * 100_000, "huge": "1e999"}.items():
        upstream.fake.script(f"args-{name}", calling(arguments))
        _, frames = send(gateway.url, chat_body(f"args-{name}", "go", model=f"args-{name}"))
        assert "tool-input-error" in frames.types, name
        assert [c["type"] for c in frames.terminals] == ["finish"]
        assert snapshot(gateway, f"args-{name}")["activeRun"] is None


# A second message


def test_a_second_message_stops_the_first_and_keeps_what_it_said(gateway: Gateway, upstream: UpstreamThread) -> None:
    first = Open(gateway, chat_body("second", f"{LONG} <second>", message_id="m1"))
    _, answer = send(gateway.url, newest(chat_body("second", "T=3 I=0 <second>", message_id="m2")))
    partial = first.join()
    assert ([c["type"] for c in partial.terminals], partial.done) == (["abort"], True)
    assert answer.text == words(3)
    assert texts(gateway, "second") == [f"{LONG} <second>", partial.text, "T=3 I=0 <second>", words(3)]
    earlier, later = requests_with(upstream, "<second>")
    assert not earlier.completed
    assert [m["content"] for m in (later.body or {})["messages"]][1] == partial.text


def test_two_devices_that_send_at_once_both_get_an_answer(gateway: Gateway) -> None:
    """One of them stops the other; nobody gets an error, and both questions are in the chat."""
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda n: send(gateway.url, chat_body("both", "T=5 I=1000", message_id=f"m{n}")), range(2))
        )
    assert [response.status_code for response, _ in results] == [200, 200]
    ends = sorted(frames.terminals[-1]["type"] for _, frames in results)
    assert ends in (["abort", "finish"], ["finish", "finish"])
    users = [m["id"] for m in snapshot(gateway, "both")["messages"] if m["role"] == "user"]
    assert sorted(users) == ["m0", "m1"]


# Regenerating and editing


def test_regenerating_replaces_the_answer(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("regenerate", "T=2 I=0 <regenerate>")
    _, first = send(gateway.url, body)
    answer = first.chunks[0]["messageId"]
    again = {**body, "trigger": "regenerate-message", "messageId": answer}
    _, second = send(gateway.url, again)
    assert run_id(second) != run_id(first)
    assert second.chunks[0]["messageId"] != answer
    assert texts(gateway, "regenerate") == ["T=2 I=0 <regenerate>", words(2)]
    assert snapshot(gateway, "regenerate")["messages"][1]["id"] == second.chunks[0]["messageId"]
    assert [
        [m["role"] for m in (request.body or {})["messages"]] for request in requests_with(upstream, "<regenerate>")
    ] == [
        ["user"],
        ["user"],
    ]


def test_regenerating_the_same_answer_twice_at_once_is_one_run(gateway: Gateway, upstream: UpstreamThread) -> None:
    body = chat_body("twice", "T=10 I=2000 <twice>")
    _, first = send(gateway.url, body)
    again = {**body, "trigger": "regenerate-message", "messageId": first.chunks[0]["messageId"]}
    frames = ten_times(lambda: send(gateway.url, again))
    assert len({run_id(f) for f in frames}) == 1
    assert len(requests_with(upstream, "<twice>")) == 2


def test_an_edited_question_ends_history_there(gateway: Gateway, upstream: UpstreamThread) -> None:
    for number in (1, 2, 3):
        send(gateway.url, chat_body("edit", f"T={number} I=0 <edit>", message_id=f"m{number}"))
    edit = chat_body("edit", "T=4 I=0 <edit> anew", message_id="m2") | {"messageId": "m2"}
    _, answer = send(gateway.url, newest(edit))
    assert answer.text == words(4)
    assert texts(gateway, "edit") == ["T=1 I=0 <edit>", words(1), "T=4 I=0 <edit> anew", words(4)]
    conversation = requests_with(upstream, "<edit>")[-1].body or {}
    assert [m["content"] for m in conversation["messages"]] == ["T=1 I=0 <edit>", words(1), "T=4 I=0 <edit> anew"]


# Lists


def test_chats_are_listed_newest_first_by_what_was_asked(gateway: Gateway) -> None:
    for number in range(3):
        send(gateway.url, chat_body(f"listed-{number}", f"T=1 I=0 question  number {number}\n{'x' * 200}"))
        time.sleep(0.002)
    send(gateway.url, chat_body("listed-0", "T=1 I=0 more", message_id="more"))
    chats = httpx2.get(f"{gateway.url}/api/chats").json()["chats"]
    assert [chat["id"] for chat in chats[:3]] == ["listed-0", "listed-2", "listed-1"]
    assert chats[0]["title"].startswith("T=1 I=0 question number 0 xxx")
    assert len(chats[0]["title"]) == 80
    assert chats == sorted(chats, key=lambda chat: -chat["updatedAt"])


def test_every_chat_is_on_exactly_one_page(upstream: UpstreamThread, tmp_path: Path) -> None:
    """Chats that changed in the same millisecond, where a page ends, are no exception."""
    gateway = serving(tmp_path, upstream.url).start()
    try:
        bodies = [chat_body(f"page-{n}", "T=1 I=0") for n in range(160)]
        with httpx2.Client(timeout=20, verify=False) as http, ThreadPoolExecutor(40) as pool:
            list(pool.map(lambda body: http.post(f"{gateway.url}/api/chat", json=body), bodies))
        ids: list[str] = []
        url, cursor, pages = f"{gateway.url}/api/chats", None, 0
        while pages == 0 or cursor:
            page = httpx2.get(url, params={"cursor": cursor} if cursor else {}).json()
            ids += [chat["id"] for chat in page["chats"]]
            cursor, pages = page["cursor"], pages + 1
        assert sorted(ids) == sorted(body["id"] for body in bodies)
        assert pages >= 3
    finally:
        gateway.stop()


# Deleting


def test_a_deleted_chat_is_gone_for_good(gateway: Gateway) -> None:
    _, whole = send(gateway.url, chat_body("deleted", "T=2 I=0"))
    url = f"{gateway.url}/api/chat/deleted"
    assert httpx2.delete(url).status_code == 204
    assert httpx2.get(url).status_code == 404
    assert httpx2.delete(url).status_code == 404
    assert httpx2.post(f"{url}/stop", json={}).status_code == 404
    response, _ = follow(gateway.url, "deleted", whole.cursor)
    assert response.status_code == 410
    assert "deleted" not in [chat["id"] for chat in httpx2.get(f"{gateway.url}/api/chats").json()["chats"]]
    assert gateway.events(f"run/{run_id(whole)}") == []
    _, anew = send(gateway.url, chat_body("deleted", "T=2 I=0"))
    assert run_id(anew) != run_id(whole)
    assert len(snapshot(gateway, "deleted")["messages"]) == 2


def test_a_chat_that_is_deleted_while_it_is_answered_ends_for_its_readers(
    gateway: Gateway, upstream: UpstreamThread
) -> None:
    log_size = len(gateway.stderr())
    client = Open(gateway, chat_body("deleted-live", f"{LONG} <deleted-live>"))
    assert httpx2.delete(f"{gateway.url}/api/chat/deleted-live").status_code == 204
    frames = client.join()
    assert ([c["type"] for c in frames.terminals], frames.done) == (["abort"], True)
    [request] = requests_with(upstream, "<deleted-live>")
    assert not request.completed
    eventually(lambda: gateway.gauge("trilane_chat_open_runs") == 0)
    assert httpx2.get(f"{gateway.url}/api/chat/deleted-live").status_code == 404
    assert [row["outcome"] for row in gateway.usage() if row["chatId"] == "deleted-live"] == ["abort"]
    assert "Traceback" not in gateway.stderr()[log_size:]


# Restarting


def test_a_restart_keeps_chats_and_cursors(upstream: UpstreamThread, tmp_path: Path) -> None:
    gateway = serving(tmp_path, upstream.url).start()
    try:
        _, whole = send(gateway.url, chat_body("kept", "T=5 I=0 <kept>"))
        before = snapshot(gateway, "kept")
        gateway.stop()
        gateway = serving(tmp_path, upstream.url).start()
        assert snapshot(gateway, "kept") == before
        assert httpx2.get(f"{gateway.url}/api/chats").json()["chats"][0]["id"] == "kept"
        _, rest = follow(gateway.url, "kept", whole.events[4][0])
        assert (rest.events, rest.done) == (whole.events[5:], True)
        _, again = send(gateway.url, chat_body("kept", "T=5 I=0 <kept>"))
        assert again.events == whole.events
        assert len(requests_with(upstream, "<kept>")) == 1
    finally:
        gateway.stop()


def test_the_same_new_chat_asked_of_two_processes_at_once_is_one_run(upstream: UpstreamThread, tmp_path: Path) -> None:
    """Both ask the upstream before they know of each other: the one that loses leaves no trace, and shows the same."""
    gateways = [serving(tmp_path, upstream.url).start() for _ in range(2)]
    try:
        for number in range(10):
            body = chat_body(f"twice{number}", f"T=20 I=1000 <twice{number}>")
            with ThreadPoolExecutor(2) as pool:
                first, second = pool.map(lambda gateway, body=body: send(gateway.url, body)[1], gateways)
            assert first.events == second.events
            assert (first.text, first.done) == (words(20), True)
            assert texts(gateways[0], f"twice{number}") == [f"T=20 I=1000 <twice{number}>", words(20)]
        for gateway in gateways:
            eventually(lambda gateway=gateway: gateway.gauge("trilane_chat_open_runs") == 0, what="no open run")
        eventually(
            lambda: not [request for request in requests_with(upstream, "<twice") if request.open],
            what="no open request",
        )
        assert [row["outcome"] for row in gateways[0].usage()] == ["finish"] * 10
        assert not [gateway for gateway in gateways if "Traceback" in gateway.stderr()]
    finally:
        for gateway in gateways:
            gateway.stop()


def test_the_users_own_topic_tells_of_runs(gateway: Gateway) -> None:
    """One `EventSource` shows everything that happens to a user."""
    before = len(gateway.events("event/user/local"))
    _, frames = send(gateway.url, chat_body("told", "T=3 I=0"))
    assert frames.done
    events = gateway.events("event/user/local")[before:]
    assert [name for name, _ in events] == ["run-started", "run-finished"]
    assert {(data["chatId"], data["runId"]) for _, data in events} == {("told", events[0][1]["runId"])}
    assert events[1][1]["outcome"] == "finish"
