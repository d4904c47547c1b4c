"""Seven clients of event streams, unmodified, live through one story with the events lane.

Each of them follows one topic through everything that can happen to it; the story is told once, to all of them at
once, and every test below asks one client about one thing. What a client cannot do itself:

- httpx-sse and sseclient-py read one response: reconnecting, with the last id and `retry`, is the application's loop.
- fetch-event-source was written for browsers: in Node it is given `window` and `document`. After a clean end it
  reconnects only when `onclose` throws, and after 204 it stops only when `onopen` throws, as its README shows.
"""

import asyncio
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from events.log import Append
from events.sqlite import SqliteLog
from gateway.settings import Settings
from gateway.units import retention_of
from tests.clients.event_clients import CLIENTS, Everyone, Record, everyone
from tests.clients.node import install
from tests.conftest import Gateway

pytestmark = pytest.mark.timeout(300)
KEPT = 200
TOPIC = "story"
NOTE = {"text": "one line\nanother\r\nand a third", "sign": "data: not a field"}
FLOOD = range(1000, 2000)


class Story:
    """The gateway that the clients follow, and what was published."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.counts: dict[str, int] = {}

    def publish(self, *numbers: int) -> None:
        body = [{"topic": TOPIC, "data": {"n": number}} for number in numbers]
        httpx2.post(f"{self.gateway.url}/api/events", json=body).raise_for_status()

    def while_away(self, *numbers: int, close: bool = False, rest_s: float = 0) -> None:
        """Written into the log by another process, which keeps no more than the gateway would."""

        async def append() -> None:
            log = SqliteLog(self.gateway.folder / "trilane.db", retention_of(Settings(retention_events=KEPT)))
            await log.open()
            for number in numbers:
                await log.append(Append(topic=f"event/{TOPIC}", data=[b'{"n":%d}' % number]))
            if close:
                await log.append(Append(topic=f"event/{TOPIC}", data=[], close=True))
            await asyncio.sleep(rest_s)
            await log.close()

        with ThreadPoolExecutor(1) as aside:  # Playwright keeps an event loop running in this thread
            aside.submit(lambda: asyncio.run(append())).result()

    def end(self, number: signal.Signals) -> None:
        self.gateway.signal(number)
        self.gateway.wait()

    def start(self, **env: str) -> None:
        before = self.gateway.env
        self.gateway.env = before | env
        self.gateway.start()
        self.gateway.env = before


def has(number: int) -> Callable[[Record], bool]:
    return lambda record: any(data == {"n": number} for data in record.of("message"))


def tell(story: Story, all_: Everyone) -> None:
    """What happens, in order. Nothing is judged here."""
    all_.until(lambda record: record.of("hello"), 10)
    story.publish(1)
    httpx2.post(f"{story.gateway.url}/api/events", json={"topic": TOPIC, "event": "note", "data": NOTE})
    time.sleep(1)  # several pings
    for number in range(2, 42):
        story.publish(number)
        time.sleep(0.15)
    all_.until(has(41), 12)
    story.end(signal.SIGTERM)
    story.while_away(*range(42, 52))
    story.start()
    all_.until(has(51), 12)
    story.publish(*range(52, 60))
    story.end(signal.SIGKILL)
    story.while_away(60)
    story.start()
    all_.until(has(60), 12)
    story.end(signal.SIGTERM)
    story.while_away(*FLOOD, rest_s=2.5)
    story.start()
    all_.until(lambda record: any(not hello["recovered"] for hello in record.of("hello")), 12)
    story.publish(5000)
    all_.until(has(5000), 12)
    story.end(signal.SIGTERM)
    story.start(TRILANE_LIMIT_STREAMS="0")
    all_.until(lambda record: record.of("busy"), 12)
    story.end(signal.SIGTERM)
    story.start(TRILANE_MAX_AGE_S="600")  # so that all are there when the topic is closed
    story.publish(6000)
    all_.until(has(6000), 25)
    story.while_away(close=True)
    all_.until(lambda record: record.of("bye") and record.state == "closed", 12)
    time.sleep(1)
    story.counts["open"] = int(story.gateway.gauge("trilane_open_streams"))


@pytest.fixture(scope="module")
def told(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Story, Everyone]]:
    install()
    env = {
        "TRILANE_PING_S": "0.2",
        "TRILANE_MAX_AGE_S": "3",
        "TRILANE_DRAIN_WINDOW_S": "0.3",
        "TRILANE_RETENTION_EVENTS": str(KEPT),
    }
    gateway = Gateway(tmp_path_factory.mktemp("story"), env, unit="events")
    page = browser.new_page()
    try:
        gateway.start()
        page.goto(f"{gateway.url}/healthz")
        story = Story(gateway)
        with everyone(lambda client: f"{gateway.url}/api/events?topic={TOPIC}&for={client}", page) as all_:
            tell(story, all_)
            yield story, all_
    finally:
        page.close()
        gateway.stop()


@pytest.fixture(params=CLIENTS)
def record(request: pytest.FixtureRequest, told: tuple[Story, Everyone]) -> Record:
    return told[1].records[request.param]


def numbers(record: Record) -> list[int]:
    return [data["n"] for data in record.of("message")]


def test_it_is_greeted_first(record: Record) -> None:
    first = record.given[0]
    assert (first.event, first.data["recovered"], first.data["topics"]) == ("hello", True, [TOPIC])


def test_it_receives_events_and_their_ids(record: Record) -> None:
    message = next(given for given in record.given if given.event == "message")
    assert message.data == {"n": 1}
    assert message.id


def test_it_receives_named_events_of_many_lines(record: Record) -> None:
    assert record.of("note") == [NOTE]


def test_its_application_sees_no_ping(record: Record) -> None:
    """At five a second, for most of a minute."""
    assert {given.event for given in record.given} <= {"hello", "message", "note", "drain", "busy", "bye"}
    assert all(given.data is not None for given in record.given)


def test_it_reconnects_with_its_id_and_loses_nothing(record: Record) -> None:
    """Connections end every three seconds."""
    assert [number for number in numbers(record) if number < 42] == list(range(1, 42))
    assert len(record.of("hello")) > 3


def test_it_resumes_after_a_restart(record: Record) -> None:
    assert [number for number in numbers(record) if 42 <= number < 52] == list(range(42, 52))


def test_it_resumes_after_the_process_was_killed(record: Record) -> None:
    assert [number for number in numbers(record) if 52 <= number <= 60] == list(range(52, 61))


def test_it_sees_that_history_was_lost_and_how_much(record: Record) -> None:
    [lost] = [hello for hello in record.of("hello") if not hello["recovered"]]
    assert (lost["reason"], lost["missed"]) == ("evicted", len(FLOOD))
    assert not set(numbers(record)) & set(FLOOD)
    assert 5000 in numbers(record)


def test_it_survives_busy(record: Record) -> None:
    assert record.of("busy")
    assert numbers(record)[-1] == 6000


def test_nothing_came_twice_and_all_in_order(record: Record) -> None:
    assert numbers(record) == sorted(set(numbers(record)))


def test_it_obeys_bye(record: Record, told: tuple[Story, Everyone]) -> None:
    assert record.of("bye") == [{"code": "complete", "retry": False}]
    assert record.state == "closed"
    assert told[0].counts["open"] == 0


def test_ids_are_such_that_no_browser_asks_before_it_sends_them(record: Record) -> None:
    """At most 128 bytes, and none that CORS calls unsafe."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-")
    for given in record.given:
        assert len(given.id) <= 128
        assert set(given.id) <= allowed, json.dumps(given.id)
