"""Workers end as one process does, and none of them outlives its supervisor and keeps the port."""

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import psutil
import pytest

from loadtests.ports import free_port
from tests.conftest import Gateway, eventually
from tests.support.event_streams import EventReader
from tests.support.sse_decoder import Event
from tests.support.workers import workers_of

pytestmark = pytest.mark.anyio

METRICS_PORT = free_port()
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "drained": {"TRILANE_WORKERS": "2", "TRILANE_DRAIN_WINDOW_S": "0.5"},
    "cut": {"TRILANE_WORKERS": "1", "TRILANE_DRAIN_WINDOW_S": "30"},
    "orphaned": {
        "TRILANE_WORKERS": "2",
        "TRILANE_DRAIN_WINDOW_S": "0.5",
        "TRILANE_DRAIN_DELAY_S": "30",
        "TRILANE_METRICS_PORT": str(METRICS_PORT),
    },
}
READERS = 12


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """Yields a running gateway for each name in ENVIRONMENTS; two at a time start."""
    processes = {name: Gateway(tmp_path_factory.mktemp(name), env, "events") for name, env in ENVIRONMENTS.items()}
    try:
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, processes.values()))
        for name, env in ENVIRONMENTS.items():
            count = int(env["TRILANE_WORKERS"])
            eventually(lambda: len(workers_of(processes[name])) == count, 30, f"the workers of {name}")  # noqa: B023 - called before the loop goes on
            eventually(lambda: "all workers are ready" in processes[name].stderr(), 30, name)  # noqa: B023 - called before the loop goes on
        yield processes
    finally:
        for gateway in processes.values():
            gateway.stop()


async def read(gateway: Gateway, begun: asyncio.Semaphore) -> list[Event]:
    """Returns what one reader got until its stream ended."""
    events: list[Event] = []
    async with EventReader(gateway.port, ["team/a"]) as reader:
        async for event in reader.events():
            events.append(event)
            begun.release()
    return events


async def readers(gateway: Gateway, count: int) -> list["asyncio.Task[list[Event]]"]:
    """Returns tasks of readers that are live."""
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(read(gateway, begun)) for _ in range(count)]
    async with asyncio.timeout(20):
        for _ in range(count):
            await begun.acquire()
    return tasks


async def test_all_drain_and_readers_are_told_to_come_back(gateways: dict[str, Gateway]) -> None:
    gateway = gateways["drained"]
    pids = workers_of(gateway)
    tasks = await readers(gateway, READERS)
    for pid in [gateway.pid, *pids]:  # as a service's stop does that signals every process
        psutil.Process(pid).send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        endings = [(await task)[-1].event for task in tasks]
    assert endings == ["drain"] * READERS
    assert await asyncio.to_thread(gateway.wait, 20) == 0
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_roll_that_is_asked_for_during_another_comes_after_it(gateways: dict[str, Gateway]) -> None:
    """However often it is asked for meanwhile, it is one more."""
    gateway = gateways["cut"]
    gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.stderr().count("rolling the workers") == 1, 10, "the first roll has begun")
    for _ in range(3):
        gateway.signal(signal.SIGHUP)
    eventually(lambda: gateway.stderr().count("all workers are new") == 2, 30, "both rolls", every_s=0.05)
    assert gateway.stderr().count("rolling the workers") == 2
    assert len(workers_of(gateway)) == 1


async def test_a_second_signal_cuts(gateways: dict[str, Gateway]) -> None:
    gateway = gateways["cut"]
    tasks = await readers(gateway, READERS)
    gateway.signal(signal.SIGINT)
    await asyncio.to_thread(eventually, lambda: not accepts(gateway), 10, "the listener is closed")
    gateway.signal(signal.SIGINT)
    began = time.monotonic()
    assert await asyncio.to_thread(gateway.wait, 20) == 1
    assert time.monotonic() - began < 10
    for task in tasks:
        await task


async def test_workers_do_not_outlive_their_supervisor(gateways: dict[str, Gateway]) -> None:
    """Nobody can tell them to leave, so they do it by themselves, and the port is free at once."""
    gateway = gateways["orphaned"]
    workers = [psutil.Process(pid) for pid in workers_of(gateway)]
    assert "trilane_gateway_workers 2.0" in httpx2.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    assert httpx2.get(f"{gateway.url}/metrics").status_code == 404
    tasks = await readers(gateway, READERS)
    gateway.signal(signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: not accepts(gateway), 10, "the port is free")
    with socket.create_server(("127.0.0.1", gateway.port)):
        pass
    async with asyncio.timeout(20):
        assert [(await task)[-1].event for task in tasks] == ["drain"] * READERS
    _, alive = await asyncio.to_thread(psutil.wait_procs, workers, 20)
    assert alive == []


def accepts(gateway: Gateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", gateway.port)) == 0
