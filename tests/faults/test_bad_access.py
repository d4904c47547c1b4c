"""Whoever reaches for what is not there or not theirs is told so, learns no more than that, and harms no one.

Cursors that lead nowhere, chats of other people, forged tokens, keys that an upstream repeats. One gateway with sign-in
for the whole file; the last tests look at what all the others have left behind.
"""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import jwt
import pytest

from gateway.access.auth import mint
from loadtests.upstream import Answer, words
from loadtests.upstream.shapes import encode, error
from loadtests.upstream.stream import half
from tests.conftest import UpstreamThread, eventually
from tests.faults.guarded_gateway import (
    ALICE,
    JWT_SECRET,
    UPSTREAM_KEY,
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
from tests.support.sse_client import chat_body, read_frames


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with guarded(tmp_path_factory.mktemp("guarded"), upstream) as place:
        yield place


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
    _, whole = place.alice.send(chat_body("long", "T=5000 I=0"))
    early, late = whole.events[1][0], whole.events[-20][0]
    ask = place.alice.ask

    def is_dropped() -> bool:
        with contextlib.suppress(httpx2.RemoteProtocolError):  # it is dropped just now, and a reader of it is cut
            return ask("GET", "/api/chat/long/stream", last_event_id=early).status_code == 410
        return False

    eventually(is_dropped, 10)
    problem = check_problem(ask("GET", "/api/chat/long/stream", last_event_id=early), 410, "evicted")
    assert ask("GET", problem["snapshot"]).json()["messages"][1]["parts"][0]["text"] == words(5000)
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
    good, no_chat = (
        mint(JWT_SECRET, "alice", soon, {}),
        mint(JWT_SECRET, "alice", soon, {"chat": False, "audio": False}),
    )
    response = place.nobody.ask("GET", "/api/chats", authorization=f"Bearer {good}")
    assert response.json() == place.alice.ask("GET", "/api/chats").json()
    for method, path in (("GET", "/api/chats"), ("GET", "/v1/models"), ("DELETE", "/api/chat/mine")):
        check_problem(place.nobody.ask(method, path, authorization=f"Bearer {no_chat}"), 403, "forbidden")


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
    check_nothing_was_left_behind(place, upstream)


def test_no_secret_was_ever_told(place: Place) -> None:
    check_no_secret_was_ever_told(place)


def test_no_bad_request_was_logged_as_a_fault_of_the_gateway(place: Place) -> None:
    check_no_bad_request_was_logged_as_a_fault_of_the_gateway(place)
