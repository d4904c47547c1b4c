"""Whoever has a stream open when the log's file is taken away is told so, and gets on when it is back."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.problems import check_problem
from tests.support.sse_client import Frames, chat_body, read_frames
from tests.support.sse_decoder import Event, SseDecoder

TOLD_S = 3.0
"""Seconds within which a reader is told: two, and one more for a busy machine."""
LONG = "T=400 I=20000"


@pytest.fixture(scope="module")
def place(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    server = serving(tmp_path_factory.mktemp("place"), upstream.url)
    server.unit = "all"
    try:
        yield server.start()
    finally:
        server.stop()


class OpenStream:
    """A stream that a thread reads to its end."""

    def __init__(self, pool: ThreadPoolExecutor, url: str, begun_at: bytes, posted: dict[str, Any] | None) -> None:
        self._begun = threading.Event()
        self._begun_at = begun_at
        self.ended_at = 0.0
        self.is_clean = False
        self.body: Future[bytes] = pool.submit(self._read, url, posted)

    def _read(self, url: str, posted: dict[str, Any] | None) -> bytes:
        body = b""
        with httpx2.stream("GET" if posted is None else "POST", url, json=posted, timeout=30) as response:
            assert response.status_code == 200, response.read()
            try:
                for data in response.iter_raw():
                    body += data
                    if self._begun_at in body:
                        self._begun.set()
                self.is_clean = True
            except httpx2.RemoteProtocolError:
                pass
        self.ended_at = time.monotonic()
        return body

    def begun(self) -> "OpenStream":
        assert self._begun.wait(20)
        return self

    def events(self) -> list[Event]:
        return SseDecoder().feed(self.body.result(20))


@contextmanager
def taken_away(place: Gateway, how: str) -> Iterator[None]:
    """Takes the log's file away, and puts it back at the end."""
    path, aside = place.folder / "trilane.db", place.folder / "aside.db"
    path.rename(aside)
    if how == "replaced":
        path.write_bytes(aside.read_bytes())
    try:
        yield
    finally:
        aside.rename(path)


EVENT_STREAMS = ["topic=a", "topic=a&topic=b", "topic=t/*", "topic=a&envelope=1", "topic=presence/a", ""]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_every_open_stream_is_told_and_its_reader_gets_on(place: Gateway, how: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        events = [OpenStream(pool, f"{place.url}/api/events?{query}", b"\nid: ", None) for query in EVENT_STREAMS]
        chat = OpenStream(pool, f"{place.url}/api/chat", b"text-delta", chat_body(how, LONG))
        chat.begun()
        attached = OpenStream(pool, f"{place.url}/api/chat/{how}/stream", b"text-delta", None)
        asked = {"model": "ok", "stream": True, "messages": [{"role": "user", "content": LONG}]}
        completion = OpenStream(pool, f"{place.url}/v1/chat/completions", b'"content"', asked)
        streams = [*events, chat, attached, completion]
        for stream in streams:
            stream.begun()
        with taken_away(place, how):
            began = time.monotonic()
            for stream in streams:
                stream.body.result(20)
            assert max(stream.ended_at for stream in streams) - began < TOLD_S
            for stream in events:
                last = stream.events()[-1]
                assert (last.event, json.loads(last.data)) == ("busy", {"code": "log_unavailable"})
                assert last.id
                assert stream.is_clean
            for stream in (chat, attached):
                frames = parse(stream)
                assert not stream.is_clean, "no client may take it for the end"
                assert (frames.chunks[-1]["type"], frames.done, frames.terminals) == ("data-busy", False, [])
                assert frames.chunks[-1]["data"]["code"] == "log_unavailable"
            *_, error, done, _ = completion.body.result().split(b"\n\n")
            assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "log_unavailable"
            assert (done, completion.is_clean) == (b"data: [DONE]", True)
            refusal = httpx2.get(f"{place.url}/api/chat/{how}/stream", headers={"last-event-id": parse(chat).cursor})
            check_problem(refusal, 503, "log_unavailable", "put it back")
            check_problem(httpx2.post(f"{place.url}/api/chat", json=chat_body("new", "hi")), 503, "log_unavailable")
            assert place.gauge("trilane_log_failed") == 1
        eventually(lambda: httpx2.get(f"{place.url}/readyz").status_code == 200, what="it is ready again")
    last_id = events[0].events()[-1].id
    with httpx2.stream("GET", f"{place.url}/api/events?topic=a", headers={"last-event-id": last_id}) as response:
        hello = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert json.loads(hello.removeprefix("data: "))["recovered"]
    with httpx2.stream("GET", f"{place.url}/api/chat/{how}/stream", headers={"last-event-id": cursor_of(chat)}) as rest:
        frames = read_frames(rest.iter_lines())
    assert frames.terminals[0]["type"] == "error"
    assert frames.done
    assert place.gauge("trilane_log_failed") == 0
    assert "the log has failed" in place.stderr()


def parse(stream: OpenStream) -> Frames:
    return read_frames(stream.body.result().decode().splitlines())


def cursor_of(stream: OpenStream) -> str:
    """Returns the cursor of the last chunk that came with one."""
    return next(event.id for event in reversed(stream.events()) if event.id)
