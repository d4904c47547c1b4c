"""Whatever is sent, the answer is a problem document that says what was wrong, and the gateway is unharmed.

One gateway with sign-in for the whole file; the last test looks at what all the others have left behind.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx2
import jwt
import pytest

from gateway.access.auth import mint
from loadtests.upstream import Answer, words
from loadtests.upstream.shapes import encode, error
from loadtests.upstream.stream import half
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, read_frames, user_message

ALICE = "alice-7f3c9b1e5d2a4f6087c1"
BOB = "bob-5a1d0c8e9f2b4736a6e0"
JWT_SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
UPSTREAM_KEY = "sk-upstream-3b9d2f7a1c5e8046"
SECRETS = (ALICE, BOB, JWT_SECRET, UPSTREAM_KEY)
FIELDS = {"type", "title", "status", "detail", "code", "retryable", "request_id"}


class Caller:
    """A Caller is one user of the gateway under test, who remembers every answer."""

    answers: list[str]

    def __init__(self, gateway: Gateway, token: str, answers: list[str]) -> None:
        self.answers = answers
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(base_url=gateway.url, headers=headers, timeout=20, verify=False)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx2.Response:
        """Sends a request; a `body` of bytes goes as it is, anything else as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        raw_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self.http.request(method, path, content=content, headers=raw_headers)
        self.answers.append(f"{response.headers} {response.text}")
        return response

    def send(self, body: Any, **headers: str) -> tuple[httpx2.Response, Frames]:
        response = self.ask("POST", "/api/chat", body, **headers)
        return response, read_frames(response.text.splitlines())


class Place(NamedTuple):
    """Holds the gateway under test, its users, and its state before the first bad request."""

    gateway: Gateway
    alice: Caller
    bob: Caller
    nobody: Caller
    fds: int
    tasks: float


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    env = {
        "TRILANE_API_KEYS": f"alice:{ALICE},bob:{BOB}",
        "TRILANE_JWT_SECRET": JWT_SECRET,
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "TRILANE_LIMIT_OUTPUT_TOKENS": "1000",
        "TRILANE_RETENTION_BYTES": "65536",
    }
    gateway = serving(tmp_path_factory.mktemp("guarded"), upstream.url, **env)
    answers: list[str] = []
    try:
        gateway.start()
        alice, bob, nobody = (Caller(gateway, token, answers) for token in (ALICE, BOB, ""))
        for who in (alice, bob):
            assert who.send(chat_body(f"warm-{who is bob}", "T=2 I=0"))[1].done
        assert nobody.ask("GET", "/healthz").status_code == 200
        yield Place(gateway, alice, bob, nobody, gateway.fds(), gateway.gauge("trilane_tasks"))
        for who in (alice, bob, nobody):
            who.http.close()
    finally:
        gateway.stop()


def check_problem(response: httpx2.Response, status: int, code: str = "", says: str = "") -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem.keys() >= FIELDS
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["x-request-id"]
    assert isinstance(problem["retryable"], bool)
    assert problem["title"]
    assert problem["detail"]
    assert problem["code"] == code or not code
    assert says in problem["detail"], problem["detail"]
    return problem


# Bodies


def body(**changes: Any) -> dict[str, Any]:
    """Returns a good request with changes; None removes a field."""
    changed = {**chat_body("bad", "T=1 I=0"), **changes}
    return {name: value for name, value in changed.items() if value is not None}


def message(**changes: Any) -> list[dict[str, Any]]:
    changed = {**user_message("T=1 I=0", "m1"), **changes}
    return [{name: value for name, value in changed.items() if value is not None}]


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
    "half a surrogate": Bad(raw_part(b'{"type":"text","text":"\\ud800"}'), code="bad_body"),
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
    "a file of no use": Bad(
        body(messages=message(parts=[{"type": "file", "mediaType": "application/zip", "url": "data:,"}])), "zip"
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
    "2 MB": Bad(body(messages=[user_message("x" * 2_000_000, "m1")]), "TRILANE_LIMIT_BODY_BYTES", "too_large", 413),
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


def test_a_body_of_2_mb_without_a_length_is_refused(place: Place) -> None:
    parts = (b"x" * 65_536 for _ in range(32))
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


def completion(**changes: Any) -> dict[str, Any]:
    return {"model": "ok", "messages": [{"role": "user", "content": "T=1 I=0"}], **changes}


COMPLETIONS: dict[str, Bad] = {
    "empty": Bad(b"", "`messages`", "bad_body"),
    "array": Bad([], "array", "bad_body"),
    "unknown field": Bad(completion(max_token=5), "max_token", "bad_body"),
    "n=2": Bad(completion(n=2), "$.n", "bad_body"),
    "logprobs": Bad(completion(logprobs=True), "logprobs"),
    "top_logprobs": Bad(completion(top_logprobs=2), "top_logprobs", "bad_body"),
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
    "2 MB": Bad(completion(user="x" * 2_000_000), code="too_large", status=413),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_bad_completion_request_says_where(name: str, stream: bool, place: Place, upstream: UpstreamThread) -> None:
    row, before = COMPLETIONS[name], len(upstream.fake.requests)
    request = {"stream": True, **row.body} if stream and isinstance(row.body, dict) else row.body
    response = place.alice.ask("POST", "/v1/chat/completions", request)
    check_problem(response, row.status, row.code, row.says)
    assert len(upstream.fake.requests) == before


# Cursors


@pytest.fixture(scope="module")
def cursors(place: Place, upstream: UpstreamThread) -> dict[str, str]:
    """Returns cursors that point to nothing in alice's chat `mine`."""
    _, mine = place.alice.send(chat_body("mine", "T=5 I=0"))
    _, other = place.alice.send(chat_body("other", "T=5 I=0"))
    _, bobs = place.bob.send(chat_body("bobs", "T=5 I=0"))
    _, gone_chat = place.alice.send(chat_body("deleted", "T=5 I=0"))
    assert place.alice.ask("DELETE", "/api/chat/deleted").status_code == 204
    run_id, epoch, _ = mine.cursor.split(".")
    return {
        "mine": mine.events[3][0],
        "other chat": other.cursor,
        "someone else's": bobs.cursor,
        "deleted": gone_chat.cursor,
        "no such run": f"{'0' * 20}.{epoch}.3",
        "past the end": f"{run_id}.{epoch}.999",
        "another epoch": f"{run_id}.{'0' * len(epoch)}.3",
    }


GARBAGE = {
    "word": "garbage",
    "two parts": "run.1",
    "negative": "run.e.-1",
    "leading zero": "run.e.01",
    "huge": "run.e.9999999999999999",
    "space": "run .e.1",
    "path": "../../chat/x.e.1",
    "unicode": "rün.e.1",
    "other digits": "run.e.\u0661",
    "4 kB": "x" * 4096 + ".e.1",
    "null": "null",
    "newline": "run.e.1\n",
    "nul": "run.e\0.1",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_cursor_that_is_none_of_ours_is_400(name: str, place: Place, cursors: dict[str, str]) -> None:
    cursor = GARBAGE[name]
    for query in ("last_event_id", "lastEventId", "lastEventID", "after"):
        response = place.alice.http.get("/api/chat/mine/stream", params={query: cursor})
        problem = check_problem(response, 400, "bad_cursor")
        assert len(problem["detail"]) < 300
    if cursor.isascii() and cursor.isprintable():
        check_problem(place.alice.ask("GET", "/api/chat/mine/stream", last_event_id=cursor), 400, "bad_cursor")
        check_problem(place.alice.ask("POST", "/api/chat", body(id="mine"), last_event_id=cursor), 400, "bad_cursor")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("other chat", "unknown_cursor"),
        ("someone else's", "unknown_cursor"),
        ("deleted", "unknown_cursor"),
        ("no such run", "unknown_cursor"),
        ("past the end", "unknown_cursor"),
        ("another epoch", "epoch_changed"),
    ],
)
def test_a_cursor_that_leads_nowhere_is_410(name: str, code: str, place: Place, cursors: dict[str, str]) -> None:
    for method, path, content in (("GET", "/api/chat/mine/stream", None), ("POST", "/api/chat", body(id="mine"))):
        response = place.alice.ask(method, path, content, last_event_id=cursors[name])
        problem = check_problem(response, 410, code)
        assert problem["snapshot"] == "/api/chat/mine"
        assert place.alice.ask("GET", problem["snapshot"]).status_code == 200


def test_a_cursor_of_a_chat_that_never_was_is_410(place: Place, cursors: dict[str, str]) -> None:
    check_problem(place.alice.ask("GET", "/api/chat/never/stream", last_event_id=cursors["mine"]), 410)
    check_problem(place.alice.ask("POST", "/api/chat", body(id="never"), last_event_id=cursors["mine"]), 410)
    check_problem(place.alice.ask("GET", "/api/chat/never"), 404, "chat_not_found")


def test_history_that_the_log_has_dropped_is_410(place: Place) -> None:
    """The gateway under test keeps 64 KiB of a run."""
    _, whole = place.alice.send(chat_body("long", "T=1500 I=0"))
    early, late = whole.events[1][0], whole.events[-20][0]
    ask = place.alice.ask
    eventually(lambda: ask("GET", "/api/chat/long/stream", last_event_id=early).status_code == 410, 10)
    problem = check_problem(ask("GET", "/api/chat/long/stream", last_event_id=early), 410, "evicted")
    assert ask("GET", problem["snapshot"]).json()["messages"][1]["parts"][0]["text"] == words(1500)
    rest = read_frames(ask("GET", "/api/chat/long/stream", last_event_id=late).text.splitlines())
    assert (rest.events, rest.done) == (whole.events[-19:], True)


def test_a_list_cursor_that_is_none_is_400(place: Place) -> None:
    for cursor in ("x", "-1", "1e9", "9" * 20, "\u0661"):
        check_problem(place.alice.http.get("/api/chats", params={"cursor": cursor}), 400, "bad_cursor")


# Other people's chats


def test_a_chat_of_someone_else_is_not_there(place: Place, cursors: dict[str, str], upstream: UpstreamThread) -> None:
    before = len(upstream.fake.requests)
    ask = place.bob.ask
    for chat_id in ("mine", "nobodys"):
        check_problem(ask("GET", f"/api/chat/{chat_id}"), 404, "chat_not_found")
        assert ask("GET", f"/api/chat/{chat_id}/stream").status_code == 204
        check_problem(ask("GET", f"/api/chat/{chat_id}/stream", last_event_id=cursors["mine"]), 410, "unknown_cursor")
        check_problem(ask("POST", f"/api/chat/{chat_id}/stop", {}), 404, "chat_not_found")
        check_problem(ask("DELETE", f"/api/chat/{chat_id}"), 404, "chat_not_found")
        check_problem(ask("POST", "/api/chat", body(id=chat_id), last_event_id=cursors["mine"]), 410, "unknown_cursor")
    assert len(upstream.fake.requests) == before
    assert len(place.alice.ask("GET", "/api/chat/mine").json()["messages"]) == 2


def test_two_users_may_call_their_chats_the_same(place: Place, cursors: dict[str, str]) -> None:
    alices = place.alice.ask("GET", "/api/chat/mine").json()
    assert place.bob.ask("POST", "/api/chat", body(id="mine", messages=message(id="bobs-own"))).status_code == 200
    bobs = place.bob.ask("GET", "/api/chat/mine").json()
    assert [shown["id"] for shown in bobs["messages"]][:1] == ["bobs-own"]
    assert place.alice.ask("GET", "/api/chat/mine").json() == alices
    assert place.bob.ask("DELETE", "/api/chat/mine").status_code == 204
    assert place.alice.ask("GET", "/api/chat/mine").json() == alices


def test_lists_are_separate(place: Place, cursors: dict[str, str]) -> None:
    mine = {chat["id"] for chat in place.alice.ask("GET", "/api/chats").json()["chats"]}
    bobs = {chat["id"] for chat in place.bob.ask("GET", "/api/chats").json()["chats"]}
    assert not mine & bobs
    assert {"mine", "other"} <= mine
    assert "bobs" in bobs


# Who asks

DAY = 86_400


def unsigned_token(claims: dict[str, Any]) -> str:
    pieces = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=") for p in ({"alg": "none"}, claims)]
    return b".".join([*pieces, b""]).decode()


def forged_tokens() -> dict[str, str]:
    soon = int(time.time()) + DAY
    return {
        "nothing": "",
        "another key": "alice-0000000000000000",
        "a part of the key": ALICE[:-1],
        "no token": "a.b.c",
        "another secret": mint("x" * 32, "alice", soon, {}),
        "expired": mint(JWT_SECRET, "alice", time.time() - 10, {}),
        "unsigned": unsigned_token({"sub": "alice", "exp": soon}),
        "for ever": jwt.encode({"sub": "alice"}, JWT_SECRET, algorithm="HS256"),
        "nobody": jwt.encode({"exp": soon}, JWT_SECRET, algorithm="HS256"),
        "another algorithm": jwt.encode({"sub": "alice", "exp": soon}, JWT_SECRET * 2, algorithm="HS512"),
        "bad grants": jwt.encode({"sub": "alice", "exp": soon, "trilane": {"chat": "yes"}}, JWT_SECRET, "HS256"),
        "9 kB": "x" * 9000,
        "latin": "schlüssel",
    }


@pytest.mark.parametrize("name", forged_tokens())
def test_a_forged_token_is_401(name: str, place: Place) -> None:
    token = forged_tokens()[name]
    for method, path, content in (
        ("GET", "/api/chats", None),
        ("POST", "/api/chat", body()),
        ("GET", "/v1/models", None),
    ):
        headers = {"authorization": f"Bearer {token}".strip().encode("latin-1")}
        response = place.nobody.http.request(method, path, headers=headers, json=content)
        place.nobody.answers.append(f"{response.headers} {response.text}")
        problem = check_problem(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
        assert not token or token not in problem["detail"]


def test_a_key_anywhere_else_than_in_its_header_is_nothing(place: Place) -> None:
    for query in ("token", "access_token", "api_key", "key", "authorization", "ticket"):
        check_problem(place.nobody.http.get("/api/chats", params={query: ALICE}), 401, "unauthorized")
    for value in (ALICE, f"Basic {ALICE}", f"Token {ALICE}"):
        check_problem(place.nobody.ask("GET", "/api/chats", authorization=value), 401, "unauthorized")


def test_a_token_is_its_user_and_no_more_than_it_grants(place: Place) -> None:
    soon = time.time() + DAY
    good, no_chat = mint(JWT_SECRET, "alice", soon, {}), mint(JWT_SECRET, "alice", soon, {"chat": False})
    response = place.nobody.ask("GET", "/api/chats", authorization=f"Bearer {good}")
    assert response.json() == place.alice.ask("GET", "/api/chats").json()
    for method, path in (("GET", "/api/chats"), ("GET", "/v1/models"), ("DELETE", "/api/chat/mine")):
        check_problem(place.nobody.ask(method, path, authorization=f"Bearer {no_chat}"), 403, "forbidden")


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
        "/v1/embeddings",
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


# Secrets


def leaking(status: int) -> Callable[[Answer], Any]:
    """Returns an upstream that repeats the key it was sent, as some do."""

    async def behave(answer: Answer) -> None:
        key = answer.record.headers["authorization"].removeprefix("Bearer ")
        text = encode(error(f"Incorrect API key provided: {key}.", "invalid_request_error", "invalid_api_key"))
        if status == 200:
            await half(answer)
            await answer.frame(text)
            await answer.end()
        else:
            await answer.whole(status, "application/json", text)

    return behave


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 200])
def test_a_key_that_the_upstream_repeats_goes_no_further(status: int, place: Place, upstream: UpstreamThread) -> None:
    name = f"leak-{status}"
    upstream.fake.script(name, leaking(status))
    answers = [place.alice.ask("POST", "/api/chat", chat_body(name, "T=4 I=0", model=name))]
    for stream in (False, True):
        answers.append(place.alice.ask("POST", "/v1/chat/completions", completion(model=name, stream=stream)))
    answers.append(place.alice.ask("GET", f"/api/chat/{name}"))
    for answer in answers:
        assert UPSTREAM_KEY not in answer.text
    for answer in answers[:2] if status == 200 else answers[:3]:
        assert answer.status_code in (429, 502) or status == 200


# After all that


def test_nothing_was_left_behind(place: Place, upstream: UpstreamThread) -> None:
    gateway = place.gateway
    response, frames = place.alice.send(chat_body("after", "T=20 I=0"))
    assert (response.status_code, frames.text) == (200, words(20))
    eventually(lambda: gateway.gauge("trilane_open_runs") == 0, what="no open run")
    eventually(lambda: gateway.gauge("trilane_open_streams") == 0, what="no open stream")
    eventually(lambda: gateway.gauge("trilane_tasks") <= place.tasks, what="no task left")
    eventually(lambda: gateway.fds() <= place.fds + 2, what=f"no descriptor left, {gateway.fds()} of {place.fds}")
    assert not upstream.open_requests


def test_no_secret_was_ever_told(place: Place) -> None:
    assert len(place.alice.answers) > 100
    for secret in SECRETS:
        assert not [answer for answer in place.alice.answers if secret in answer]
        assert secret not in place.gateway.stderr()


def test_no_bad_request_was_logged_as_a_fault_of_the_gateway(place: Place) -> None:
    assert "request failed" not in place.gateway.stderr()
    assert "Traceback" not in place.gateway.stderr()
