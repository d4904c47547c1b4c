"""Keys and tickets hold for all processes that share a log, on every engine: one revocation, one use."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from events.log.port import EventLog
from gateway.access.grants import EVERYTHING
from gateway.access.keys import add_key, key_statuses, revoke_key
from gateway.core.engines import make_log
from gateway.settings import load
from tests.conftest import Gateway, eventually
from tests.support.postgres_server import PostgresServer
from tests.support.redis_servers import RedisServer

WITHIN_S = 1.0
"""Seconds within which every process obeys a key that was made or revoked."""
TICKETS = 25


@dataclass
class SharedLog:
    """Two gateways that ask for keys alone, and the log that they share."""

    url: str
    gateways: list[Gateway]

    def run(self, work: Callable[[EventLog], Coroutine[Any, Any, Any]]) -> Any:
        async def main() -> Any:
            log = make_log(load({"TRILANE_LOG": self.url}))
            await log.open()
            try:
                return await work(log)
            finally:
                await log.close()

        return asyncio.run(main())

    def statuses(self, key: str) -> list[int]:
        return [httpx2.get(f"{one.url}/api/events/topics/a", headers=bearer(key)).status_code for one in self.gateways]


@pytest.fixture(scope="module", params=["sqlite", "redis", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedLog]:
    folder = tmp_path_factory.mktemp(request.param)
    servers: list[Callable[[], Any]] = []
    if request.param == "redis":
        redis = RedisServer(folder / "redis").start()
        servers.append(redis.kill)
        url = redis.url
    elif request.param == "postgres":
        postgres = PostgresServer().__enter__()
        servers.append(postgres.__exit__)
        url = postgres.empty_database()
    else:
        url = f"sqlite:///{folder / 'shared.db'}"
    gateways = [Gateway(folder, {"TRILANE_LOG": url, "TRILANE_SIGN_IN": "required"}, unit="events") for _ in range(2)]
    try:
        with ThreadPoolExecutor(2) as starting:
            list(starting.map(Gateway.start, gateways))
        yield SharedLog(url, gateways)
    finally:
        for gateway in gateways:
            gateway.stop()
        for stop in servers:
            stop()


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def follow(gateway: Gateway, key: str, lines: list[str]) -> threading.Thread:
    """Reads a stream to its end in a thread; returns once it has begun."""
    has_begun = threading.Event()

    def read() -> None:
        with httpx2.stream("GET", f"{gateway.url}/api/events?topic=a", headers=bearer(key), timeout=20) as response:
            for line in response.iter_lines():
                lines.append(line)
                if line.startswith("id:"):
                    has_begun.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert has_begun.wait(10)
    return thread


def test_a_key_is_made_and_revoked_in_every_process_within_a_second(shared: SharedLog) -> None:
    assert shared.statuses("tl_nobody") == [401, 401]
    key, key_id = shared.run(lambda log: add_key(log, "alice", EVERYTHING))
    other, other_id = shared.run(lambda log: add_key(log, "alice", EVERYTHING))
    made_at = time.monotonic()
    eventually(lambda: shared.statuses(other) == [200, 200], what="the key is known", every_s=0.02)
    assert time.monotonic() - made_at < WITHIN_S
    ends: list[list[str]] = [[], []]
    threads = [follow(gateway, key, lines) for gateway, lines in zip(shared.gateways, ends, strict=True)]
    staying: list[str] = []
    last = follow(shared.gateways[0], other, staying)
    shared.run(lambda log: revoke_key(log, key_id))
    revoked_at = time.monotonic()
    eventually(lambda: shared.statuses(key) == [401, 401], what="the key is refused", every_s=0.02)
    for thread in threads:
        thread.join(5)
    assert time.monotonic() - revoked_at < WITHIN_S
    for lines in ends:
        assert lines[-4:-2] == ["event: bye", 'data: {"code":"key_revoked","retry":false}']
    assert shared.statuses(other) == [200, 200]
    assert "event: bye" not in staying
    assert all(status.last_used_at is not None for status in shared.run(key_statuses))
    shared.run(lambda log: revoke_key(log, other_id))
    last.join(5)
    assert "event: bye" in staying


def ticket(gateway: Gateway, key: str) -> str:
    response = httpx2.post(f"{gateway.url}/api/tickets", json={"route": "/api/events"}, headers=bearer(key))
    return response.json()["ticket"]


def test_a_ticket_is_good_once_of_two_processes_that_are_asked_at_the_same_time(shared: SharedLog) -> None:
    key, _ = shared.run(lambda log: add_key(log, "alice", EVERYTHING))
    eventually(lambda: shared.statuses(key) == [200, 200])
    tickets = [ticket(shared.gateways[n % 2], key) for n in range(TICKETS)]
    together = threading.Barrier(4)

    def redeem(client: httpx2.Client, url: str, value: str) -> int:
        together.wait(20)
        with client.stream("GET", f"{url}/api/events?topic=a&ticket={value}") as response:
            return response.status_code

    with ThreadPoolExecutor(4) as pool, httpx2.Client(timeout=20) as client:
        for value in tickets:
            urls = [gateway.url for gateway in shared.gateways] * 2
            statuses = list(pool.map(redeem, [client] * 4, urls, [value] * 4))
            assert sorted(statuses) == [200, 401, 401, 401]


def test_a_ticket_of_a_key_that_is_revoked_opens_nothing(shared: SharedLog) -> None:
    key, key_id = shared.run(lambda log: add_key(log, "alice", EVERYTHING))
    eventually(lambda: shared.statuses(key) == [200, 200])
    value = ticket(shared.gateways[0], key)
    shared.run(lambda log: revoke_key(log, key_id))
    eventually(lambda: shared.statuses(key) == [401, 401])
    response = httpx2.get(f"{shared.gateways[1].url}/api/events?topic=a&ticket={value}")
    assert (response.status_code, response.json()["code"]) == (401, "key_revoked")
