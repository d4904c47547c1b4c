"""Two gateways on one PostgreSQL: when it is killed and comes back, runs and streams go on as if nothing had been."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import httpx2
import pytest

from loadtests.upstream import words
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.contract.conftest import postgres_server
from tests.support.postgres_server import PostgresServer
from tests.support.problems import check_problem
from tests.support.sse_client import Frames, chat_body, follow, iter_frames

__all__ = ["postgres_server"]
TOKENS = 150


@pytest.fixture
def gateways(
    upstream: UpstreamThread, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    url = postgres_server.empty_database()
    made = [serving(tmp_path_factory.mktemp(name), upstream.url, TRILANE_LOG=url) for name in ("one", "other")]
    try:
        yield [gateway.start() for gateway in made]
    finally:
        for gateway in made:
            gateway.stop()


def ask(gateway: Gateway, chat_id: str, begun: Event) -> Frames:
    frames = Frames()
    body = chat_body(chat_id, f"T={TOKENS} I=20000")
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, timeout=60) as response:
        for _ in iter_frames(response.iter_lines(), frames):
            if len(frames.events) > 10:
                begun.set()
    return frames


def test_a_run_and_its_readers_outlive_the_death_of_the_database(
    gateways: list[Gateway], postgres_server: PostgresServer
) -> None:
    here, there = gateways
    begun = Event()
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(ask, here, "c", begun)
        assert begun.wait(20)
        followed = pool.submit(follow, there.url, "c", timeout_s=60)
        eventually(lambda: there.gauge("trilane_gateway_open_streams") == 1, what="it is followed from elsewhere")
        postgres_server.kill()
        for gateway in gateways:
            eventually(lambda at=gateway: httpx2.get(f"{at.url}/readyz").status_code == 503, what="it is not ready")
        answer = httpx2.get(f"{here.url}/readyz")
        check_problem(answer, 503, "log_unavailable", "the log lines of this process say why")
        assert str(postgres_server.port) not in answer.text  # anyone may ask
        assert str(postgres_server.port) in here.stderr()
        postgres_server.start()
        for gateway in gateways:
            eventually(lambda at=gateway: httpx2.get(f"{at.url}/readyz").status_code == 200, what="it is ready again")
        own, (_, others) = asked.result(60), followed.result(60)
    assert own.done
    assert others.done
    assert [chunk["type"] for chunk in own.terminals] == [chunk["type"] for chunk in others.terminals] == ["finish"]
    assert own.text == others.text == words(TOKENS)
    _, again = follow(there.url, "c", cursor=own.events[3][0])
    assert [data for _, data in again.events] == own.chunks[4:]
