"""Workers elsewhere: they come by HTTP with a token of their own, and one that dies is replaced by another."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from gateway.access.auth import mint
from tests.conftest import Gateway, eventually, serving
from tests.faults.test_agents_killed import PACKAGE, STOP_S, brief_of, notes, stops, upstreams

SECRET = "s" * 32
LEASE_OVER_S = 60.0
Workers = list[subprocess.Popen[bytes]]


def token(sub: str, **grants: object) -> dict[str, str]:
    return {"authorization": f"Bearer {mint(SECRET, sub, time.time() + 3600, grants)}"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "notes").touch()
    file = upstreams(folder, "worker")
    made = serving(folder, "", OPENAI_BASE_URL="", TRILANE_UPSTREAMS=file, TRILANE_JWT_SECRET=SECRET)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def workers() -> Iterator[Workers]:
    started: Workers = []
    yield started
    for worker in started:
        worker.kill()
        worker.wait()


def worker(gateway: Gateway, name: str, bearer: dict[str, str]) -> "subprocess.Popen[bytes]":
    return worker_at(gateway.url, gateway.folder, name, bearer)


def worker_at(url: str, folder: Path, name: str, bearer: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Starts a worker of an agent, which finds the gateway at `url`, and leaves its notes in `folder`."""
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{PACKAGE}:{Path(__file__).parent}"}
    env = {**clean, "NOTES": str(folder / "notes"), "TRILANE_TOKEN": bearer["authorization"].split()[1]}
    command = [sys.executable, "-S", "-m", "trilane_agent", f"{name}=worker_agents:{name}", "--url", url]
    return subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.DEVNULL)


def said(gateway: Gateway, model: str, chat: str) -> httpx2.Response:
    message = {"id": f"{chat}-u", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}
    body = {"id": chat, "model": model, "message": message}
    return httpx2.post(f"{gateway.url}/api/chat", json=body, headers=token("alice"), timeout=120)


def brief(gateway: Gateway, chat: str) -> list[str]:
    return brief_of(httpx2.get(f"{gateway.url}/api/chat/{chat}", headers=token("alice"), timeout=30))


def test_a_worker_answers_with_a_token_that_names_its_agent(gateway: Gateway, workers: Workers) -> None:
    workers.append(worker(gateway, "tells", token("robot", worker=["tells"], chat=False)))
    assert said(gateway, "tells", "c1").status_code == 200
    [text] = brief(gateway, "c1")
    assert text.startswith("alice: Hi; imported []")


@pytest.mark.parametrize(
    ("grants", "name", "status"),
    [({}, "tells", 403), ({"worker": ["pays_once"]}, "tells", 403), ({"worker": ["*"]}, "nobody", 404)],
)
def test_others_claim_nothing(gateway: Gateway, grants: dict[str, object], name: str, status: int) -> None:
    answer = httpx2.post(f"{gateway.url}/api/agents/{name}/claim", headers=token("mallory", **grants), timeout=60)
    assert answer.status_code == status


def test_a_lease_is_asked_for_beside_the_grant(gateway: Gateway) -> None:
    robot = token("robot", worker=["*"])
    with ThreadPoolExecutor() as pool:
        saying = pool.submit(said, gateway, "hangs", "c2")
        job = httpx2.post(f"{gateway.url}/api/agents/hangs/claim", headers=robot, timeout=60).json()
        url = f"{gateway.url}/api/runs/{job['runId']}/chunks"
        end = {"lease": job["lease"], "expect": 1, "chunks": [{"type": "end"}]}
        wrong = httpx2.post(url, json=end | {"lease": "guess"}, headers=robot)
        assert (wrong.status_code, wrong.json()["code"]) == (409, "fenced")
        other = httpx2.post(url, json=end, headers=token("mallory", worker=["tells"]))
        assert other.status_code == 403
        assert httpx2.post(url, json=end, headers=robot).json() == {"expect": 2}
        assert saying.result().status_code == 200
        assert httpx2.post(url, json=end, headers=robot).status_code == 409


def test_a_stop_reaches_the_worker_at_once(gateway: Gateway, workers: Workers) -> None:
    workers.append(worker(gateway, "hangs", token("robot", worker=["hangs"])))
    took_s = stops(gateway, token("alice"))
    assert min(took_s) <= STOP_S, took_s


def test_a_worker_that_is_killed_is_replaced_and_pays_with_the_same_key(gateway: Gateway, workers: Workers) -> None:
    robot = token("robot", worker=["pays_again"])
    workers.append(worker(gateway, "pays_again", robot))
    with ThreadPoolExecutor() as pool:
        saying = pool.submit(said, gateway, "pays_again", "c3")
        eventually(lambda: len(notes(gateway, "pay")) == 1, 60, "it has paid")
        workers.append(worker(gateway, "pays_again", robot))
        workers[0].send_signal(signal.SIGKILL)
        (gateway.folder / "go").touch()
        assert '"type":"finish"' in saying.result(LEASE_OVER_S).text
    assert brief(gateway, "c3") == ["One moment. ", "look", "pay", "paid"]
    keys = [key for _, key, _ in notes(gateway, "pay")]
    assert (len(keys), len(set(keys)), len(notes(gateway, "look"))) == (2, 1, 1)
