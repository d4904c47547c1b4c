"""Whatever is sent to the events lane, the answer says what was wrong, and no reader sees any of it.

One gateway without sign-in for the whole file, with one reader attached all the while; the last test looks at what all
the others have left behind.
"""

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.conftest import Gateway, eventually
from tests.support.event_streams import EventReader
from tests.support.problems import check_problem
from tests.support.sse_decoder import SseDecoder

LIMIT = 65_536
STREAMS = 20
WITNESSED = ("a", "x/*")


class Bad(NamedTuple):
    """A bad body, and what the answer to it says."""

    body: bytes
    says: str
    code: str = "bad_body"
    status: int = 400


class Place(NamedTuple):
    gateway: Gateway
    http: httpx2.Client
    witness: socket.socket
    """Socket of a reader that has followed WITNESSED since before the first bad request."""
    fds: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    env = {"TRILANE_LIMIT_STREAMS": str(STREAMS), "TRILANE_PING_S": "0.5"}
    gateway = Gateway(tmp_path_factory.mktemp("open"), env, unit="events")
    try:
        gateway.start()
        with httpx2.Client(base_url=gateway.url, timeout=20) as http:
            query = "&".join(f"topic={topic}" for topic in WITNESSED)
            witness = send(gateway, f"GET /api/events?{query} HTTP/1.1")
            eventually(lambda: gateway.gauge("trilane_gateway_open_streams") == 1, what="the witness is there")
            publish(http, {"topic": "a", "event": "good", "data": 0})
            yield Place(gateway, http, witness, gateway.fds())
            witness.close()
    finally:
        gateway.stop()


def send(gateway: Gateway, *head: str) -> socket.socket:
    """Opens a connection with one request on it, written as it is."""
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=5)
    connection.sendall("\r\n".join([*head, "Host: localhost", "", ""]).encode("latin-1"))
    return connection


def publish(http: httpx2.Client, body: Any) -> list[dict[str, Any]]:
    response = http.post("/api/events", json=body)
    assert response.status_code == 200, response.text
    return response.json()["events"]


def event(data: bytes = b"1", **more: Any) -> bytes:
    fields = [b'"data":%b' % data, *(b'"%b":%b' % (k.encode(), json.dumps(v).encode()) for k, v in more.items())]
    return b"{%b}" % b",".join(fields)


def one(data: bytes = b"1", **more: Any) -> bytes:
    return event(data, topic="a", **more)


PUBLISHED: dict[str, Bad] = {
    "nothing": Bad(b"", "`data`"),
    "no JSON": Bad(b"topic=a&data=1", "malformed"),
    "half of it": Bad(b'{"topic":"a","data":', "truncated"),
    "two": Bad(one() + one(), "trailing"),
    "a string": Bad(b'"a"', "Expected `object`, got `str`"),
    "null": Bad(b"null", "Expected `object`, got `null`"),
    "an empty list": Bad(b"[]", "no event in this list", "bad_event"),
    "a list of lists": Bad(b"[[]]", "$[0]"),
    "NaN": Bad(one(b"NaN"), "malformed"),
    "Infinity": Bad(one(b"-Infinity"), "malformed"),
    "a number past all floats": Bad(one(b"1e999"), "out of range"),
    "a comment": Bad(one(b"1/*x*/"), "malformed"),
    "not UTF-8": Bad(one(b'"\xff"'), "utf-8"),
    "a surrogate in UTF-8": Bad(one(b'"\xed\xa0\x80"'), "utf-8"),
    "UTF-16": Bad(one().decode().encode("utf-16"), "not valid"),
    "a control character": Bad(one(b'"\x01"'), "malformed"),
    "LF in a text": Bad(one(b'"1\nid: 9"'), "malformed"),
    "CR in a text": Bad(one(b'"1\rid: 9"'), "malformed"),
    "a frame as data": Bad(one(b"1\n\nevent: hello\ndata: 1"), "malformed"),
    "NUL": Bad(one(b"1\0"), "malformed"),
    "deep lists": Bad(one(b"[" * 101 + b"]" * 101), "100 deep"),
    "deep objects": Bad(one(b'{"a":' * 101 + b"1" + b"}" * 101), "100 deep"),
    "far too deep": Bad(one(b"[" * 50_000 + b"]" * 50_000), "100 deep"),
    "too many lists": Bad(one(b"[%b]" % b",".join([b"[]"] * 50_001)), "more than 100000 items"),
    "an unknown field": Bad(one(offset=1), "`offset`"),
    "no topic": Bad(event(), "either `topic` or `topics`", "bad_topic"),
    "both": Bad(one(topics=["b"]), "either `topic` or `topics`", "bad_topic"),
    "no topics": Bad(event(topics=[]), "$.topics"),
    "a number": Bad(event(topic=7), "$.topic"),
    "an empty topic": Bad(event(topic=""), "'' is not valid", "bad_topic"),
    "129 bytes": Bad(event(topic="x" * 129), "1 to 128", "bad_topic"),
    "LF in a topic": Bad(event(topic="a\nid: 9"), "1 to 128", "bad_topic"),
    "NUL in a topic": Bad(event(topic="a\0"), "1 to 128", "bad_topic"),
    "a pattern": Bad(event(topic="x/*"), "'x/*' is not valid", "bad_topic"),
    "presence": Bad(event(topic="presence/a"), "'presence/'", "topic_forbidden", 403),
    "another's own": Bad(event(topic="user/local"), "'user/'", "topic_forbidden", 403),
    "a transcript": Bad(event(topic="audio/x"), "'audio/'", "topic_forbidden", 403),
    "LF in a name": Bad(one(event="x\nid: 9"), "1 to 64", "bad_event"),
    "CR in a name": Bad(one(event="x\rdata: 9"), "1 to 64", "bad_event"),
    "NUL in a name": Bad(one(event="x\0"), "1 to 64", "bad_event"),
    "a name with an end": Bad(one(event="x 1"), "1 to 64", "bad_event"),
    "a long name": Bad(one(event="x" * 65), "1 to 64", "bad_event"),
    **{f"reserved {name}": Bad(one(event=name), f"{name!r} is res", "reserved_event") for name in ("hello", "bye")},
    "LF in an id": Bad(one(id="x\ny"), "$.id"),
    "LF at the end of an id": Bad(one(id="x\n"), "$.id"),
    "NUL in an id": Bad(one(id="x\0"), "$.id"),
    "a long key": Bad(one(idempotencyKey="k" * 129), "$.idempotencyKey"),
    "a negative ttl": Bad(one(ttl=-1), "$.ttl"),
    "no offset": Bad(one(expectedOffset=0), "$.expectedOffset"),
    "an offset as text": Bad(one(expectedOffset="1"), "$.expectedOffset"),
    "another offset": Bad(one(expectedOffset=10**30), f"{10**30}", "conflict", 409),
    "a byte too much": Bad(one(b'"%b"' % (b"x" * (LIMIT - 1))), "65537 bytes: at most 65536", "too_large", 413),
    "far too much": Bad(one(b'"%b"' % (b"x" * (1 << 21))), "65536 are allowed", "too_large", 413),
    "1001 events": Bad(b"[%b]" % b",".join([one()] * 1001), "1001 events: at most 1000", "too_large", 413),
    "1001 topics": Bad(event(topics=["a"] * 1001), "1001 events: at most 1000", "too_large", 413),
}


@pytest.mark.parametrize("bad", PUBLISHED.values(), ids=PUBLISHED)
def test_what_cannot_be_published_is_told_what_is_wrong(place: Place, bad: Bad) -> None:
    check_problem(place.http.post("/api/events", content=bad.body), bad.status, bad.code, bad.says)
    if bad.body.startswith(b"{") and bad.status != 413 and bad.body.count(one()) < 2:
        batch = b"[%b,%b]" % (one(), bad.body)
        problem = check_problem(place.http.post("/api/events", content=batch), bad.status, bad.code)
        places = (
            "$[1]",
            "event 2 of 2",
            "byte",
            "utf-8",
            "deep",
            "items",
            "next offset",
            "truncated",
            "surrogate",
            "out of range",
        )
        assert any(place in problem["detail"] for place in places), problem["detail"]


@pytest.mark.parametrize("data", [b"x" * (LIMIT - 2), b"\\u2028" * 10_922 + b"xx", "é".encode() * (LIMIT // 2 - 1)])
def test_exactly_64_KiB_are_published_and_read(place: Place, data: bytes) -> None:
    body = event(b'"%b"' % data, topic="large")
    [receipt] = place.http.post("/api/events", content=body).json()["events"]
    reader = asyncio.run(read(place, ["large"], receipt["offset"], **{"from": "earliest"}))
    assert reader[-1] == json.loads(b'"%b"' % data)


async def read(place: Place, topics: list[str], count: int, **query: str) -> list[Any]:
    async with asyncio.timeout(5), EventReader(place.gateway.port, topics, **query) as reader:
        bodies: list[Any] = []
        async for event in reader.events():
            bodies += [json.loads(event.data)] if event.event != "hello" else []
            if len(bodies) == count:
                break
    return bodies


SUBSCRIBED: dict[str, tuple[str, str, str]] = {
    "65 topics": (
        "&".join(f"topic=t{n}" for n in range(65)),
        "65 topics: one stream follows at most 64",
        "too_many_topics",
    ),
    "no name": ("topic=", "'' is not valid", "bad_topic"),
    "a good one and none": ("topic=a&topic=", "'' is not valid", "bad_topic"),
    "129 bytes": (f"topic={'x' * 129}", "1 to 128", "bad_topic"),
    "CRLF": ("topic=a%0d%0aid:%209", "1 to 128", "bad_topic"),
    "NUL": ("topic=a%00", "1 to 128", "bad_topic"),
    "not UTF-8": ("topic=%ff%fe", "1 to 128", "bad_topic"),
    "a star in a segment": ("topic=x*", "1 to 128", "bad_topic"),
    "a star in the middle": ("topic=x/*/y", "1 to 128", "bad_topic"),
    "two stars": ("topic=**", "1 to 128", "bad_topic"),
}


@pytest.mark.parametrize(("query", "says", "code"), SUBSCRIBED.values(), ids=SUBSCRIBED)
def test_what_cannot_be_followed_is_told_what_is_wrong(place: Place, query: str, says: str, code: str) -> None:
    check_problem(place.http.get(f"/api/events?{query}"), 400, code, says)


CURSORS = ["x" * 4096, "e" + "." * 4000, "../../etc/passwd", "%00", "é" * 64, "0", "null", "e00000000.0.0\t"]


@pytest.mark.parametrize("where", ["header", "query"])
@pytest.mark.parametrize("cursor", CURSORS, ids=range(len(CURSORS)))
def test_a_cursor_of_any_bytes_is_malformed_and_the_stream_goes_on(place: Place, cursor: str, where: str) -> None:
    escapes = cursor.encode().hex(" ").replace(" ", "%")
    path = f"/api/events?topic=a{f'&last_event_id=%{escapes}' if where == 'query' else ''}"
    head = [f"GET {path} HTTP/1.1", *([f"Last-Event-ID: {cursor}"] if where == "header" else [])]
    with send(place.gateway, *head) as connection:
        answer = b""
        while b"\n\n" not in answer:
            answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"recovered":false' in answer
    assert b'"reason":"malformed"' in answer or cursor.endswith("\t")


def test_other_media_types_are_refused_and_all_that_a_stream_is_are_taken(place: Place) -> None:
    for accept in ("application/json", "text/html", "text/eventstream, x/y"):
        response = place.http.get("/api/events?topic=a", headers={"accept": accept})
        check_problem(response, 406, "not_acceptable", accept)
    for accept in ("text/event-stream", "*/*", "text/*", "text/html, */*;q=0.1", "text/event-stream; charset=utf-8"):
        with send(place.gateway, "GET /api/events?topic=a HTTP/1.1", f"Accept: {accept}") as connection:
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_a_head_is_answered_without_a_stream(place: Place) -> None:
    response = place.http.head("/api/events?topic=a")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store, no-transform"


def test_a_head_is_refused_where_a_get_would_be(place: Place) -> None:
    assert place.http.head("/api/events?topic=x*").status_code == 400


def test_other_methods_are_refused_with_those_allowed(place: Place) -> None:
    methods = {"GET", "HEAD", "POST", "OPTIONS"}
    for method in ("PUT", "DELETE", "PATCH"):
        response = place.http.request(method, "/api/events")
        check_problem(response, 405)
        assert set(response.headers["allow"].split(", ")) == methods
    options = place.http.options("/api/events")
    assert (options.status_code, set(options.headers["allow"].split(", "))) == (204, methods)


TOPICS = ["a", "x/y", "a:b", "a//b", "/a", "b/", "//", "..", "a/../b", "x" * 128]


@pytest.mark.parametrize("topic", TOPICS, ids=range(len(TOPICS)))
def test_a_topic_of_any_valid_name_can_be_looked_at(place: Place, topic: str) -> None:
    [*_, last] = publish(place.http, [{"topic": topic, "data": n} for n in range(7)])
    with send(place.gateway, f"GET /api/events/topics/{topic} HTTP/1.1", "Connection: close") as connection:
        head, _, body = b"".join(iter(lambda: connection.recv(65_536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), body
    assert json.loads(body)["head"] == last["offset"]


def test_no_more_streams_are_opened_than_the_limit_says(place: Place) -> None:
    """However many come at once; the others are told to come back, with status 200."""

    async def come() -> list[str]:
        told: list[asyncio.Future[str]] = [asyncio.get_running_loop().create_future() for _ in range(3 * STREAMS)]

        async def connect(number: int) -> None:
            async with EventReader(place.gateway.port, [f"crowd/{number}"]) as reader:
                told[number].set_result((await anext(reader.events())).event)
                await asyncio.wait(told)  # nobody leaves before everybody has been told

        async with asyncio.timeout(60), asyncio.TaskGroup() as crowd:
            for number in range(3 * STREAMS):
                crowd.create_task(connect(number))
        return [future.result() for future in told]

    greetings = asyncio.run(come())
    assert sorted(set(greetings)) == ["busy", "hello"]
    assert greetings.count("hello") <= STREAMS


def test_overload_is_busy_with_status_200_or_the_true_status_when_that_is_preferred(place: Place) -> None:
    connections = [send(place.gateway, "GET /api/events?topic=held HTTP/1.1") for _ in range(STREAMS)]
    try:
        eventually(lambda: place.gateway.gauge("trilane_gateway_open_streams") >= STREAMS, what="it is full")
        answer = place.http.get("/api/events?topic=a")
        decoder = SseDecoder()
        [event] = decoder.feed(answer.content)
        assert (answer.status_code, event.event) == (200, "busy")
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert 5000 <= (decoder.retry_ms or 0) <= 15_000
        response = place.http.get("/api/events?topic=a", headers={"prefer": "status"})
        check_problem(response, 503, "overloaded", f"{STREAMS} streams")
        assert int(response.headers["retry-after"]) >= 1
        publish(place.http, {"topic": "busy", "data": 1})
    finally:
        for connection in connections:
            connection.close()
    eventually(lambda: place.gateway.gauge("trilane_gateway_open_streams") == 1, what="it is empty again")


def test_publishers_at_once_leave_whole_lists_in_a_row(place: Place) -> None:
    lists = [[{"topic": "x/rows", "data": [number, at]} for at in range(20)] for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda batch: publish(place.http, batch), lists))
    bodies = asyncio.run(read(place, ["x/rows"], 400, **{"from": "earliest"}))
    rows = [bodies[start : start + 20] for start in range(0, 400, 20)]
    assert all(row == [[row[0][0], at] for at in range(20)] for row in rows)


def test_the_reader_that_was_there_all_the_while_saw_only_what_was_good(place: Place) -> None:
    publish(place.http, {"topic": "a", "event": "last", "data": None})
    decoder, body = SseDecoder(), b""
    events: list[Any] = []
    while not events or events[-1].event != "last":
        body += place.witness.recv(1 << 20)
        events += decoder.feed(dechunk(body)) if b"event: last" in body else []
    names = [event.event for event in events]
    assert (names[:2], names[-1]) == (["hello", "good"], "last")
    assert set(names[2:-1]) == {"message"}
    bodies = [json.loads(event.data) for event in events[2:-1]]
    assert [data for data in bodies if isinstance(data, int)] == [*range(7), *range(7)]
    assert len({event.id for event in events}) == len(events)
    assert len(bodies) == 2 * 7 + 400


def dechunk(answer: bytes) -> bytes:
    rest, body = answer.partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def test_nothing_is_left_behind(place: Place) -> None:
    eventually(lambda: place.gateway.gauge("trilane_events_open_feeds") == 1, what="one feed is left")
    place.http.close()
    eventually(lambda: place.gateway.fds() <= place.fds, what="connections are closed")
    assert "Traceback" not in place.gateway.stderr()
