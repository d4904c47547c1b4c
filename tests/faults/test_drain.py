"""SIGTERM makes a gateway unready at once, sends readers away at event boundaries, and lets runs finish.

Every test ends a gateway of its own; all are started in a fixture of the module, because starting takes a second.
"""

import asyncio
import http.client
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx2
import pytest

from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import Frames, chat_body, follow

LONG = "T=4000 I=20000"
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "delay": {"TRILANE_DRAIN_DELAY_S": "1"},
    "window": {"TRILANE_DRAIN_WINDOW_S": "1"},
    "early": {"TRILANE_DRAIN_WINDOW_S": "30"},
    "deadline": {"TRILANE_DRAIN_WINDOW_S": "0.1", "TRILANE_DRAIN_DEADLINE_S": "1"},
    "twice": {"TRILANE_DRAIN_WINDOW_S": "30"},
    "one of a crowd": {"TRILANE_DRAIN_WINDOW_S": "0.1"},
    "workers in a crowd": {"TRILANE_DRAIN_WINDOW_S": "0.1", "TRILANE_WORKERS": "2"},
}
TOKENS = 250
MEDIUM = f"T={TOKENS} I=12000"
"""An answer that takes longer than the window."""


@pytest.fixture(scope="module")
def gateways(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """Yields a running gateway for each name in ENVIRONMENTS; two at a time start."""
    processes = {
        name: serving(tmp_path_factory.mktemp(name), upstream.url, **env) for name, env in ENVIRONMENTS.items()
    }
    try:
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, processes.values()))
        yield processes
    finally:
        for gateway in processes.values():
            gateway.stop()


@dataclass
class Reader:
    """Reads a stream in a thread until it ends, and notes how it ended."""

    gateway: Gateway
    body: bytes = b""
    clean: bool = False
    """Whether the chunked body came to its regular end."""
    ended_at: float = 0.0

    def start(self, method: str, path: str, json: dict[str, Any] | None = None) -> "Reader":
        self._has_started = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(method, path, json))
        self._thread.start()
        assert self._has_started.wait(10)
        return self

    def _read(self, method: str, path: str, json: dict[str, Any] | None) -> None:
        with httpx2.stream(method, self.gateway.url + path, json=json, timeout=30, verify=False) as response:
            assert response.status_code == 200
            self.clean = True
            try:
                for data in response.iter_raw():
                    self.body += data
                    if b"delta" in self.body:
                        self._has_started.set()
            except httpx2.RemoteProtocolError:
                self.clean = False
            finally:
                self.ended_at = time.monotonic()
                self._has_started.set()

    def join(self) -> "Reader":
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self

    @property
    def cursor(self) -> str:
        ids = [line[4:].decode() for line in self.body.splitlines() if line.startswith(b"id: ")]
        return ids[-1]


def post(gateway: Gateway, chat_id: str, text: str, **more: Any) -> Reader:
    return Reader(gateway).start("POST", "/api/chat", chat_body(chat_id, text, **more))


def ready(gateway: Gateway) -> int:
    """Returns the status of `/readyz`, or 0 when nobody listens."""
    try:
        return httpx2.get(f"{gateway.url}/readyz", verify=False).status_code
    except httpx2.TransportError:
        return 0


def assert_left(reader: Reader) -> None:
    """Checks that a reader was sent away: a whole event said when to come back, and the body has no regular end."""
    last = reader.body.split(b"\n\n")
    assert last[-1] == b"", "the last event is not whole"
    assert last[-2].startswith(b"retry: "), last[-2]
    assert 1000 <= int(last[-2].split(b"\n")[0].removeprefix(b"retry: ")) <= 4000
    assert b"\ndata: {" in last[-2]
    assert b"[DONE]" not in reader.body
    assert not reader.clean


@contextmanager
def drain_of(gateway: Gateway, code: int, within_s: float) -> Iterator[float]:
    """Sends SIGTERM first and checks the exit code last; yields the time of the signal."""
    gateway.signal(signal.SIGTERM)
    began = time.monotonic()
    yield began
    assert gateway.wait(20) == code
    took = time.monotonic() - began
    assert took < within_s, f"it took {took:.1f} s to end"


@pytest.mark.quiet
def test_readiness_is_false_at_once_and_the_listener_stays_for_the_delay(gateways: dict[str, Gateway]) -> None:
    gateway = gateways["delay"]
    with drain_of(gateway, 0, 4) as began:
        eventually(lambda: ready(gateway) == 503, 0.5, "it is not ready any more")
        assert httpx2.get(f"{gateway.url}/healthz").status_code == 200
        problem = httpx2.get(f"{gateway.url}/readyz")
        assert (problem.status_code, problem.json()["code"]) == (503, "not_ready")
        assert problem.headers["retry-after"]
        eventually(lambda: ready(gateway) == 0, 3, "the listener is closed")
        assert time.monotonic() - began >= 0.95


class Leaving(NamedTuple):
    """Holds a gateway that was drained while it wrote to everyone, and what each of them got."""

    gateway: Gateway
    began: float
    readers: list[Reader]
    cancelling: Reader
    completion: Reader
    whole: httpx2.Response
    elsewhere: Frames
    """Frames that the first reader got from another process, after its cursor."""


@pytest.fixture(scope="module")
def leaving(gateways: dict[str, Gateway], upstream: UpstreamThread) -> Leaving:
    gateway = gateways["window"]
    successor = serving(gateway.folder, upstream.url).start()
    question = {"model": "ok", "messages": [{"role": "user", "content": MEDIUM}]}
    try:
        with ThreadPoolExecutor(1) as aside:
            before = len(upstream.fake.requests)
            url = f"{gateway.url}/v1/chat/completions"
            whole = aside.submit(httpx2.post, url, json=question, timeout=30, verify=False)
            eventually(lambda: len(upstream.fake.requests) > before, what="the completion is on its way")
            readers = [post(gateway, f"window-{n}", MEDIUM) for n in range(6)]
            cancelling = post(gateway, "cancelling", MEDIUM, onDisconnect="cancel")
            completion = Reader(gateway).start("POST", "/v1/chat/completions", {**question, "stream": True})
            with drain_of(gateway, 0, 15) as began:
                _, elsewhere = follow(successor.url, "window-0", readers[0].join().cursor)
                for reader in (*readers, cancelling, completion):
                    reader.join()
            return Leaving(gateway, began, readers, cancelling, completion, whole.result(), elsewhere)
    finally:
        successor.stop()


@pytest.mark.quiet
def test_readers_leave_over_the_window_at_the_end_of_an_event(leaving: Leaving) -> None:
    for reader in leaving.readers:
        assert_left(reader)
    times_s = sorted(reader.ended_at - leaving.began for reader in leaving.readers)
    print("\nleft after", " ".join(f"{after:.2f}" for after in times_s), "s of 1")
    assert times_s[-1] < 2
    assert times_s[-1] - times_s[0] > 0.4


def test_runs_go_on_to_their_end(leaving: Leaving) -> None:
    rows = [row for row in leaving.gateway.usage() if row.get("chatId", "").startswith("window-")]
    assert [(row["outcome"], row["quantities"]["outputTokens"]) for row in rows] == [("finish", TOKENS)] * 6


def test_a_reader_that_is_sent_away_continues_in_another_process(leaving: Leaving) -> None:
    reader, rest = leaving.readers[0], leaving.elsewhere
    assert rest.done
    assert words(TOKENS).endswith(rest.text)
    assert reader.body.count(b'"text-delta"') + rest.types.count("text-delta") == TOKENS


def test_a_drain_is_no_disconnect(leaving: Leaving) -> None:
    """Readers that are sent away have not left: their runs go on, whatever they said about leaving."""
    assert_left(leaving.cancelling)
    [row] = [row for row in leaving.gateway.usage() if row.get("chatId", "") == "cancelling"]
    assert row["outcome"] == "finish"


def test_a_completion_that_cannot_be_resumed_is_finished(leaving: Leaving) -> None:
    """Nobody can come back to an answer in the OpenAI wire format, so its reader is not sent away."""
    assert leaving.whole.json()["choices"][0]["message"]["content"] == words(TOKENS)
    assert leaving.completion.body.endswith(b"data: [DONE]\n\n")
    assert leaving.completion.body.count(b'"content":') == TOKENS + 1
    assert leaving.completion.clean


def test_nobody_waits_for_a_window_that_is_not_needed(gateways: dict[str, Gateway]) -> None:
    """The window is for readers: when they have what they came for, there is nothing to wait for.

    And who has a connection already can read on until then.
    """
    gateway = gateways["early"]
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    reader = post(gateway, "early", "T=250 I=10000")
    with drain_of(gateway, 0, 8):
        eventually(lambda: ready(gateway) == 0, 3, "the listener is closed")
        connection.request("GET", "/api/chat/early")
        assert b'"activeRun":{' in connection.getresponse().read()
        connection.close()
        reader.join()
    assert reader.clean
    assert reader.body.endswith(b"data: [DONE]\n\n")


def test_past_the_deadline_the_run_is_interrupted(gateways: dict[str, Gateway], upstream: UpstreamThread) -> None:
    gateway = gateways["deadline"]
    reader = post(gateway, "deadline", LONG)
    with drain_of(gateway, 1, 5):
        assert_left(reader.join())
    check_interrupted(gateway, upstream)


def test_a_second_signal_ends_it_now(gateways: dict[str, Gateway], upstream: UpstreamThread) -> None:
    gateway = gateways["twice"]
    reader = post(gateway, "twice", LONG)
    with drain_of(gateway, 1, 4):
        eventually(lambda: ready(gateway) == 0, 3, "the listener is closed")
        gateway.signal(signal.SIGTERM)
        reader.join()
    assert b"[DONE]" not in reader.body or b'"code":"interrupted"' in reader.body
    check_interrupted(gateway, upstream)


def check_interrupted(gateway: Gateway, upstream: UpstreamThread) -> None:
    """Checks that the one run was ended by its own process, and said so before the process was gone."""
    eventually(lambda: not upstream.open_requests, what="no open upstream request")
    [row] = gateway.usage()
    assert row["outcome"] == "interrupted"
    chunks = [data for name, data in gateway.events(f"run/{row['id']}") if name == "chunk"]
    assert chunks[-1]["type"] == "error"
    assert chunks[-2]["messageMetadata"]["code"] == "interrupted"


async def come_and_go(port: int, answers: list[bytes], *, until: threading.Event) -> None:
    """Sends one POST after another, each on a new connection, as a proxy does; a connection refused is tried again."""
    body = b"{}"
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    while not until.is_set():
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        try:
            writer.write(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            answers.append(await reader.readline())
        except OSError as err:
            answers.append(repr(err).encode())
        finally:
            writer.transport.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems reset what they have accepted for a closed listener")
@pytest.mark.parametrize("name", ["one of a crowd", "workers in a crowd"])
def test_whoever_has_got_a_connection_is_answered(gateways: dict[str, Gateway], name: str) -> None:
    """A proxy that got none asks another process; one whose POST was perhaps read must answer with an error."""
    gateway, answers, is_over = gateways[name], list[bytes](), threading.Event()

    async def crowd() -> None:
        await asyncio.gather(*[come_and_go(gateway.port, answers, until=is_over) for _ in range(20)])

    thread = threading.Thread(target=asyncio.run, args=(crowd(),))
    thread.start()
    eventually(lambda: len(answers) > 40, what="the crowd is there")
    gateway.signal(signal.SIGTERM)
    assert gateway.wait(20) == 0
    is_over.set()
    thread.join(20)
    assert set(answers) == {b"HTTP/1.1 400 Bad Request\r\n"}
