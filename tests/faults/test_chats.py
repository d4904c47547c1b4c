"""A chat over many requests and devices: one run for one question, stops, edits, lists, deletion, restarts."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.chat.topics import chat_topic
from loadtests.upstream import Answer, RequestRecord, words
from loadtests.upstream.shapes import chunk, tool_call
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, follow, iter_frames, send, user_message

LONG = "T=1000 I=10000"


class Open:
    """A client in the middle of its answer, read in a thread from the first token on."""

    def __init__(self, gateway: Gateway, body: dict[str, Any], **headers: str) -> None:
        self.frames = Frames()
        self._leave = threading.Event()
        self._has_started = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(f"{gateway.url}/api/chat", body, headers))
        self._thread.start()
        assert self._has_started.wait(10)

    def _read(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=30, verify=False) as response:
            for _, data in iter_frames(response.iter_lines(), self.frames):
                if data["type"] == "text-delta":
                    self._has_started.set()
                if self._leave.is_set():
                    break
        self._has_started.set()

    def leave(self) -> Frames:
        """Closes the connection after the next token."""
        self._leave.set()
        return self.join()

    def join(self) -> Frames:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.frames


def requests_with(upstream: UpstreamThread, mark: str) -> list[RequestRecord]:
    """The upstream's requests whose conversation has this mark in it."""
    return [request for request in upstream.fake.requests if mark in str(request.body)]


def snapshot(gateway: Gateway, chat_id: str) -> dict[str, Any]:
    return httpx2.get(f"{gateway.url}/api/chat/{chat_id}", verify=False).json()


def texts(gateway: Gateway, chat_id: str) -> list[str]:
    """What everyone said, in order."""
    messages = snapshot(gateway, chat_id)["messages"]
    return ["".join(p["text"] for p in m["parts"] if p["type"] == "text") for m in messages]


def run_id(frames: Frames) -> str:
    return frames.cursor.split(".")[0]


def ten_times(ask: Callable[[], tuple[httpx2.Response, Frames]]) -> list[Frames]:
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda _: ask(), range(10)))
    assert [response.status_code for response, _ in results] == [200] * 10
    return [frames for _, frames in results]


# Starting


@pytest.mark.parametrize("name", ["message id", "idempotency-key", "x-run-id"])
def test_a_question_asked_ten_times_at_once_is_one_run(name: str, gateway: Gateway, upstream: UpstreamThread) -> None:
    """Ten devices or retries; with a key even where each names its message otherwise."""
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
    """An upstream whose model calls a tool with these arguments, as it wrote them."""

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
    _, answer = send(gateway.url, chat_body("second", "T=3 I=0 <second>", message_id="m2"))
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
    _, answer = send(gateway.url, edit)
    assert answer.text == words(4)
    assert texts(gateway, "edit") == ["T=1 I=0 <edit>", words(1), "T=4 I=0 <edit> anew", words(4)]
    conversation = requests_with(upstream, "<edit>")[-1].body or {}
    assert [m["content"] for m in conversation["messages"]] == ["T=1 I=0 <edit>", words(1), "T=4 I=0 <edit> anew"]


# Leaving


@pytest.mark.parametrize("policy", ["continue", "cancel", {"cancelAfter": 0.5}])
def test_what_becomes_of_a_run_when_its_reader_leaves(policy: Any, gateway: Gateway, upstream: UpstreamThread) -> None:
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


def test_who_comes_back_in_time_keeps_the_run(gateway: Gateway, upstream: UpstreamThread) -> None:
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
    """Also of those that changed in the same millisecond, where a page ends."""
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
    eventually(lambda: gateway.gauge("trilane_open_runs") == 0)
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
            eventually(lambda gateway=gateway: gateway.gauge("trilane_open_runs") == 0, what="no open run")
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
    """So that one `EventSource` shows everything that happens to a user."""
    before = len(gateway.events("event/user/local"))
    _, frames = send(gateway.url, chat_body("told", "T=3 I=0"))
    assert frames.done
    events = gateway.events("event/user/local")[before:]
    assert [name for name, _ in events] == ["run-started", "run-finished"]
    assert {(data["chatId"], data["runId"]) for _, data in events} == {("told", events[0][1]["runId"])}
    assert events[1][1]["outcome"] == "finish"
