"""Tokens and pages decide who may follow and publish what; a stream ends with its token, its age, or its process."""

import contextlib
import http.client
import json
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway
from tests.support.problems import check_problem
from tests.support.sse_decoder import Event, SseDecoder

SECRET = "f0e1d2c3b4a5968778695a4b3c2d1e0f-jwt"
PAGE = "https://app.example"
NONCE = "0" * 20
ANNS, BOBS = (NONCE + sha256(f"{NONCE}\n{sub}".encode()).hexdigest()[:16] for sub in ("ann", "bob"))
"""Names of audio sessions, which prove whose they are."""
READERS, WINDOW_S = 100, 2.0
SEED = random.randrange(1 << 32)
ENVIRONMENTS = {
    "guarded": {"TRILANE_JWT_SECRET": SECRET, "TRILANE_ALLOWED_ORIGINS": PAGE},
    "short": {"TRILANE_MAX_AGE_S": "1.5"},
    "drained": {"TRILANE_DRAIN_WINDOW_S": str(WINDOW_S)},
    "next": {},
}


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """Runs one gateway for each of ENVIRONMENTS; the last two share a log."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ENVIRONMENTS}
    folders["next"] = folders["drained"]
    processes = {name: Gateway(folders[name], env, unit="events") for name, env in ENVIRONMENTS.items()}
    try:
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, processes.values()))
        yield processes
    finally:
        for gateway in processes.values():
            gateway.stop()


def token(sub: str = "ann", for_s: float = 3600, **grants: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {mint(SECRET, sub, time.time() + for_s, grants)}"}


@dataclass
class Reader:
    """Reads one stream in a thread to its end."""

    gateway: Gateway
    topics: list[str]
    headers: dict[str, str] = field(default_factory=dict)
    cursor: str = ""

    def __post_init__(self) -> None:
        self.decoder = SseDecoder(self.cursor)
        self.events: list[Event] = []
        self.status = 0
        self.clean = False
        """The body came to its regular end."""
        self.began_at = self.ended_at = 0.0
        self._said_hello = threading.Event()

    def start(self) -> "Reader":
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._said_hello.wait(10)
        return self

    def _read(self) -> None:
        query = urlencode([("topic", topic) for topic in self.topics], quote_via=quote)
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        cursor_header = {"last-event-id": self.cursor} if self.cursor else {}
        connection.request("GET", f"/api/events?{query}", headers=self.headers | cursor_header)
        response = connection.getresponse()
        self.status, self.began_at = response.status, time.monotonic()
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while piece := response.read1(65_536):
                self.events += self.decoder.feed(piece)
                if self.events:
                    self._said_hello.set()
            self.clean = True
        self.ended_at = time.monotonic()
        self._said_hello.set()
        connection.close()

    def join(self, within_s: float = 10) -> "Reader":
        self._thread.join(within_s)
        assert not self._thread.is_alive()
        return self

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]

    @property
    def hello(self) -> dict[str, Any]:
        return json.loads(self.events[0].data)

    @property
    def data(self) -> list[Any]:
        return [json.loads(event.data) for event in self.events if event.event == "message"]


# Grants

FOLLOWED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "one's own": ({}, ["user/ann"], ""),
    "by default one's own": ({}, [], ""),
    "who follows one's own": ({}, ["presence/user/ann"], ""),
    "another's": ({}, ["user/bob"], "user/bob"),
    "all users": ({}, ["user/*"], "user/*"),
    "nothing granted": ({}, ["a"], "a"),
    "what is granted": ({"subscribe": ["a"]}, ["a", "user/ann"], ""),
    "one that is not": ({"subscribe": ["a"]}, ["a", "b"], "b"),
    "of a pattern": ({"subscribe": ["team/*"]}, ["team/x", "team/x/y"], ""),
    "the pattern": ({"subscribe": ["team/*"]}, ["team/*"], ""),
    "a narrower one": ({"subscribe": ["team/*"]}, ["team/x/*"], ""),
    "a wider one": ({"subscribe": ["team/x/*"]}, ["team/*"], "team/*"),
    "everything": ({"subscribe": ["team/*"]}, ["*"], "*"),
    "who follows it": ({"subscribe": ["team/*"]}, ["presence/team/x"], ""),
    "who follows another": ({"subscribe": ["team/*"]}, ["presence/a"], "presence/a"),
    "no grant opens another's": ({"subscribe": ["*", "user/*", "user/bob"]}, ["user/bob"], "user/bob"),
    "nor who follows another's": ({"subscribe": ["*", "presence/*"]}, ["presence/user/bob"], "presence/user/bob"),
    "nor their words": ({"subscribe": ["*", "audio/*"]}, [f"audio/{BOBS}"], f"audio/{BOBS}"),
    "nor all words": ({"subscribe": ["*", "audio/*"]}, ["audio/*"], "audio/*"),
    "one's own words": ({}, [f"audio/{ANNS}"], ""),
    "an operator's": ({"operator": True}, ["user/*", f"audio/{BOBS}", "presence/user/bob"], ""),
    "an operator's grant is for what is the gateway's": ({"operator": True}, ["a"], "a"),
    "to publish is not to follow": ({"publish": ["a"]}, ["a"], "a"),
}


@pytest.mark.parametrize(("grants", "topics", "forbidden"), FOLLOWED.values(), ids=FOLLOWED)
def test_a_token_allows_following_the_topics_it_grants(
    gateways: dict[str, Gateway], grants: dict[str, Any], topics: list[str], forbidden: str
) -> None:
    headers = token(**grants)
    if forbidden:
        query = urlencode([("topic", topic) for topic in topics])
        response = httpx2.get(f"{gateways['guarded'].url}/api/events?{query}", headers=headers)
        check_problem(response, 403, "topic_forbidden", f"'{forbidden}'")
        return
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateways["guarded"].port)) as connection:
        connection.request("GET", f"/api/events?{urlencode([('topic', topic) for topic in topics])}", headers=headers)
        response = connection.getresponse()
        [hello] = SseDecoder().feed(response.read1(65_536))
        assert json.loads(hello.data)["topics"] == sorted(topics or ["user/ann"])


PUBLISHED = {"a": 200, "team/x": 200, "b": 403, "team": 403, "user/ann": 403, "presence/a": 403}


@pytest.mark.parametrize(("topic", "status"), PUBLISHED.items())
def test_a_token_allows_publishing_to_the_topics_it_grants(
    gateways: dict[str, Gateway], topic: str, status: int
) -> None:
    headers = token(publish=["a", "team/*"], subscribe=["*"])
    body = [{"topic": "a", "data": 1}, {"topic": topic, "data": 2}]
    before = gateways["guarded"].events("event/a")
    response = httpx2.post(f"{gateways['guarded'].url}/api/events", json=body, headers=headers)
    if status == 403:
        check_problem(response, 403, says="event 2 of 2: ")
        assert gateways["guarded"].events("event/a") == before
    assert response.status_code == status


BAD_TOKENS: dict[str, Callable[[], dict[str, str]]] = {
    "none": dict,
    "expired": lambda: token(for_s=-1),
    "of another secret": lambda: {"authorization": f"Bearer {mint('x' * 32, 'ann', time.time() + 60, {})}"},
    "of rights of the wrong kind": lambda: token(subscribe="*"),
    "in the URL only": dict,
}


@pytest.mark.parametrize("name", BAD_TOKENS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_without_a_good_token_nothing_is_said(gateways: dict[str, Gateway], name: str, method: str) -> None:
    good = mint(SECRET, "ann", time.time() + 60, {"subscribe": ["*"]})
    query = f"?topic=a{f'&token={good}&access_token={good}' if 'URL' in name else ''}"
    url = f"{gateways['guarded'].url}/api/events{query}"
    response = httpx2.request(method, url, headers=BAD_TOKENS[name]())
    assert response.status_code == 401
    if method != "HEAD":
        check_problem(response, 401)
        assert good not in response.text


def test_the_state_of_a_topic_is_for_those_who_may_follow_it(gateways: dict[str, Gateway]) -> None:
    url = f"{gateways['guarded'].url}/api/events/topics"
    check_problem(httpx2.get(f"{url}/b", headers=token(subscribe=["a"])), 403, "topic_forbidden", "'b'")
    assert httpx2.get(f"{url}/a", headers=token(subscribe=["a"])).json()["epoch"] is not None


# Pages


def test_a_listed_page_may_call_with_credentials_and_with_what_a_reader_sends(gateways: dict[str, Gateway]) -> None:
    url = f"{gateways['guarded'].url}/api/events"
    wishes = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,last-event-id"}
    preflight = httpx2.options(url, headers={"origin": PAGE, **wishes})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert preflight.headers["access-control-allow-credentials"] == "true"
    names = preflight.headers["access-control-allow-headers"].lower().split(",")
    assert {"authorization", "last-event-id"} <= {name.strip() for name in names}, "a star is a name here"
    for method, headers in (("POST", token(publish=["a"])), ("POST", {}), ("HEAD", token(subscribe=["a"]))):
        answer = httpx2.request(method, url, json={"topic": "a", "data": 1}, headers={"origin": PAGE, **headers})
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "origin" in answer.headers["vary"].lower()


def test_a_stream_says_which_page_may_read_it(gateways: dict[str, Gateway]) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", gateways["guarded"].port)) as connection:
        connection.request("GET", "/api/events", headers={"origin": PAGE, **token()})
        response = connection.getresponse()
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["access-control-allow-credentials"] == "true"


def test_another_page_is_allowed_nothing(gateways: dict[str, Gateway]) -> None:
    url = f"{gateways['guarded'].url}/api/events"
    for origin in ("https://evil.example", "null", f"{PAGE}.evil.example"):
        answer = httpx2.post(url, json={"topic": "a", "data": 1}, headers={"origin": origin, **token(publish=["a"])})
        assert answer.headers.get("access-control-allow-origin") is None
        cookie = {"cookie": f"__Secure-trilane={token(publish=['a'])['authorization'].removeprefix('Bearer ')}"}
        response = httpx2.post(url, json={"topic": "a", "data": 1}, headers={"origin": origin, **cookie})
        check_problem(response, 403, "bad_origin")


# Ends


@pytest.mark.quiet
def test_a_stream_ends_well_with_its_token_after_it_was_told(gateways: dict[str, Gateway]) -> None:
    reader = Reader(gateways["guarded"], [], token(for_s=3)).start().join()
    assert (reader.names, reader.clean) == (["hello", "auth"], True)
    assert 1 <= reader.ended_at - reader.began_at <= 3.3
    assert reader.hello["maxAge"] <= 3


@pytest.mark.quiet
def test_streams_end_well_within_a_fifth_of_their_age(gateways: dict[str, Gateway]) -> None:
    readers = [Reader(gateways["short"], ["a"]).start() for _ in range(20)]
    lives_s = sorted(reader.join().ended_at - reader.began_at for reader in readers)
    assert all(reader.clean and reader.names == ["hello"] for reader in readers)
    assert 1.15 <= lives_s[0] <= lives_s[-1] <= 1.75, lives_s
    assert lives_s[-1] - lives_s[0] > 0.1
    back = Reader(gateways["short"], ["a"], cursor=readers[0].decoder.last_id).start()
    assert back.hello["recovered"]
    back.join()


@pytest.mark.quiet
def test_a_drain_sends_all_away_evenly_at_the_end_of_a_whole_event_and_loses_nothing(
    gateways: dict[str, Gateway],
) -> None:
    print(f"seed {SEED}")
    rng, leaving, other = random.Random(SEED), gateways["drained"], gateways["next"]
    subscriptions = [["d/1"], ["d/1", "d/2"], ["d/*"]]
    readers = [Reader(leaving, rng.choice(subscriptions)).start() for _ in range(READERS)]
    numbers, over = {"d/1": list[int](), "d/2": list[int]()}, threading.Event()

    def publish() -> None:
        with httpx2.Client(base_url=other.url) as http:
            for number in range(100_000):
                topic = rng.choice(["d/1", "d/2"])
                http.post("/api/events", json={"topic": topic, "data": [topic, number]}).raise_for_status()
                numbers[topic].append(number)
                if over.wait(0.005):
                    return

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        leaving.signal(signal.SIGTERM)
        signalled_at = time.monotonic()
        assert leaving.wait(WINDOW_S + 5) == 0
        assert time.monotonic() - signalled_at < WINDOW_S + 2.5
        for reader in readers:
            reader.join(1)
    finally:
        over.set()
        publisher.join()
    times_s = sorted(reader.ended_at - signalled_at for reader in readers)
    gaps = [later - one for one, later in pairwise(times_s)]
    assert WINDOW_S * 0.8 <= times_s[-1] <= WINDOW_S + 0.5
    assert max(gaps) < 0.6, f"all but evenly: {gaps}"
    assert abs(statistics.median(times_s) - WINDOW_S / 2) < 0.5
    for reader in readers:
        assert (reader.clean, reader.names[-1]) == (True, "drain")
        assert 1000 <= (reader.decoder.retry_ms or 0) <= 4000
    assert len({reader.decoder.retry_ms for reader in readers}) > READERS / 2
    for reader in readers[:20]:
        back = Reader(other, reader.topics, cursor=reader.decoder.last_id).start()
        assert back.hello["recovered"]
        numbers_due = {topic: numbers[topic] for topic in numbers if topic in reader.topics or "d/*" in reader.topics}
        deadline = time.monotonic() + 5
        while len(reader.data) + len(back.data) < sum(map(len, numbers_due.values())) and time.monotonic() < deadline:
            time.sleep(0.01)
        events = [*reader.data, *back.data]
        assert {topic: [number for of, number in events if of == topic] for topic in numbers_due} == numbers_due
