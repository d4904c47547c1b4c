"""Several workers serve as one: any of them answers for all, and what becomes of one is no matter to the others."""

import asyncio
import http.client
import json
import os
import signal
from collections.abc import Iterator
from itertools import count

import pytest

from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.roll_load import CHATS, RollLoad
from tests.support.sse_client import Frames, chat_body, follow, iter_frames, send
from tests.support.workers import ask, await_workers, connection_to, connection_to_each, owner, workers_of

LONG = "T=2000 I=5000"
SHORT = "T=3 I=0"
numbers = count()


@pytest.fixture(scope="module")
def pair(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    env = {"TRILANE_WORKERS": "2", "TRILANE_DRAIN_WINDOW_S": "0.3"}
    gateway = serving(tmp_path_factory.mktemp("pair"), upstream.url, **env)
    gateway.unit = "all"
    try:
        await_workers(gateway.start(), 2)
        yield gateway
    finally:
        gateway.stop()


def answered(gateway: Gateway) -> None:
    """Has one short question answered, on a connection of its own."""
    _, frames = send(gateway.url, chat_body(f"short-{next(numbers)}", SHORT))
    assert frames.done


def frames_of(connection: http.client.HTTPConnection, frames: Frames) -> Iterator[object]:
    answer = connection.getresponse()
    assert answer.status == 200
    return iter_frames((line.decode().rstrip("\r\n") for line in answer), frames)


def runs(text: str) -> float:
    """Returns how many runs have ended, in a text of figures."""
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("trilane_chat_runs_total{"))


def lines(gateway: Gateway, event: str) -> list[dict[str, object]]:
    """Returns the log lines that say `event`."""
    told = [json.loads(line) for line in gateway.stderr().splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]


def test_a_stream_of_one_worker_is_stopped_and_resumed_through_another(pair: Gateway) -> None:
    with connection_to_each(pair) as (one, other):
        one.request("POST", "/api/chat", json.dumps(chat_body("shared", LONG)))
        seen, replayed = Frames(), Frames()
        stream = frames_of(one, seen)
        while "text-delta" not in seen.types:
            next(stream)
        cursor = seen.cursor
        assert ask(other, "POST", "/api/chat/shared/stop")[0] == 200
        list(stream)
        assert seen.types[-1] == "abort"
        other.request("GET", "/api/chat/shared/stream", headers={"Last-Event-ID": cursor})
        list(frames_of(other, replayed))
    after_cursor = [place for place, _ in seen.events].index(cursor) + 1
    assert replayed.events == seen.events[after_cursor:]


def test_each_worker_tells_the_figures_of_all_and_a_crash_takes_nothing_from_them(pair: Gateway) -> None:
    with connection_to_each(pair) as both:
        before = runs(ask(both[0], "GET", "/metrics")[1])
        for connection in both:
            connection.request("POST", "/api/chat", json.dumps(chat_body(f"counted-{next(numbers)}", SHORT)))
            list(frames_of(connection, Frames()))

        def counted() -> bool:
            return [runs(ask(connection, "GET", "/metrics")[1]) - before for connection in both] == [2, 2]

        eventually(counted, what="both workers count both runs")  # a run is counted just after its stream has ended
        killed = owner(pair, both[0])
        os.kill(killed, signal.SIGKILL)
        [survivor] = workers_of(pair) - {killed}
        assert runs(ask(both[1], "GET", "/metrics")[1]) - before >= 2
        answered(pair)
    [newcomer] = await_workers(pair, 2, {killed}) - {survivor}
    with connection_to(pair, newcomer) as connection:
        assert runs(ask(connection, "GET", "/metrics")[1]) - before == 3
    assert pair.gauge("trilane_gateway_worker_crashes_total") == 1
    [line] = lines(pair, "a worker has ended: another takes its place")
    assert (line["worker"], line["signal"]) == (killed, "SIGKILL")
    assert line["again_in_s"]


def test_a_worker_that_hangs_stops_nobody_else(pair: Gateway) -> None:
    """It takes no connection, and the figures count what it told last."""
    hung, well = sorted(workers_of(pair))
    with connection_to(pair, well) as connection:
        before = runs(ask(connection, "GET", "/metrics")[1])
        os.kill(hung, signal.SIGSTOP)
        try:
            for _ in range(10):
                answered(pair)
            assert runs(ask(connection, "GET", "/metrics")[1]) == before + 10
        finally:
            os.kill(hung, signal.SIGCONT)
    assert workers_of(pair) == {hung, well}


def test_a_worker_that_is_told_to_end_drains_while_another_takes_its_place(pair: Gateway) -> None:
    leaving, staying = sorted(workers_of(pair))
    with connection_to(pair, leaving) as kept:
        kept.request("POST", "/api/chat", json.dumps(chat_body("left", "T=200 I=10000")))
        frames = Frames()
        stream = frames_of(kept, frames)
        next(stream)
        for _ in range(2):  # what stops a service may signal all of its processes, and more than once
            os.kill(leaving, signal.SIGTERM)
        list(stream)
    assert not frames.done
    _, rest = follow(pair.url, "left", [place for place, _ in frames.events if place][-1])
    assert rest.done
    assert frames.types.count("text-delta") + rest.types.count("text-delta") == 200
    assert staying in await_workers(pair, 2, {leaving})
    assert lines(pair, "a worker leaves: another takes its place")[-1]["worker"] == leaving


async def rolled(gateway: Gateway) -> None:
    before = workers_of(gateway)
    gateway.signal(signal.SIGHUP)
    await asyncio.to_thread(eventually, lambda: lines(gateway, "all workers are new"), 60, "the roll", 0.1)
    assert len(workers_of(gateway)) == 2
    assert not workers_of(gateway) & before


def test_a_roll_under_load_fails_no_request_and_loses_no_event(pair: Gateway) -> None:
    load = RollLoad(pair.url, pair.port)
    asyncio.run(load.around(rolled(pair)))
    print(f"\n{load.answers} answers, {load.published} events, {load.moves} streams moved")
    assert load.moves >= 3
    rows = [row for row in pair.usage() if row["chatId"].startswith(CHATS)]
    assert [row["outcome"] for row in rows] == ["finish"] * load.answers


def test_each_line_says_which_process_wrote_it(pair: Gateway) -> None:
    assert lines(pair, "all workers are ready")[0]["pid"] == pair.pid
    assert pair.pid not in {line["pid"] for line in lines(pair, "draining")}
