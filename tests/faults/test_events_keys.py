"""A request that is repeated with its key publishes once, and a bad event of a list is named by its place."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway
from tests.support.problems import check_problem


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    server = Gateway(tmp_path_factory.mktemp("keys"), {}, unit="events")
    try:
        with httpx2.Client(base_url=server.start().url, timeout=20) as client:
            yield client
    finally:
        server.stop()


def post(http: httpx2.Client, body: Any, key: str | None = None) -> httpx2.Response:
    return http.post("/api/events", json=body, headers={} if key is None else {"idempotency-key": key})


def places(response: httpx2.Response) -> list[tuple[str, int, bool]]:
    assert response.status_code == 200, response.text
    return [(event["topic"], event["offset"], event["duplicate"]) for event in response.json()["events"]]


@pytest.mark.parametrize("key", ["k1", "f81d4fae-7dec-11d0", 'quoted "key"'.replace(" ", "_"), "x" * 128])
def test_one_event_is_published_once_for_the_key_of_its_request(http: httpx2.Client, key: str) -> None:
    topic = f"one/{len(key)}"
    assert places(post(http, {"topic": topic, "data": 1}, key)) == [(topic, 1, False)]
    assert places(post(http, {"topic": topic, "data": 2}, key)) == [(topic, 1, True)]
    assert places(post(http, {"topic": topic, "data": 3}, f"{key[:100]}-other")) == [(topic, 2, False)]


def test_a_list_is_published_once_for_the_key_of_its_request(http: httpx2.Client) -> None:
    body = [{"topic": "list/a", "data": n} for n in range(3)] + [{"topics": ["list/b", "list/a"], "data": 9}]
    first = places(post(http, body, "k"))
    assert first == [*(("list/a", n, False) for n in (1, 2, 3)), ("list/b", 1, False), ("list/a", 4, False)]
    assert places(post(http, body, "k")) == [(topic, offset, True) for topic, offset, _ in first]
    assert http.get("/api/events/topics/list/a").json()["head"] == 4


def test_an_event_of_a_list_may_have_a_key_of_its_own(http: httpx2.Client) -> None:
    body = [{"topic": "mixed", "data": 1, "id": "mine"}, {"topic": "mixed", "data": 2}]
    assert places(post(http, body, "k")) == [("mixed", 1, False), ("mixed", 2, False)]
    assert places(post(http, {"topic": "mixed", "data": 3, "idempotencyKey": "mine"})) == [("mixed", 1, True)]
    assert places(post(http, body, "k")) == [("mixed", 1, True), ("mixed", 2, True)]
    assert places(post(http, {"topic": "mixed", "data": 4}, "k")) == [("mixed", 3, False)]


@pytest.mark.parametrize(
    ("keys", "header"),
    [
        ({"id": "a", "idempotencyKey": "b"}, None),
        ({"id": "a"}, "b"),
        ({"idempotencyKey": "a"}, "b"),
        ({"id": "a", "idempotencyKey": "a"}, "b"),
    ],
)
def test_two_keys_for_one_event_are_refused(http: httpx2.Client, keys: dict[str, str], header: str | None) -> None:
    check_problem(post(http, {"topic": "two", "data": 1, **keys}, header), 400, "two_keys", "Idempotency-Key")
    problem = check_problem(
        post(http, [{"topic": "two", "data": 1}, {"topic": "two", "data": 1, "id": "a", "idempotencyKey": "b"}]),
        400,
        "two_keys",
    )
    assert problem["index"] == 1
    assert http.get("/api/events/topics/two").json()["head"] == 0


def test_the_same_key_by_two_names_is_one_key(http: httpx2.Client) -> None:
    body = {"topic": "same", "data": 1, "id": "a", "idempotencyKey": "a"}
    assert places(post(http, body, "a")) == [("same", 1, False)]
    assert places(post(http, {"topic": "same", "data": 1, "id": "a"})) == [("same", 1, True)]


@pytest.mark.parametrize("key", ["a b", "x" * 129, "a\tb", "\xe9"])
def test_a_key_that_is_none_is_refused(http: httpx2.Client, key: str) -> None:
    headers = [(b"idempotency-key", key.encode("latin-1"))]
    check_problem(http.post("/api/events", json={"topic": "a", "data": 1}, headers=headers), 400, "bad_key", "128")


GOOD = {"topic": "listed", "data": 1}
BAD: dict[str, tuple[Any, int, str]] = {
    "no data": ({"topic": "listed"}, 400, "bad_body"),
    "an unknown field": ({**GOOD, "unknown": 1}, 400, "bad_body"),
    "no object": (7, 400, "bad_body"),
    "a bad topic": ({"topic": "x y", "data": 1}, 400, "bad_topic"),
    "no topic": ({"data": 1}, 400, "bad_topic"),
    "a reserved name": ({**GOOD, "event": "bye"}, 400, "reserved_event"),
    "a topic of the gateway": ({"topic": "presence/a", "data": 1}, 403, "topic_forbidden"),
    "much data": ({**GOOD, "data": "x" * 70_000}, 413, "too_large"),
    "another offset": ({**GOOD, "expectedOffset": 77}, 409, "conflict"),
    "a bad ttl": ({**GOOD, "ttl": 0.5}, 400, "bad_body"),
}


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_event_of_a_list_is_named_by_its_place(http: httpx2.Client, bad: str, at: int) -> None:
    event, status, code = BAD[bad]
    body: list[Any] = [GOOD] * 5
    body[at] = event
    assert check_problem(post(http, body), status, code)["index"] == at
    assert http.get("/api/events/topics/listed").json()["head"] == 0


def test_an_event_by_itself_has_no_place(http: httpx2.Client) -> None:
    assert "index" not in check_problem(post(http, {"topic": "x y", "data": 1}), 400)
