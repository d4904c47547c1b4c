"""Clients of the chat lane send ten requests at once, wait in the middle of an answer, and read what a chat holds."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2

from loadtests.upstream import RequestRecord
from tests.conftest import Gateway, UpstreamThread
from tests.support.sse_client import Frames, iter_frames

LONG = "T=1000 I=10000"


class Open:
    """A client in the middle of its answer, which a thread reads from the first token on."""

    def __init__(self, gateway: Gateway, body: dict[str, Any], **headers: str) -> None:
        self.frames = Frames()
        self._leave = threading.Event()
        self._has_started = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(f"{gateway.url}/api/chat", body, headers))
        self._thread.start()
        assert self._has_started.wait(10)

    def _read(self, url: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        with httpx2.stream("POST", url, json=body, headers=headers, timeout=30, verify=False) as response:
            for _, data in iter_frames(response.iter_lines(), self.frames):
                if data["type"] == "text-delta":
                    self._has_started.set()
                if self._leave.is_set():
                    break
        self._has_started.set()

    def leave(self) -> Frames:
        """Closes the connection after the next token."""
        self._leave.set()
        return self.join()

    def join(self) -> Frames:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.frames


def requests_with(upstream: UpstreamThread, mark: str) -> list[RequestRecord]:
    """Returns the upstream's requests whose conversation contains this mark."""
    return [request for request in upstream.fake.requests if mark in str(request.body)]


def snapshot(gateway: Gateway, chat_id: str) -> dict[str, Any]:
    return httpx2.get(f"{gateway.url}/api/chat/{chat_id}", verify=False).json()


def texts(gateway: Gateway, chat_id: str) -> list[str]:
    """Returns what everyone said, in order."""
    messages = snapshot(gateway, chat_id)["messages"]
    return ["".join(p["text"] for p in m["parts"] if p["type"] == "text") for m in messages]


def run_id(frames: Frames) -> str:
    return frames.cursor.split(".")[0]


def ten_times(ask: Callable[[], tuple[httpx2.Response, Frames]]) -> list[Frames]:
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda _: ask(), range(10)))
    assert [response.status_code for response, _ in results] == [200] * 10
    return [frames for _, frames in results]
