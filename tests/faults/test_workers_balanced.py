"""Workers behind a balancer that spreads their requests over three processes of one log, which are killed meanwhile."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import Gateway, eventually, serving
from tests.contract.conftest import engine_of, redis_url  # noqa: F401  # fixtures
from tests.faults.test_agents_killed import TAKEN_OVER_S, brief_of, notes, upstreams
from tests.faults.test_workers_elsewhere import SECRET, said, token, worker_at
from tests.support.balancer import Balancer, balancing

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture(params=["sqlite", "redis"])
def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Gateway]]:
    (tmp_path / "notes").touch()
    url = engine_of(request, tmp_path).url
    env = {"TRILANE_UPSTREAMS": upstreams(tmp_path, "worker"), "TRILANE_JWT_SECRET": SECRET, "TRILANE_LOG": url}
    made = [serving(tmp_path, "", OPENAI_BASE_URL="", **env) for _ in range(3)]
    try:
        with ThreadPoolExecutor() as pool:
            yield list(pool.map(Gateway.start, made))
    finally:
        for gateway in made:
            gateway.stop()


@pytest.fixture
def balancer(gateways: list[Gateway]) -> Iterator[Balancer]:
    with balancing(*[gateway.port for gateway in gateways]) as made:
        yield made


@pytest.fixture
def started(gateways: list[Gateway], balancer: Balancer) -> Iterator[Start]:
    """Yields a function that starts a worker of an agent, which knows the balancer's address alone."""
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> "subprocess.Popen[bytes]":
        robot = token("robot", worker=[name])
        running.append(worker_at(balancer.url, gateways[0].folder, name, robot))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def parts(gateway: Gateway, chat: str) -> list[str]:
    return brief_of(httpx2.get(f"{gateway.url}/api/chat/{chat}", headers=token("alice"), timeout=30))


def test_each_request_of_a_worker_comes_to_another_process_and_one_of_them_is_killed(
    gateways: list[Gateway], balancer: Balancer, started: Start
) -> None:
    asked, killed, third = gateways
    started("counts")
    with ThreadPoolExecutor() as pool:
        first = list(pool.map(said, gateways, ["counts"] * 3, ["c0", "c1", "c2"]))
        asking = [pool.submit(said, asked, "counts", f"c{number}") for number in (3, 4, 5)]
        eventually(lambda: len(notes(asked, "look")) >= 4, 60, "they are being answered", every_s=0.001)
        killed.signal(signal.SIGKILL)
        answers = [*first, *(answer.result() for answer in asking)]
    assert ['"type":"finish"' in answer.text for answer in answers] == [True] * 6
    for number in range(6):
        assert parts(third, f"c{number}") == ["look", "".join(f"word{n} " for n in range(60))]
    assert len(notes(asked, "look")) == 6
    assert {port for kind, port in balancer.passed if kind == "chunks"} == set(balancer.ports)


@pytest.mark.parametrize("gateways", ["sqlite"], indirect=True)
def test_the_process_of_a_run_is_killed_while_a_worker_that_came_to_others_pays(
    gateways: list[Gateway], started: Start
) -> None:
    """The worker lives on, enters the run again for the process that has taken it over, and pays with the same key."""
    owner, _, third = gateways
    started("pays_again")
    with ThreadPoolExecutor() as pool:
        saying: Future[Any] = pool.submit(said, owner, "pays_again", "c1")
        eventually(lambda: len(notes(owner, "pay")) == 1, 60, "it has paid")
        owner.signal(signal.SIGKILL)
        eventually(lambda: len(notes(owner, "pay")) == 2, TAKEN_OVER_S, "it was entered again")
        (owner.folder / "go").touch()
        eventually(lambda: is_over(third, "c1"), TAKEN_OVER_S, "the run is over", every_s=0.2)
        saying.exception()
    assert parts(third, "c1") == ["One moment. ", "look", "pay", "paid"]
    keys = [key for _, key, _ in notes(owner, "pay")]
    assert (len(set(keys)), len(notes(owner, "look"))) == (1, 1)


def is_over(gateway: Gateway, chat: str) -> bool:
    answer = httpx2.get(f"{gateway.url}/api/chat/{chat}", headers=token("alice"), timeout=30)
    return answer.json().get("activeRun") is None
