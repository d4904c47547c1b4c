"""A stream on which nothing happens for ten minutes survives each proxy; `make deploy-test` waits so long."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Gateway, UpstreamThread, serving
from tests.deploy.crowd import Follower, Ledger
from tests.deploy.doors import COMMANDS, NAME, door, make_site
from tests.deploy.load import seen
from tests.deploy.wire import Road, asked

UNITS = ("chat", "events", "audio")

LONG = bool(os.environ.get("LONG_TESTS"))
IDLE_S, PING_S = (600.0, 15.0) if LONG else (4.0, 1.0)

pytestmark = pytest.mark.timeout(IDLE_S + 120)


def addresses_of(gateway: Gateway) -> dict[str, str]:
    """Returns one gateway as all processes that the files of `deploy/proxies` name."""
    return {
        f"{unit}-{number}:{8000 + at}": f"127.0.0.1:{gateway.port}"
        for at, unit in enumerate(UNITS, 1)
        for number in (1, 2)
    }


async def stay_idle(gateway: Gateway, roads: dict[str, Road]) -> None:
    ledger = Ledger()
    followers = {name: Follower(road, "idle", ledger) for name, road in roads.items()}
    tasks = [asyncio.ensure_future(follower.run()) for follower in followers.values()]
    await seen(lambda: all(follower.hellos for follower in followers.values()), "all are connected")
    await asyncio.sleep(IDLE_S)
    print("\npings:", {name: follower.pings for name, follower in followers.items()})
    assert not ledger.departures
    for name, follower in followers.items():
        assert abs(follower.pings - IDLE_S / PING_S) <= 2, name
    async with asked(Road(gateway.port), "POST", "/api/events", {"topic": "idle", "data": {"n": 7}}) as answer:
        assert answer.status == 200
    await seen(lambda: all(follower.numbers == [7] for follower in followers.values()), "all are still live")
    assert not ledger.departures
    for task in tasks:
        task.cancel()


def test_a_stream_that_is_idle_survives_each_proxy(upstream: UpstreamThread, tmp_path: Path) -> None:
    gateway = serving(tmp_path / "gateway", upstream.url, TRILANE_MAX_AGE_S="3600", TRILANE_PING_S=str(PING_S))
    gateway.unit = "all"
    site = make_site(tmp_path)
    with ExitStack() as stack:
        stack.callback(gateway.stop)
        gateway.start()
        roads: dict[str, Road] = {}
        for name in COMMANDS:
            (folder := tmp_path / name).mkdir()
            opened = stack.enter_context(door(name, folder, site, addresses_of(gateway)))
            roads[name] = Road(opened.port, NAME, site.context)
        asyncio.run(stay_idle(gateway, roads))
