"""The events users find each fault of a stream, and judge real gateways behind good and bad proxies."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from loadtests.users.fault import Fault
from loadtests.users.sse import Event
from loadtests.users.swarm import Swarm, behind, swarm
from loadtests.users.topic_record import CLOCK, NAME, TopicRecord
from tests.conftest import Gateway, eventually, serving

EVENTS = "loadtests/events.py"
PING_S = "1"


def cursor(offset: int) -> str:
    """Returns a cursor as the gateway writes it: offsets have 36 digits."""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = digits[offset % 36] if offset < 36 else digits[offset // 36] + digits[offset % 36]
    return f"e0123abcd.f00d.{text}"


def hello(offset: int, *, recovered: bool = True, **more: object) -> Event:
    body = {"recovered": recovered, "replay": 0, "ping": 15, "maxAge": 571, "topics": ["load/0"], **more}
    return Event("hello", cursor(offset), json.dumps(body))


def event_of(offset: int, number: int, by: str = "p", clock: str = CLOCK) -> Event:
    data = {"by": by, "n": number, "at": time.monotonic_ns(), "clock": clock}
    return Event(NAME, cursor(offset), json.dumps(data))


def gap(offset: int) -> Event:
    return Event("gap", cursor(offset), '{"topic":"load/0","from":3,"to":9,"reason":"evicted"}')


def leaving(name: str) -> Event:
    return Event(name, "", '{"code":"full"}')


def faults_of(events: list[Event], followed: TopicRecord | None = None) -> list[Fault]:
    followed = followed or TopicRecord()
    return [finding.fault for event in events for finding in followed.take(event)]


@pytest.mark.parametrize(
    ("events", "faults"),
    [
        ([hello(7), event_of(8, 0), event_of(9, 1)], []),
        ([hello(34), event_of(35, 5), event_of(36, 6), event_of(37, 7)], []),
        ([hello(7), event_of(8, 3, "p"), event_of(9, 8, "q"), event_of(10, 4, "p"), event_of(11, 9, "q")], []),
        ([hello(0), Event("message", cursor(1), '"not one of ours"'), event_of(2, 0)], []),
        ([hello(7), event_of(9, 0)], [Fault.LOST]),
        ([hello(7), event_of(8, 0), event_of(9, 2)], [Fault.LOST]),
        ([hello(7), event_of(8, 0), event_of(10, 2)], [Fault.LOST]),
        ([hello(7), event_of(8, 0), event_of(8, 0)], [Fault.DOUBLED]),
        ([hello(7), event_of(8, 0), event_of(9, 0), event_of(10, 1)], [Fault.DOUBLED]),
        ([hello(7), event_of(9, 1), event_of(8, 0)], [Fault.LOST, Fault.DOUBLED]),
        ([event_of(8, 0)], [Fault.OUT_OF_ORDER]),
        ([hello(7), Event(NAME, "", "{}")], [Fault.ERROR]),
        ([hello(7), event_of(8, 0), gap(20), event_of(21, 13)], [Fault.GONE]),
        ([hello(7), leaving("drain")], []),
        ([hello(7), leaving("auth")], []),
        ([leaving("busy")], [Fault.REFUSED]),
        ([hello(7), leaving("bye")], [Fault.ERROR]),
    ],
)
def test_each_wrong_stream_has_its_faults(events: list[Event], faults: list[Fault]) -> None:
    assert faults_of(events) == faults


@pytest.mark.parametrize(
    ("events", "faults"),
    [
        ([hello(8), event_of(9, 1)], []),
        ([hello(8), event_of(10, 2)], [Fault.LOST]),
        ([hello(8), event_of(8, 0)], [Fault.DOUBLED]),
        ([hello(30), event_of(31, 23)], [Fault.NO_RESUME]),
        ([hello(30, recovered=False, reason="unknown_cursor", missed=None), event_of(31, 23)], [Fault.NO_RESUME]),
        ([hello(30, recovered=False, reason="evicted", missed=22), event_of(31, 23)], [Fault.GONE]),
        ([hello(30, recovered=False, reason="replay_limit", missed=22), event_of(31, 23)], [Fault.GONE]),
    ],
)
def test_a_reader_that_comes_back_goes_on_or_is_told(events: list[Event], faults: list[Fault]) -> None:
    followed = TopicRecord()
    assert not faults_of([hello(7), event_of(8, 0)], followed)
    followed.connect()
    assert followed.hello is None
    assert faults_of(events, followed) == faults


def test_a_reader_that_was_cut_before_hello_begins_anew() -> None:
    followed = TopicRecord()
    followed.connect()
    assert followed.cursor == ""
    assert not faults_of([hello(50), event_of(51, 4)], followed)


def test_an_event_that_came_twice_does_not_take_the_reader_back() -> None:
    followed = TopicRecord()
    assert faults_of([hello(7), event_of(8, 0), event_of(9, 1), event_of(8, 0)], followed) == [Fault.DOUBLED]
    assert followed.cursor == cursor(9)


@pytest.mark.parametrize("data", ["", "[]", "{}", '{"recovered":true}'])
def test_a_hello_that_is_none_is_refused(data: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        TopicRecord().take(Event("hello", cursor(1), data))


def test_only_a_clock_of_this_machine_is_believed() -> None:
    followed = TopicRecord()
    followed.take(hello(7))
    followed.take(event_of(8, 0))
    assert followed.delay_ms is not None
    assert 0 <= followed.delay_ms < 1000
    followed.take(event_of(9, 1, clock="another machine"))
    assert followed.delay_ms is None


# ------------------------------------------------------------------ real gateways


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Runs a gateway that pings every second, so that a missing ping shows soon."""
    server = serving(tmp_path_factory.mktemp("gateway"), "http://127.0.0.1:9", TRILANE_PING_S=PING_S)
    server.unit = "events"
    try:
        yield server.start()
    finally:
        server.stop()


def follow(url: str, folder: Path, *options: str, seconds: float) -> Swarm:
    return swarm(EVENTS, url, folder, "-u", "4", "--listeners", "8", "--rate", "40", *options, seconds=seconds)


def test_a_good_deployment_has_no_faults_over_several_processes(gateway: Gateway, tmp_path: Path) -> None:
    result = follow(gateway.url, tmp_path, "--processes", "2", "--cut", "3", seconds=10)
    assert (result.faults, result.exit_code) == (set(), 0), result.output[-3000:]
    assert set(result.counts) == {f"events/{name}" for name in ("hello", "publish", "publish to receive", "resume gap")}
    assert result.counts["events/resume gap"] > 10


def test_streams_that_the_gateway_ends_by_age_are_no_fault(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "http://127.0.0.1:9", TRILANE_MAX_AGE_S="3")
    gateway.unit = "events"
    try:
        result = follow(gateway.start().url, tmp_path, "--cut", "0", seconds=6)
    finally:
        gateway.stop()
    assert (result.faults, result.exit_code) == (set(), 0), result.output[-3000:]
    assert result.counts["events/resume gap"] > 10


def test_a_proxy_that_buffers_is_found_and_nothing_else_is(gateway: Gateway, tmp_path: Path) -> None:
    with behind(gateway.port, tmp_path, "--buffer") as url:
        result = follow(url, tmp_path, "--cut", "0", "--rate", "1", seconds=14)
    assert (result.faults, result.exit_code) == ({"BUFFERED"}, 1), result.output[-3000:]


def test_a_proxy_that_drops_pings_is_found_and_nothing_else_is(gateway: Gateway, tmp_path: Path) -> None:
    with behind(gateway.port, tmp_path, "--no-pings") as url:
        result = follow(url, tmp_path, "--cut", "0", seconds=7)
    assert (result.faults, result.exit_code) == ({"NO_PING"}, 1), result.output[-3000:]


def test_a_proxy_that_forgets_cursors_is_found_and_nothing_else_is(gateway: Gateway, tmp_path: Path) -> None:
    with behind(gateway.port, tmp_path, "--no-resume") as url:
        result = follow(url, tmp_path, "--cut", "5", seconds=6)
    assert (result.faults, result.exit_code) == ({"NO_RESUME"}, 1), result.output[-3000:]


def test_a_gateway_that_is_killed_is_found(tmp_path: Path) -> None:
    gateway = serving(tmp_path, "http://127.0.0.1:9")
    gateway.unit = "events"
    killer = threading.Thread(target=kill_when_followed, args=[gateway.start()])
    killer.start()
    try:
        result = follow(gateway.url, tmp_path, "--cut", "0", seconds=6)
    finally:
        killer.join()
        gateway.stop()
    assert result.exit_code == 1
    assert result.faults == {"NO_END", "UNREACHABLE"}, result.output[-3000:]


def kill_when_followed(gateway: Gateway) -> None:
    def readers() -> int:
        return httpx2.get(f"{gateway.url}/api/events/topics/load/quiet").json()["readers"]

    eventually(lambda: readers() > 0, 20, "somebody follows the quiet topic")
    gateway.signal(signal.SIGKILL)
