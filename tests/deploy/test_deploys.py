"""A deploy at noon: every process is replaced, one by one, under load and behind real doors, and nobody notices.

As an operator does it who has two processes of each unit at fixed addresses: SIGTERM, wait for the end of the drain,
start the new release on the same port, wait until it is ready; then the next. `make deploy-test` is the same with more
people, with voices, longer outages, and over all doors and engines; it prints a table.
"""

import asyncio
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import Gateway, UpstreamThread
from tests.deploy.doors import NAME, Door, door, make_site
from tests.deploy.estate import Estate, estate_on, leave
from tests.deploy.figures import Row, evenness, table
from tests.deploy.load import Load
from tests.deploy.wire import Road, asked
from tests.support.namespace import apart

LONG = bool(os.environ.get("LONG_TESTS"))
CASES = list(itertools.product(("redis", "postgres"), ("Caddy", "nginx")))


def on(*cases: tuple[str, str]) -> pytest.MarkDecorator:
    """Runs a test at these cases of engine and door, and at all of them in `make deploy-test`."""
    return pytest.mark.parametrize("place", CASES if LONG else cases, ids=" and ".join, indirect=True, scope="module")


WINDOW_S = 10.0 if LONG else 2.0
ASKERS, FOLLOWERS = (200, 200) if LONG else (12, 20)
TOKENS, INTERVAL_S = (120, 0.1) if LONG else (16, 0.25)
PUBLISH_S = 0.1 if LONG else 0.2
"""Pause between events: all followers are one process, which must keep up with what it measures."""
SPEAKERS = 4 if LONG else 0
NOTICED_S = 2.5
"""Seconds after which the doors know that a process is back: Caddy asks every 2 s."""

pytestmark = [pytest.mark.paced, pytest.mark.timeout(900 if LONG else 180)]
ROWS: list[Row] = []


@dataclass
class Place:
    """An estate, and the road to it through a door."""

    engine: str
    name: str
    estate: Estate
    door: Door
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def road(self) -> Road:
        return Road(self.door.port, NAME, self.door.site.context)


@pytest.fixture(scope="module", autouse=True)
def own_network() -> Iterator[None]:
    """Keeps all processes, the upstream's thread too, away from the browsers of other tests: see `apart`."""
    with apart():
        yield


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    engine, proxy = request.param
    folder = tmp_path_factory.mktemp(engine)
    with estate_on(engine, folder, upstream) as estate:
        estate.start(with_audio=SPEAKERS > 0, TRILANE_DRAIN_WINDOW_S=str(WINDOW_S), TRILANE_PING_S="1")
        site = make_site(tmp_path_factory.mktemp("site"))
        with door(proxy, tmp_path_factory.mktemp("door"), site, estate.addresses) as opened:
            yield Place(engine, f"{proxy}, {engine}", estate, opened)


@pytest.fixture(scope="module", autouse=True)
def printed() -> Iterator[None]:
    yield
    print("\n" + table(ROWS))


async def replace_all(place: Place, load: Load) -> list[float]:
    """Replaces every process; returns where between the first and the last follower the others left each."""
    places: list[float] = []
    for gateway in place.estate.processes:
        gone = len(load.ledger.departures)
        assert await asyncio.to_thread(leave, gateway) == 0, gateway.stderr()
        if gateway.unit == "events":
            first, *others, last = sorted(load.ledger.departures[gone:])
            assert WINDOW_S / 2 < last - first < WINDOW_S + 1
            places += [(left - first) / (last - first) for left in others]
        await asyncio.to_thread(gateway.start)
        await asyncio.sleep(NOTICED_S)
    return places


@on(("redis", "Caddy"))
def test_nobody_notices_a_deploy(place: Place) -> None:
    async def deploy() -> tuple[Load, list[float]]:
        load = Load(
            place.road,
            f"deploy-{next(place.numbers)}",
            askers=ASKERS,
            followers=FOLLOWERS,
            publish_s=PUBLISH_S,
        )
        await load.begin(TOKENS, INTERVAL_S)
        load.speak(SPEAKERS, times=6)
        places = await replace_all(place, load)
        await load.end()
        return load, places

    began = time.monotonic()
    load, places = asyncio.run(deploy())
    ledger = load.ledger
    row = Row(
        place.name,
        len(load.askers),
        len(load.failed(TOKENS)),
        load.lost(),
        load.doubled(),
        sum(voice.lost_finals() for voice in load.voices),
        len(ledger.faults) + sum(len(voice.refusals) for voice in load.voices),
        ledger.reconnects,
        evenness(places),
        time.monotonic() - began,
    )
    ROWS.append(row)
    assert not load.failed(TOKENS)
    assert (row.events_lost, row.doubled, row.finals_lost) == (0, 0, 0)
    assert row.faults == 0, ledger.faults
    assert ledger.broken == 0
    assert row.evenness > 0.01, sorted(places)
    assert len(places) >= FOLLOWERS - 4


# Outages of the log


OUTAGES_S = (
    {engine: {"killed": 20.0, "stopped": 10.0, "cut off": 20.0} for engine in ("redis", "postgres")}
    if LONG
    else {"redis": {"stopped": 4.0, "cut off": 4.0}, "postgres": {"killed": 4.0}}
)
TOLD_S = 3.0 if LONG else 8.0
"""Seconds within which a process says that it is not ready; it takes 2, on a machine that does nothing else."""


def outage(estate: Estate, kind: str) -> tuple[Callable[[], object], Callable[[], object]]:
    """Returns how an outage of the log begins and how it ends."""
    return {
        "killed": (estate.server.kill, estate.server.start),
        "stopped": (estate.server.pause, estate.server.resume),
        "cut off": (estate.network.hold, estate.network.release),
    }[kind]


async def readiness(gateway: Gateway, status: int) -> str:
    """Waits until a process answers with this status; returns what it says of it."""
    while True:
        async with asked(Road(gateway.port), "GET", "/readyz") as answer:
            body = json.loads(await answer.body())
        if answer.status == status:
            return body.get("detail", "")
        await asyncio.sleep(0.05)


async def all_say(estate: Estate, status: int, within_s: float) -> list[str]:
    """Waits until every process answers with this status; returns what they say of it."""
    async with asyncio.timeout(within_s):
        return await asyncio.gather(*[readiness(gateway, status) for gateway in [*estate.chats, *estate.events]])


async def suffer(place: Place, load: Load, kind: str, seconds: float) -> None:
    begin, end = outage(place.estate, kind)
    began = time.monotonic()
    await asyncio.to_thread(begin)
    try:
        details = await all_say(place.estate, 503, TOLD_S)
        print(f"{place.name}, {kind}: not ready after {time.monotonic() - began:.1f} s: {details[0]}")
        assert all(details)
        streams = [*load.followers, *load.askers]
        pings = [stream.pings for stream in streams]
        await asyncio.sleep(max(2.5, seconds - time.monotonic() + began))
        assert all(stream.pings > before for stream, before in zip(streams, pings, strict=True)), kind
    finally:
        await asyncio.to_thread(end)
    await all_say(place.estate, 200, 30.0)
    print(f"{place.name}, {kind}: ready again {time.monotonic() - began:.1f} s after it began")
    await asyncio.sleep(1)


@on(("redis", "Caddy"), ("postgres", "nginx"))
def test_an_outage_ends_nothing_and_loses_nothing(place: Place) -> None:
    """One answer and one stream each live through all of them."""
    outages = OUTAGES_S[place.engine]
    tokens = round(10 * (sum(outages.values()) + 10))

    async def endure() -> Load:
        name = f"outage-{next(place.numbers)}"
        load = Load(place.road, name, askers=6, followers=6, publish_s=0.1)
        await load.begin_once(tokens, 0.1, [place.road])
        for kind, seconds in outages.items():
            await suffer(place, load, kind, seconds)
        await load.end()
        return load

    load = asyncio.run(endure())
    assert not load.failed(tokens)
    assert {asker.connections for asker in load.askers} == {1}
    assert not load.ledger.departures, "a follower lost its stream"
    assert (load.lost(), load.doubled()) == (0, 0)
    print(f"{place.name}: the longest publish took {load.publisher.longest_s:.1f} s; {load.ledger.statuses}")


if LONG:

    @on()
    def test_past_the_bound_an_answer_fails_once_and_no_stream_ends(place: Place) -> None:
        async def endure() -> Load:
            load = Load(place.road, f"bound-{next(place.numbers)}", askers=6, followers=6, publish_s=0.1)
            await load.begin_once(800, 0.1, [place.road])
            await suffer(place, load, "killed", 45.0)
            await load.end()
            return load

        load = asyncio.run(endure())
        assert [asker.ends for asker in load.askers] == [["error"]] * 6, load.failed(800)
        assert {asker.code for asker in load.askers} == {"log_unavailable"}
        assert (load.lost(), load.doubled()) == (0, 0)
        assert not load.ledger.departures, "a follower lost its stream"
        assert load.publisher.longest_s < 35.0

    @on()
    def test_kill_9_ends_only_the_runs_of_that_process(place: Place) -> None:
        async def kill() -> Load:
            killed, other = place.estate.chats
            load = Load(place.road, f"kill-{next(place.numbers)}", askers=ASKERS, followers=FOLLOWERS, publish_s=0.1)
            await load.begin_once(400, 0.1, [Road(killed.port), Road(other.port)])
            killed.signal(signal.SIGKILL)
            await asyncio.to_thread(killed.wait)
            await asyncio.to_thread(killed.start)
            await load.end()
            return load

        load = asyncio.run(kill())
        endings = [(asker.ends, asker.code) for asker in load.askers]
        assert endings[0::2] == [(["error"], "interrupted")] * (ASKERS // 2)
        assert endings[1::2] == [(["finish"], "")] * (ASKERS // 2)
        assert (load.lost(), load.doubled()) == (0, 0)
