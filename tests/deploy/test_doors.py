"""The three units behind each file of `deploy/proxies`: one origin, nothing buffered, nothing private, no 5xx."""

import asyncio
import contextlib
import itertools
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import websockets.asyncio.client

from loadtests.ports import closed_port
from tests.conftest import UpstreamThread, eventually
from tests.deploy.browser import PROTOCOL, PROTOCOLS, browser_for, page_of, see_all_live, see_the_seventh_hang
from tests.deploy.doors import ADDRESSES, COMMANDS, NAME, PROXIES, Door, Site, door, make_site
from tests.deploy.fleet import Fleet, Listener, dropping_server
from tests.support.sse_client import chat_body

pytestmark = pytest.mark.timeout(180)
PRIVATE = [
    "/metrics",
    "/readyz",
    "/healthz",
    "//metrics",
    "/metrics/",
    "/%6detrics",
    "/METRICS",
    "/./metrics",
    "/static/../metrics",
    "/static/%2e%2e/metrics",
    "/api/../metrics",
    "/v1/..//readyz",
    "/metrics?topic=/api/events",
    "/metrics;/api/events",
]
KUBERNETES = PROXIES.parent / "kubernetes"
FOREIGN = "https://elsewhere.example"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def fleet(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    new = Fleet(tmp_path_factory.mktemp("fleet"), upstream)
    try:
        new.start()
        yield new
    finally:
        new.stop()


@pytest.fixture(scope="module", params=COMMANDS)
def front(
    request: pytest.FixtureRequest, fleet: Fleet, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    with door(request.param, tmp_path_factory.mktemp("door"), site, fleet.addresses) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(front: Door) -> Iterator[httpx2.Client]:
    with front.client() as new:
        yield new


def exchange(front: Door, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    """Sends a request as it stands, in one piece, and returns the status (0: none) and all that came.

    A client would make another path of some, and send a body behind its head.
    """
    head = f"{method} {path} HTTP/1.1\r\nHost: {front.host}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", front.port), timeout=20) as plain,
        front.site.context.wrap_socket(plain, server_hostname=NAME) as connection,
    ):
        connection.sendall(head.encode() + body)
        with contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                answer += data
    return int(answer[9:12] or 0), answer


def ask(client: httpx2.Client, text: str, **headers: str) -> Any:
    body = chat_body(f"door-{next(_numbers)}", text)
    return client.stream("POST", "/api/chat", json=body, headers=headers)


def publish(client: httpx2.Client, topic: str, number: int) -> int:
    return client.post("/api/events", json={"topic": topic, "data": {"n": number}}).status_code


# One origin


def test_the_page_and_what_it_calls_are_of_one_origin(client: httpx2.Client) -> None:
    assert "<title>" in client.get("/").text
    assert client.get("/static/main.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/v1/models").json()["object"] == "list"
    assert client.get("/api/chats").status_code == 200
    assert client.get("/api/events/topics/team//a").json()["readers"] == 0
    assert client.post("/api/tickets", json={"route": "/api/audio"}).json()["expires_in"] == 30
    for path in ("/v1/audio/transcriptions", "/api/audio/transcriptions"):
        refusal = client.post(path, files={"nothing": b""})
        assert (refusal.status_code, "file" in refusal.text) == (400, True), refusal.text


def test_what_is_for_operators_is_not_public(front: Door) -> None:
    for path in PRIVATE:
        status, body = exchange(front, "GET", path)
        assert status in (400, 404), (path, status)
        assert b"trilane_" not in body, path
        assert b'"ready"' not in body, path


def test_every_route_of_a_unit_is_reached(client: httpx2.Client, fleet: Fleet) -> None:
    """By a method that no route has: the right unit refuses it as that, any other has no such path."""
    for gateway in (fleet.chat, fleet.events, fleet.audio):
        paths = httpx2.get(f"{gateway.url}/openapi.json").json()["paths"]
        for path in (re.sub(r"{\w+}", "x", path) for path in paths if path not in PRIVATE):
            expected = httpx2.patch(gateway.url + path).status_code
            assert client.patch(path).status_code == expected, path


def test_a_page_of_the_public_name_may_post_and_no_other(front: Door, client: httpx2.Client) -> None:
    """Without `Sec-Fetch-Site`, as from an older browser: the name alone must tell."""
    with ask(client, "T=2 I=0", origin=front.origin) as response:
        assert response.status_code == 200, response.read()
    with ask(client, "T=2 I=0", origin=FOREIGN, **{"X-Forwarded-Host": "elsewhere.example"}) as response:
        assert response.status_code == 403


def test_a_body_of_ten_mebibytes_passes(client: httpx2.Client) -> None:
    content = client.build_request("POST", "/api/chat", json=chat_body("large", "T=2 I=0")).content
    headers = {"content-type": "application/json"}
    response = client.post("/api/chat", content=content + b" " * (10 << 20), headers=headers)
    assert (response.status_code, response.text.endswith("data: [DONE]\n\n")) == (200, True), response.text[:300]


def test_the_microphones_socket_opens(front: Door) -> None:
    """By the client of asyncio: that of threads both reads and writes TLS at once, and may lose a request."""

    async def open_one() -> None:
        async with websockets.asyncio.client.connect(
            f"wss://{front.host}/api/audio",
            host="127.0.0.1",
            ssl=front.site.context,
            server_hostname=NAME,
            origin=front.origin,  # pyright: ignore - its type is a NewType of str
            subprotocols=["trilane.audio.v1"],  # pyright: ignore - likewise
            proxy=None,
            open_timeout=30,
        ) as microphone:
            await microphone.send('{"type":"start"}')
            async with asyncio.timeout(30):
                assert '"ready"' in str(await microphone.recv())

    for _ in range(2):  # one of them at a process that is away
        asyncio.run(open_one())


def test_the_units_measure_what_the_autoscalers_read(fleet: Fleet) -> None:
    for gateway in (fleet.chat, fleet.events, fleet.audio):
        for name in re.findall(r"name: (trilane_\w+)", (KUBERNETES / f"base/{gateway.unit}.yaml").read_text()):
            assert gateway.gauge(name) >= 0


# Nothing is buffered


def test_an_answer_comes_token_by_token(client: httpx2.Client) -> None:
    with ask(client, "T=60 I=20000") as response:
        arrivals = [time.monotonic() for data in response.iter_raw() if b"text-delta" in data]
    assert len(arrivals) >= 10
    assert arrivals[-1] - arrivals[0] > 0.2


def test_a_ping_comes_through_before_the_first_token(client: httpx2.Client) -> None:
    with ask(client, "B=stall-first") as response:
        assert any(line == ": ping" for line in response.iter_lines() if line != ": ok")


def test_a_stream_begins_at_once(client: httpx2.Client) -> None:
    began = time.monotonic()
    with client.stream("GET", "/api/events?topic=quick") as response:
        first = next(response.iter_raw())
        took_s = time.monotonic() - began
    assert first.startswith(b": ok")
    assert took_s < 5  # a few ms on a machine that does nothing else; held back, it comes with the ping, after 13.5 s


def test_a_reader_continues_after_its_cursor(client: httpx2.Client) -> None:
    topic = f"resume/{next(_numbers)}"
    receipts = [client.post("/api/events", json={"topic": topic, "data": {"n": number}}).json() for number in range(5)]
    cursor = receipts[1]["events"][0]["cursor"]
    with client.stream("GET", f"/api/events?topic={topic}", headers={"last-event-id": cursor}) as response:
        data = (line for line in response.iter_lines() if line.startswith("data: "))
        assert '"recovered":true' in next(data)
        assert [next(data) for _ in range(3)] == ['data: {"n":2}', 'data: {"n":3}', 'data: {"n":4}']


def test_the_gateway_learns_at_once_that_a_reader_left(front: Door, fleet: Fleet) -> None:
    """Sooner than by its next ping, which is 15 s away."""
    eventually(lambda: fleet.listeners() == 0, 10, "nobody reads", every_s=0.1)
    with front.client() as client:
        with client.stream("GET", "/api/events?topic=left") as response:
            pieces = response.iter_raw()  # kept: without it the response is closed
            next(pieces)
            eventually(lambda: fleet.listeners() == 1, 10, "one reads", every_s=0.1)
        eventually(lambda: fleet.listeners() == 0, 8, "it has left", every_s=0.1)


# A deploy


def test_listeners_outlive_the_replacement_of_their_process(front: Door, fleet: Fleet) -> None:
    """One door sees the next process at once, another only when nobody was there for a while."""
    topic = f"replaced/{next(_numbers)}"
    listeners = [Listener(front, topic) for _ in range(4)]
    try:
        with front.client() as client:
            eventually(lambda: all(listener.hellos == 1 for listener in listeners), 20, "all listen")
            statuses = [publish(client, topic, number) for number in range(5)]
            fleet.replace_events(at_once=front.name in ("nginx", "HAProxy"))
            statuses += [publish(client, topic, number) for number in range(5, 10)]
        eventually(
            lambda: all(a.numbers == list(range(10)) for a in listeners), 40, "every event came once", every_s=0.05
        )
        assert set(statuses) == {200}
        assert not any(listener.has_given_up for listener in listeners)
    finally:
        for listener in listeners:
            listener.stop()
        for listener in listeners:
            listener.close()


@pytest.fixture(scope="module")
def dropping() -> Iterator[Any]:
    with dropping_server() as server:
        yield server


@pytest.fixture(scope="module", params=COMMANDS)
def ill(
    request: pytest.FixtureRequest, dropping: Any, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    """Yields a door behind which chat and audio drop what they have read, and nobody is there for events."""
    there = f"127.0.0.1:{dropping.server_address[1]}"
    soon = ("lb_try_duration 30s", "lb_try_duration 200ms")
    with closed_port() as held:
        away = f"127.0.0.1:{held.getsockname()[1]}"
        addresses = {address: away if "events" in address else there for address in ADDRESSES}
        with door(request.param, tmp_path_factory.mktemp("ill"), site, addresses, soon) as opened:
            yield opened


def test_a_post_that_a_process_may_have_read_is_not_sent_again(ill: Door, dropping: Any) -> None:
    dropping.requests.clear()
    paths = ("/api/chat", "/v1/chat/completions", "/v1/audio/transcriptions")
    for path in paths:
        assert exchange(ill, "POST", path, b"{}")[0] >= 500
    assert [path for method, path in dropping.requests if method == "POST"] == list(paths)


def test_a_listener_is_told_to_come_back_when_no_process_answers(ill: Door) -> None:
    """An EventSource gives up for ever on a 5xx. Its cursor is in the answer: some clients forget theirs without."""
    if ill.name == "Traefik":
        return  # it has no answers of its own: it waits for 30 s, and says 502 then
    with ill.client() as client:
        for cursor, last in (("abc.1~x", "id: abc.1~x"), ("a b", ""), ("", "")):
            answer = client.get("/api/events?topic=a", headers={"last-event-id": cursor})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            event, retry, data, *rest = answer.text.split("\n")
            assert (event, data) == ("event: busy", 'data: {"code":"unavailable"}')
            assert 1000 < int(retry.removeprefix("retry: ")) < 4000
            assert [line for line in rest if line] == ([last] if last else []), answer.text
            assert answer.text.endswith("\n\n")
        assert client.post("/api/events", json={}).status_code == 503
        assert client.get("/api/events/topics/a").status_code == 503


# A browser


@pytest.fixture(scope="module")
def caddys(fleet: Fleet, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    """Yields a Caddy for each version of HTTP."""
    with contextlib.ExitStack() as stack:
        yield {
            version: stack.enter_context(
                door("Caddy", tmp_path_factory.mktemp("caddy"), site, fleet.addresses, *changes)
            )
            for version, changes in PROTOCOLS.items()
        }


@pytest.fixture(scope="module")
def browser(caddys: dict[str, Door]) -> Iterator[Any]:
    with browser_for(caddys["h3"]) as new:
        yield new


@pytest.mark.browser
@pytest.mark.parametrize("version", PROTOCOLS)
def test_ten_streams_an_answer_and_a_microphone_are_live_at_once_but_for_http_1(
    version: str, browser: Any, caddys: dict[str, Door], fleet: Fleet
) -> None:
    def publish_one() -> None:
        httpx2.post(f"{fleet.events.url}/api/events", json={"topic": "live", "data": 1}).raise_for_status()

    with page_of(browser, caddys[version]) as page:
        assert page.evaluate(PROTOCOL) == version
        if version == "http/1.1":
            see_the_seventh_hang(page, publish_one)
        else:
            see_all_live(page, publish_one)
