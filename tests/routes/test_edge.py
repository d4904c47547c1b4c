"""HEAD works wherever GET does, `Accept` is read as HTTP has it, and pages of other origins may read what they need."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest

from routes.refusals import with_head
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.problems import check_problem
from tests.support.sse_client import chat_body, send

ORIGIN = "https://app.example"
CONTINUED = {"te", "connection", "date", "x-request-id"}


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp("edge"), upstream.url, TRILANE_ALLOWED_ORIGINS=ORIGIN)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


PATHS = [
    *("/", "/static/main.js", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics"),
    *("/api/chats", "/v1/models", "/api/chat/head", "/api/events/topics/a", "/api/events/topics/nothing/there"),
]


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_its_body(place: Gateway, path: str) -> None:
    assert send(place.url, chat_body("head", "T=1 I=0"))[1].done
    get, head = httpx2.get(place.url + path), httpx2.head(place.url + path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert get.status_code == 200
    names = CONTINUED | ({"content-length"} if path == "/metrics" else set())
    assert {k: v for k, v in head.headers.items() if k not in names} == {
        k: v for k, v in get.headers.items() if k not in names
    }


@pytest.mark.parametrize("path", ["/nothing", "/api/chat/unknown", "/static/nothing.js", "/api/events?topic=x*"])
def test_head_is_refused_as_get_is(place: Gateway, path: str) -> None:
    get, head = httpx2.get(place.url + path), httpx2.head(place.url + path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert get.status_code in (400, 404)


def test_head_of_a_stream_gives_its_headers_and_ends(place: Gateway) -> None:
    with httpx2.stream("POST", f"{place.url}/api/chat", json=chat_body("long", "T=1000 I=20000")) as answer:
        next(answer.iter_bytes())
        for _ in range(3):
            head = httpx2.head(f"{place.url}/api/chat/long/stream")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert head.headers["x-vercel-ai-ui-message-stream"] == "v1"
        assert httpx2.get(f"{place.url}/api/chat/long").json()["activeRun"]
    httpx2.post(f"{place.url}/api/chat/long/stop", json={})
    eventually(lambda: place.gauge("trilane_gateway_open_streams") == 0, what="no stream is left open")
    assert httpx2.head(f"{place.url}/api/chat/long/stream").status_code == 204


def test_head_where_there_is_no_get_is_told_what_there_is(place: Gateway) -> None:
    answer = httpx2.head(f"{place.url}/api/chat")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    refused = httpx2.post(f"{place.url}/healthz")
    check_problem(refused, 405)
    assert refused.headers["allow"] == "GET, HEAD, OPTIONS"


def test_allow_names_head_wherever_get_is() -> None:
    assert with_head("POST") == "POST"
    assert with_head("POST, GET") == "GET, HEAD, POST"
    assert with_head("GET,HEAD") == "GET, HEAD"


def status_of(place: Gateway, *lines: str) -> int:
    head = "\r\n".join(["GET /api/events?topic=a HTTP/1.1", "host: localhost", *lines, "", ""])
    with closing(socket.create_connection(("127.0.0.1", place.port), timeout=10)) as connection:
        connection.sendall(head.encode())
        return int(connection.recv(65_536).split()[1])


ACCEPTED = [
    *("Text/Event-Stream", "TEXT/*", "", " ", ",", "*", "*/*", "text/html, Text/Event-Stream;q=0.2"),
    *("text/event-stream ; charset=UTF-8", "text/event-stream;q=1.0", "*/*;q=0, text/event-stream", "*/*; q=0.001"),
]
NOT_ACCEPTED = ["text/html", "application/json", "text/event-streams", "text/event-stream;q=0", "*/*;q=0.000", "x,y"]


@pytest.mark.parametrize("accept", ACCEPTED)
def test_an_event_stream_is_sent_to_whoever_takes_one(place: Gateway, accept: str) -> None:
    assert status_of(place, f"Accept: {accept}") == 200


@pytest.mark.parametrize("accept", NOT_ACCEPTED)
def test_an_event_stream_is_refused_to_whoever_takes_none(place: Gateway, accept: str) -> None:
    assert status_of(place, f"accept: {accept}") == 406


def test_several_accept_headers_are_one_list(place: Gateway) -> None:
    assert status_of(place, "Accept: text/html", "Accept: TEXT/event-stream") == 200
    assert status_of(place, "Accept: text/html", "Accept: application/json") == 406


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("GET", "/api/chats", {"x-request-id"}),
        ("GET", "/api/chat/unknown", {"x-request-id", "x-should-retry"}),
        ("POST", "/api/chat", {"x-request-id", "x-vercel-ai-ui-message-stream"}),
        ("POST", "/v1/chat/completions", {"x-request-id", "x-should-retry"}),
    ],
)
def test_a_page_of_a_listed_origin_may_read_the_headers(
    place: Gateway, method: str, path: str, names: set[str]
) -> None:
    body = json.dumps(chat_body("cors", "T=1 I=0")) if path == "/api/chat" else "{}"
    answer = httpx2.request(
        method, place.url + path, content=body if method == "POST" else None, headers={"origin": ORIGIN}
    )
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert names <= exposed & answer.headers.keys()
    assert {"retry-after", "x-ratelimit-remaining-requests"} <= exposed
    assert answer.headers["access-control-allow-origin"] == ORIGIN


USER = [{"role": "user", "content": "T=1 I=0"}]
NULLS_AND_FLOATS = [
    ("/api/events", {"topic": "a", "topics": None, "data": None, "event": None, "ttl": 60.0, "expectedOffset": None}),
    ("/api/events", [{"topic": "b", "data": 1, "expectedOffset": 1.0, "id": None, "unknown": None}]),
    ("/api/tickets", {"route": "/api/events", "note": None}),
    ("/v1/chat/completions", {"model": None, "messages": USER, "stream": None, "max_tokens": 5.0, "n": 1.0}),
    ("/api/chat", {**chat_body("nulls", "T=1 I=0"), "messageId": None, "trigger": None, "onDisconnect": None}),
    ("/api/chat/nulls/stop", {"activeStreamId": None, "assistantMessage": None}),
    ("/v1/realtime/client_secrets", {"expires_after": {"anchor": None, "seconds": 60.0}, "session": None}),
]


@pytest.mark.parametrize(("path", "body"), NULLS_AND_FLOATS)
def test_null_is_absent_and_an_integral_float_is_an_integer(place: Gateway, path: str, body: object) -> None:
    answer = httpx2.post(place.url + path, json=body)
    assert answer.status_code == 200, answer.text


HALVES: list[tuple[str, dict[str, object]]] = [
    ("/api/chat", chat_body("half-said", "T=1 I=0 \ud83d")),
    ("/api/chat", {**chat_body("half-system", "T=1 I=0"), "system": "\ude00 be brief"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "T=1 I=0 \ude00\ud83d"}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "text", "text": "T=1 I=0\ud83d"}]}]}),
    ("/v1/chat/completions", {"messages": USER, "of_tomorrow": [{"a": "\ud83d"}], "max_tokens": 5.0}),
]


@pytest.mark.parametrize(("path", "body"), HALVES)
def test_half_of_a_pair_reaches_the_model_as_a_replacement(
    place: Gateway, upstream: UpstreamThread, path: str, body: object
) -> None:
    answer = httpx2.post(place.url + path, content=json.dumps(body), timeout=20)
    assert answer.status_code == 200, answer.text
    sent = json.dumps(upstream.fake.requests[-1].body, ensure_ascii=False).encode()
    assert "\ufffd".encode() in sent


def test_half_of_a_pair_is_published_as_a_replacement(place: Gateway) -> None:
    events = [{"topic": "half", "data": data} for data in ("a\ud83d", {"\ude00": 1}, "\ud83d\ude00")]
    assert httpx2.post(f"{place.url}/api/events", content=json.dumps(events)).status_code == 200
    with httpx2.stream("GET", f"{place.url}/api/events?topic=half&from=earliest") as stream:
        data = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert next(data)["replay"] == 3
        assert [next(data) for _ in events] == ["a\ufffd", {"\ufffd": 1}, "\U0001f600"]


# Content types: a body is what it is, whatever its client calls it, but for a form, which cannot be read otherwise

JSON_BODIES: dict[str, object] = {
    "/api/events": {"topic": "a", "data": 1},
    "/api/tickets": {"route": "/api/events"},
    "/v1/chat/completions": {"messages": USER},
    "/api/chat": chat_body("typed", "T=1 I=0"),
    "/api/chat/typed/stop": {},
    "/v1/realtime/client_secrets": {},
}
CONTENT_TYPES = [
    *(
        None,
        "",
        ";",
        "json",
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/json;charset=UTF8",
    ),
    *("application/vnd.api+json", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"),
    *("application/octet-stream", "text/html", "multipart/form-data", "image/png", "not a type/at all", "*/*"),
]
CLIENT = httpx2.Client(verify=False, timeout=20)
UPLOADS = ("/v1/audio/transcriptions", "/api/audio/transcriptions")
FORM = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'


def post_typed(place: Gateway, path: str, content: bytes, content_type: str | None) -> httpx2.Response:
    headers = {} if content_type is None else {"content-type": content_type}
    return CLIENT.post(place.url + path, content=content, headers=headers)


@pytest.mark.parametrize("path", JSON_BODIES)
def test_a_json_body_is_taken_under_every_content_type(place: Gateway, path: str) -> None:
    content = json.dumps(JSON_BODIES[path]).encode()
    statuses = {kind: post_typed(place, path, content, kind).status_code for kind in CONTENT_TYPES}
    assert statuses == dict.fromkeys(CONTENT_TYPES, 200)


@pytest.mark.parametrize("path", JSON_BODIES)
def test_what_is_no_json_is_refused_under_every_content_type(place: Gateway, path: str) -> None:
    for kind in (None, "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"):
        for content in (b"a=1&b=2", FORM):
            check_problem(post_typed(place, path, content, kind), 400, "bad_body")


@pytest.mark.parametrize("path", UPLOADS)
def test_a_file_is_taken_as_a_form_only(place: Gateway, path: str) -> None:
    for kind in [*CONTENT_TYPES, "multipart/mixed; boundary=b", "audio/wav"]:
        if kind != "multipart/form-data":
            check_problem(post_typed(place, path, FORM, kind), 400, "bad_body", "must be multipart/form-data")
    check_problem(post_typed(place, path, FORM, "multipart/form-data"), 400, "", "boundary")
    for kind in ("multipart/form-data; boundary=b", 'Multipart/Form-Data; boundary="b"; charset=utf-8'):
        check_problem(post_typed(place, path, FORM, kind), 400, "", "file")


# Clients that nobody named, over a plain socket


def exchange(place: Gateway, *pieces: bytes) -> bytes:
    """Sends pieces one by one, and returns all that comes until the server closes."""
    with closing(socket.create_connection(("127.0.0.1", place.port), timeout=10)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    return answer


PUBLISHED = b'{"topic":"odd","data":1}'
ODD_REQUESTS: dict[str, tuple[list[bytes], bytes]] = {
    "HTTP/1.0 without Host": ([b"GET /healthz HTTP/1.0\r\n\r\n"], b"200"),
    "HTTP/1.0 that would keep the connection": (
        [b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /healthz HTTP/1.0\r\n\r\n"],
        b"200",
    ),
    "HTTP/1.0 with a body": (
        [b"POST /api/events HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(PUBLISHED), PUBLISHED],
        b"200",
    ),
    "HTTP/1.0 HEAD": ([b"HEAD /api/chats HTTP/1.0\r\n\r\n"], b"200"),
    "absolute form": (
        [b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"],
        b"200",
    ),
    "byte by byte": (
        [bytes([byte]) for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"],
        b"200",
    ),
    "a body in chunks of one byte": (
        [
            b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
            *[b"1\r\n%c\r\n" % byte for byte in PUBLISHED],
            b"0\r\n\r\n",
        ],
        b"200",
    ),
    "curl's Expect": (
        [
            b"POST /api/events HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(PUBLISHED),
            PUBLISHED,
        ],
        b"200",
    ),
}


@pytest.mark.parametrize("name", ODD_REQUESTS)
def test_an_odd_request_gets_one_whole_answer(place: Gateway, name: str) -> None:
    pieces, status = ODD_REQUESTS[name]
    answer = exchange(place, *pieces)
    head, _, body = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    assert head.split()[1] == status, answer
    assert b"transfer-encoding" not in head.lower()
    if "1.0 that would keep" not in name:
        assert body.startswith(b"{") or "HEAD" in name
        assert body == b"" if "HEAD" in name else json.loads(body)


OLD_CLIENTS_ASK: dict[str, dict[str, object]] = {
    "/api/chat": chat_body("old", "T=2 I=0"),
    "/v1/chat/completions": {"messages": USER, "stream": True},
}


@pytest.mark.parametrize("path", OLD_CLIENTS_ASK)
def test_an_answer_to_an_old_client_is_plain_and_whole(place: Gateway, path: str) -> None:
    body = json.dumps(OLD_CLIENTS_ASK[path]).encode()
    answer = exchange(place, b"POST %b HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)), body)
    head, _, stream = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert (stream[:5], stream[-16:]) == (b": ok\n", b"\n\ndata: [DONE]\n\n")


def test_a_stream_to_an_old_client_with_odd_capitals_is_plain(place: Gateway) -> None:
    with closing(socket.create_connection(("127.0.0.1", place.port), timeout=10)) as client:
        client.sendall(b"GET /api/events?topic=odd HTTP/1.0\r\nHOST: LOCALHOST\r\nACCEPT: TEXT/Event-Stream\r\n\r\n")
        answer = b""
        while b"event: hello" not in answer:
            answer += client.recv(65_536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b": ok\n")
