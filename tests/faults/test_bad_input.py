"""Whatever is sent, the answer is a problem document that says what was wrong, and the gateway is unharmed.

What is wrong here is how a request is written: its body, its ids, its path or its method. One gateway with sign-in for
the whole file; the last tests look at what all the others have left behind.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from loadtests.upstream import words
from tests.conftest import UpstreamThread
from tests.faults.guarded_gateway import (
    Place,
    body,
    check_no_bad_request_was_logged_as_a_fault_of_the_gateway,
    check_no_secret_was_ever_told,
    check_nothing_was_left_behind,
    completion,
    guarded,
    message,
)
from tests.support.problems import check_problem
from tests.support.sse_client import chat_body, user_message


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with guarded(tmp_path_factory.mktemp("guarded"), upstream) as place:
        yield place


# Bodies


def raw_part(part: bytes) -> bytes:
    return b'{"id":"bad","messages":[{"id":"m1","role":"user","parts":[%b]}]}' % part


class Bad(NamedTuple):
    """A bad body, and what the answer to it says."""

    body: Any
    says: str = ""
    code: str = ""
    status: int = 400


MANY = [user_message("x", f"m{n}") for n in range(10_000)]
CHAT: dict[str, Bad] = {
    "empty": Bad(b"", "`id`", "bad_body"),
    "no JSON": Bad(b"id=1&message=hello", "malformed", "bad_body"),
    "half of it": Bad(b'{"id":"bad","messages":[', "truncated", "bad_body"),
    "two": Bad(b"{} {}", code="bad_body"),
    "array": Bad([], "array", "bad_body"),
    "string": Bad("hello", "str", "bad_body"),
    "not UTF-8": Bad(b'{"id":"bad\xff"}', code="bad_body"),
    "not UTF-8 in a text": Bad(raw_part(b'{"type":"text","text":"\xff\xfe"}'), code="bad_body"),
    "not UTF-8 in a kept field": Bad(raw_part(b'{"type":"text","text":"T=1 I=0","kept":"\xff\xfe"}'), code="bad_body"),
    "not UTF-8 in an extra field": Bad(b'{"extra":"\xff",' + json.dumps(body()).encode()[1:], code="bad_body"),
    "a number without end": Bad(raw_part(b'{"type":"text","text":"T=1 I=0","kept":1e999}')),
    "nested without end": Bad(raw_part(b"[" * 100_000 + b"]" * 100_000)),
    "id missing": Bad(body(id=None), "`id`", "bad_body"),
    "id a number": Bad(body(id=7), "$.id", "bad_body"),
    "no message": Bad(body(messages=None), "messages"),
    "no message in it": Bad(body(id="empty", messages=[]), "message"),
    "one and many": Bad(body(message=message()[0]), "either"),
    "messages an object": Bad(body(messages={}), "$.messages", "bad_body"),
    "message a string": Bad(body(messages=["hello"]), "$.messages[0]", "bad_body"),
    "message without id": Bad(body(messages=message(id=None)), "$.messages[0]", "bad_body"),
    "message without parts": Bad(body(messages=message(parts=None)), "$.messages[0]", "bad_body"),
    "parts a string": Bad(body(messages=message(parts="hello")), "$.messages[0].parts", "bad_body"),
    "part a string": Bad(body(messages=message(parts=["hello"])), "'m1'"),
    "part without type": Bad(body(messages=message(parts=[{"text": "hello"}])), "`type`"),
    "text a number": Bad(body(messages=message(parts=[{"type": "text", "text": 7}])), "$.text"),
    "a file that only the client can read": Bad(
        body(messages=message(parts=[{"type": "file", "mediaType": "application/zip", "url": "blob:x"}])), "zip"
    ),
    "role unknown": Bad(body(messages=message(role="boss")), "$.messages[0].role", "bad_body"),
    "message id of 129": Bad(body(messages=message(id="m" * 129)), "message id", "bad_id"),
    "trigger unknown": Bad(body(trigger="go"), "$.trigger", "bad_body"),
    "message id a number": Bad(body(messageId=7), "$.messageId", "bad_body"),
    "model a number": Bad(body(model=7), "$.model", "bad_body"),
    "policy unknown": Bad(body(onDisconnect="maybe"), "$.onDisconnect", "bad_body"),
    "policy a string": Bad(body(onDisconnect={"cancelAfter": "1"}), "$.onDisconnect.cancelAfter", "bad_body"),
    "policy with more": Bad(body(onDisconnect={"cancelAfter": 1, "x": 1}), "$.onDisconnect", "bad_body"),
    "10000 messages": Bad(body(messages=MANY), "10000 messages: at most 1000", "too_many_messages"),
    "65 extra fields": Bad(body(**{f"x{n}": n for n in range(65)}), "65 extra fields"),
    "17 MB": Bad(body(messages=[user_message("x" * 17_000_000, "m1")]), "TRILANE_LIMIT_BODY_BYTES", "too_large", 413),
}
IDS = [
    "",
    "a\0b",
    "a\rb",
    "a\nb",
    "a\r\nx-evil: 1",
    "a/b",
    "../a",
    "a b",
    "c" * 129,
    "ü",
    "日本",
    "🙂",
    "a%2Fb",
    "a\u202eb",
]


@pytest.mark.parametrize("name", CHAT)
def test_a_bad_chat_request_says_where(name: str, place: Place) -> None:
    row = CHAT[name]
    check_problem(place.alice.ask("POST", "/api/chat", row.body), row.status, row.code, row.says)


@pytest.mark.parametrize("chat_id", IDS, ids=ascii)
def test_an_id_that_could_not_be_one_is_refused(chat_id: str, place: Place) -> None:
    check_problem(place.alice.ask("POST", "/api/chat", body(id=chat_id)), 400, "bad_id", "chat id")
    check_problem(place.alice.ask("POST", "/api/chat", body(messages=message(id=chat_id))), 400, "bad_id")
    path = "".join(f"%{byte:02x}" for byte in chat_id.encode())
    for method, tail in [("GET", ""), ("GET", "/stream"), ("POST", "/stop"), ("DELETE", "")] if chat_id else []:
        response = place.alice.ask(method, f"/api/chat/{path}{tail}")
        assert response.status_code in (400, 404, 405), f"{method} {tail} {response.status_code}"
        check_problem(response, response.status_code)


@pytest.mark.parametrize("header", ["idempotency-key", "x-run-id"])
def test_a_key_that_could_not_be_one_is_refused(header: str, place: Place) -> None:
    for key in ("a b", "k" * 129, "a/b", "<x>"):
        check_problem(place.alice.ask("POST", "/api/chat", body(), **{header: key}), 400, "bad_id", "idempotency key")


def test_a_body_of_17_mb_without_a_length_is_refused(place: Place) -> None:
    parts = (b"x" * 65_536 for _ in range(260))
    response = place.alice.http.post("/api/chat", content=parts)
    check_problem(response, 413, "too_large")


def test_a_body_in_another_layout_is_the_same_body(place: Place) -> None:
    """Spaces and line ends between the tokens of JSON say nothing, also where a part of it is kept as it came."""
    pretty = json.dumps(chat_body("pretty", "T=2 I=0", mood={"level": [1, 2]}), indent=2).replace("\n", "\r\n")
    response, frames = place.alice.send(pretty.encode())
    assert (response.status_code, frames.text) == (200, words(2))
    _, second = place.alice.send(json.dumps(chat_body("pretty", "T=3 I=0", message_id="m2"), indent="\t").encode())
    assert second.text == words(3)
    snapshot = place.alice.ask("GET", "/api/chat/pretty").json()
    assert [m["parts"][0]["text"] for m in snapshot["messages"]] == ["T=2 I=0", words(2), "T=3 I=0", words(3)]
    assert place.alice.ask("GET", "/api/chats").json()["chats"][0]["title"] == "T=2 I=0"


def test_an_accepted_body_can_be_read_again_however_deep_it_is(place: Place) -> None:
    """What is nested as deeply as one reader can follow may be too deep for the next."""
    answers: list[int] = []
    for depth in range(880, 1010, 5):
        question = json.dumps(chat_body(f"deep-{depth}", "T=1 I=0")).encode()
        response = place.alice.ask(
            "POST", "/api/chat", b'{"extra":' + b"[" * depth + b"]" * depth + b"," + question[1:]
        )
        answers.append(response.status_code)
        assert response.status_code in (200, 400)
        snapshot = place.alice.ask("GET", f"/api/chat/deep-{depth}")
        assert snapshot.status_code == {200: 200, 400: 404}[response.status_code]
    assert answers == sorted(answers)


STOP: dict[str, Bad] = {
    "unknown field": Bad({"activeStreamID": "x"}, "activeStreamID", "bad_body"),
    "id a number": Bad({"activeStreamId": 7}, "$.activeStreamId", "bad_body"),
    "array": Bad([], "array", "bad_body"),
    "no JSON": Bad(b"stop", "malformed", "bad_body"),
}


@pytest.mark.parametrize("name", STOP)
def test_a_bad_stop_says_where(name: str, place: Place) -> None:
    row = STOP[name]
    check_problem(place.alice.ask("POST", "/api/chat/warm-False/stop", row.body), 400, row.code, row.says)


COMPLETIONS: dict[str, Bad] = {
    "empty": Bad(b"", "`messages`", "bad_body"),
    "array": Bad([], "array", "bad_body"),
    "n=17": Bad(completion(n=17), "$.n", "bad_body"),
    "max_tokens": Bad(completion(max_tokens=1001), "max_tokens=1001 is more than the limit of 1000"),
    "max_completion_tokens": Bad(completion(max_completion_tokens=10**12), "limit of 1000"),
    "max_tokens a string": Bad(completion(max_tokens="5"), "$.max_tokens", "bad_body"),
    "stream a string": Bad(completion(stream="yes"), "$.stream", "bad_body"),
    "options a list": Bad(completion(stream_options=[]), "$.stream_options", "bad_body"),
    "messages a string": Bad(completion(messages="hello"), "$.messages", "bad_body"),
    "no messages": Bad(completion(messages=[]), "0 messages", "too_many_messages"),
    "10000 messages": Bad(completion(messages=[{}] * 10_000), "10000 messages", "too_many_messages"),
    "model a number": Bad(completion(model=7), "$.model", "bad_body"),
    "a number without end": Bad(b'{"messages":[{"role":"user","content":"T=1 I=0"}],"temperature":1e999}'),
    "nested without end": Bad(b'{"messages":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}"),
    "17 MB": Bad(completion(user="x" * 17_000_000), code="too_large", status=413),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_bad_completion_request_says_where(name: str, stream: bool, place: Place, upstream: UpstreamThread) -> None:
    row, before = COMPLETIONS[name], len(upstream.fake.requests)
    request = {"stream": True, **row.body} if stream and isinstance(row.body, dict) else row.body
    response = place.alice.ask("POST", "/v1/chat/completions", request)
    check_problem(response, row.status, row.code, row.says)
    assert len(upstream.fake.requests) == before


# Paths, methods, ids of requests


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/chat"),
        ("PUT", "/api/chat"),
        ("DELETE", "/api/chats"),
        ("POST", "/api/chat/warm-False"),
        ("POST", "/api/chat/warm-False/stream"),
        ("GET", "/api/chat/warm-False/stop"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/models"),
        ("POST", "/healthz"),
        ("DELETE", "/metrics"),
    ],
)
def test_a_wrong_method_is_405(method: str, path: str, place: Place) -> None:
    response = place.alice.ask(method, path)
    check_problem(response, 405, "http_405")
    methods = response.headers["allow"].split(", ")
    assert methods
    assert method not in methods


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/chat/a/b/c",
        "/v1",
        "/v1/fine_tuning/jobs",
        "/static/../gateway/cli.py",
        "/static/%2e%2e/%2e%2e/etc/passwd",
        "/%00",
        "/<script>",
        "/" + "x" * 3000,
    ],
)
def test_an_unknown_path_is_404(path: str, place: Place) -> None:
    for who in (place.alice, place.nobody):
        problem = check_problem(who.ask("GET", path), 404, "not_found")
        assert len(problem["detail"]) < 300


@pytest.mark.parametrize("request_id", ["a", "req_123", "00-4bf9.2~f-A", "x" * 64])
def test_a_sane_request_id_comes_back(request_id: str, place: Place) -> None:
    for method, path, content in (
        ("GET", "/api/chats", None),
        ("GET", "/nothing", None),
        ("POST", "/api/chat", body()),
    ):
        answer = place.alice.ask(method, path, content, x_request_id=request_id)
        assert answer.headers["x-request-id"] == request_id
    problem = place.alice.ask("GET", "/nothing", x_request_id=request_id).json()
    assert problem["request_id"] == request_id


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 65, "<script>", "a;b", "é", "a\tb", "${jndi:x}"])
def test_an_insane_request_id_is_replaced(request_id: str, place: Place) -> None:
    headers = {"x-request-id": request_id.encode("latin-1")}
    answers = [place.alice.http.get("/nothing", headers=headers) for _ in range(2)]
    own = {answer.headers["x-request-id"] for answer in answers}
    assert len(own) == 2
    assert request_id not in own
    for answer in answers:
        check_problem(answer, 404)


# After all that


def test_nothing_was_left_behind(place: Place, upstream: UpstreamThread) -> None:
    check_nothing_was_left_behind(place, upstream)


def test_no_secret_was_ever_told(place: Place) -> None:
    check_no_secret_was_ever_told(place)


def test_no_bad_request_was_logged_as_a_fault_of_the_gateway(place: Place) -> None:
    check_no_bad_request_was_logged_as_a_fault_of_the_gateway(place)
