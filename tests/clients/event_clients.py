"""Event stream clients as their users run them: a browser, four of npm, two of PyPI; what their applications see.

httpx-sse and sseclient-py read one response and know nothing of reconnecting: `Loop` is what their applications write
around them, with the id and the `retry` that they give.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import httpx2
import httpx_sse
import sseclient

from tests.clients.node import JS, tool

NPM = ("eventsource", "undici", "eventsource-client", "fetch-event-source")
PYPI = ("httpx-sse", "sseclient-py")
BROWSER = "Chromium"
CLIENTS = (BROWSER, *NPM, *PYPI)
RETRY_S = 2.0


class Given(NamedTuple):
    """One event, as an application sees it."""

    event: str
    data: Any
    id: str
    at: float


class Record:
    """What one client has given, and what it says of its connection."""

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.state = "connecting"

    def take(self, told: dict[str, Any]) -> None:
        if "state" in told:
            self.state = told["state"]
        else:
            data = json.loads(told["data"]) if told["data"] else None
            self.given.append(Given(told["event"], data, told.get("id") or "", time.monotonic()))

    def of(self, event: str) -> list[Any]:
        return [given.data for given in self.given if given.event == event]


class Node:
    """The clients of npm, in one process."""

    def __init__(self, records: dict[str, Record]) -> None:
        self._process = subprocess.Popen(
            [tool("node"), "events.mjs"], cwd=JS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, args=(records,), daemon=True)
        self._reader.start()

    def open(self, client: str, url: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"open": client, "client": client, "url": url}) + "\n")
        self._process.stdin.flush()

    def _read(self, records: dict[str, Record]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            records[told["name"]].take(told)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Loop:
    """The loop that an application writes around a client that reads one response."""

    def __init__(self, read: Callable[[str, str, Record], Iterator[int | None]], url: str, record: Record) -> None:
        self._read = read
        self._url = url
        self._record = record
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        retry_s = RETRY_S
        while not self._over.is_set():
            cursor = next((given.id for given in reversed(self._record.given) if given.id), "")
            with suppress(httpx.TransportError, httpx2.TransportError, httpx_sse.SSEError):
                for retry_ms in self._read(self._url, cursor, self._record):
                    retry_s = retry_ms / 1000 if retry_ms else retry_s
                    if self._over.is_set():
                        return
            if self._record.state == "closed":
                return
            self._over.wait(retry_s)

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)


def _headers(cursor: str) -> dict[str, str]:
    return {"Last-Event-ID": cursor} if cursor else {}


def read_httpx_sse(url: str, cursor: str, record: Record) -> Iterator[int | None]:
    with (
        httpx.Client(timeout=5) as client,
        httpx_sse.connect_sse(client, "GET", url, headers=_headers(cursor)) as source,
    ):
        if source.response.status_code == 204:
            record.state = "closed"
            return
        for event in source.iter_sse():
            record.take({"event": event.event, "data": event.data, "id": event.id})
            yield event.retry


def read_sseclient(url: str, cursor: str, record: Record) -> Iterator[int | None]:
    with httpx2.stream("GET", url, headers=_headers(cursor), timeout=5) as response:
        if response.status_code == 204:
            record.state = "closed"
            return
        for event in sseclient.SSEClient(response.iter_bytes()).events():
            record.take({"event": event.event, "data": event.data, "id": event.id})
            yield int(event.retry) if event.retry else None


READ = {"httpx-sse": read_httpx_sse, "sseclient-py": read_sseclient}

IN_THE_PAGE = """
([url, names]) => {
  window.told = [];
  const source = new EventSource(url);
  for (const name of names)
    source.addEventListener(name, (e) => window.told.push({ event: e.type, data: e.data, id: e.lastEventId }));
  source.onerror = () => window.told.push({ state: source.readyState === 2 ? "closed" : "connecting" });
}
"""
NAMES = ("message", "note", "hello", "gap", "drain", "busy", "auth", "bye")


class Everyone:
    """All clients at once, on one URL each."""

    def __init__(self, url: Callable[[str], str], page: Any) -> None:
        self.records = {client: Record() for client in CLIENTS}
        self._page = page
        self._node = Node(self.records)
        for client in NPM:
            self._node.open(client, url(client))
        page.evaluate(IN_THE_PAGE, [url(BROWSER), NAMES])
        self._loops = [Loop(READ[client], url(client), self.records[client]) for client in PYPI]

    def look(self) -> None:
        """Takes what the browser has seen since."""
        for told in self._page.evaluate("() => window.told.splice(0)"):
            self.records[BROWSER].take(told)

    def until(self, met: Callable[[Record], object], within_s: float) -> None:
        """Waits until all records meet it, or the time is over: a test says who does not."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            self.look()
            if all(met(record) for record in self.records.values()):
                return
            time.sleep(0.05)

    def close(self) -> None:
        self._node.close()
        for loop in self._loops:
            loop.close()


@contextmanager
def everyone(url: Callable[[str], str], page: Any) -> Iterator[Everyone]:
    made = Everyone(url, page)
    try:
        yield made
    finally:
        made.close()
