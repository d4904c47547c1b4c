"""The clients from PyPI do not reconnect: the application's loop does, with the last id and the last `retry:`.

For httpx-sse that loop is the one in its README ("Handling reconnections"): it keeps the id that each event tells.
Ours comes back after every `httpx.TransportError` and after a clean end; the README's only after a `ReadError`,
but a connection that was closed inside an event is a `RemoteProtocolError`.
sseclient-py's README shows no loop and no status: this one is the same, and looks at the status itself.
"""

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx
import httpx_sse
import sseclient

from tests.clients.events.application import Application, Event

TIMEOUT = httpx.Timeout(10, read=30)


class Delivery(NamedTuple):
    event: Event
    last_event_id: str
    """The last id that the next request is to send."""
    retry_ms: int | None


class Over(Exception):
    """The server does not want this client back."""


Connect = Callable[[str, str], Iterator[Delivery]]
"""One connection: a URL and the last id → what comes. Raises httpx.TransportError, Over."""


def by_httpx_sse(url: str, last_event_id: str) -> Iterator[Delivery]:
    headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
    with httpx.Client(timeout=TIMEOUT) as client, httpx_sse.connect_sse(client, "GET", url, headers=headers) as source:
        try:
            for sse in source.iter_sse():
                yield Delivery(Event(sse.event, sse.data, sse.id), sse.id, sse.retry)
        except httpx_sse.SSEError as err:
            raise Over(str(err)) from err


def by_sseclient(url: str, last_event_id: str) -> Iterator[Delivery]:
    headers = {"Accept": "text/event-stream"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    with httpx.stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        if response.status_code != 200:
            raise Over(f"status {response.status_code}")
        for event in sseclient.SSEClient(response.iter_bytes()).events():
            last_event_id = event.id or last_event_id
            parsed_event = Event(event.event, event.data, event.id)
            yield Delivery(parsed_event, last_event_id, int(event.retry) if event.retry else None)


CONNECT: dict[str, Connect] = {"httpx-sse": by_httpx_sse, "sseclient-py": by_sseclient}


class PythonClients:
    """Runs a thread for each client."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def follow(self, kind: str, url: str, application: Application) -> Callable[[], None]:
        stop = threading.Event()
        thread = threading.Thread(target=_loop, args=(CONNECT[kind], url, application, stop), daemon=True)
        self._threads.append(thread)
        thread.start()
        return stop.set

    def close(self) -> None:
        """Ends the threads, once their servers are gone."""
        for thread in self._threads:
            thread.join(5)


def _loop(connect: Connect, url: str, application: Application, stop: threading.Event) -> None:
    last_event_id, delay_s = "", 0.0
    while not stop.wait(delay_s):
        try:
            for delivery in connect(url, last_event_id):
                last_event_id = delivery.last_event_id
                if delivery.retry_ms is not None:
                    delay_s = delivery.retry_ms / 1000
                application.tell(delivery.event)
        except httpx.TransportError as err:
            application.fail(type(err).__name__)
        except Over as err:
            application.end(str(err))
            return
