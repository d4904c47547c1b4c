"""Each agent framework, unmodified, behind a real gateway: `make test-frameworks`, which is no part of `make test`.

A framework that cannot be had here is left out with a sentence; so is what it does not do. LONG_TESTS=1 has asks
answered in 20 chats for each answer and version of the AI SDK.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest

from tests.clients.ai_sdk import AISDK
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.frameworks.asks import VERSIONS_THAT_ASK, answered_by_client, open_sdks
from tests.frameworks.framework import FRAMEWORKS, INSTALL_S, Framework, ServedFramework, ticks
from tests.frameworks.upstream import calling

pytestmark = pytest.mark.timeout(INSTALL_S + 120)
STOP_S = 0.1
TRIES = 5
CALL = {"text": "the thing"}


@pytest.fixture(scope="module")
def model() -> Iterator[UpstreamThread]:
    with UpstreamThread() as thread:
        thread.fake.script("agent-tools", calling("lookup"))
        thread.fake.script("agent-slow", calling("slow"))
        yield thread


@pytest.fixture(scope="module", params=FRAMEWORKS.values(), ids=lambda framework: framework.name)
def served(request: pytest.FixtureRequest, model: UpstreamThread) -> Iterator[ServedFramework]:
    framework: Framework = request.param
    try:
        framework.install()
    except subprocess.CalledProcessError as err:
        pytest.skip(f"{framework.name} cannot be installed here: {err}")
    with framework.served(model.url) as served:
        yield served


@pytest.fixture(scope="module")
def gateway(served: ServedFramework, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("framework")
    entries = [
        f'[[upstream]]\nname = "{case}"\nkind = "{served.framework.kind}"\nbase_url = "{served.url}{path}"\n'
        for case, path in served.framework.paths.items()
    ]
    (folder / "upstreams.toml").write_text("".join(entries))
    made = serving(folder, "", OPENAI_BASE_URL="", TRILANE_UPSTREAMS=str(folder / "upstreams.toml"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def sdks() -> Iterator[dict[str, AISDK]]:
    with open_sdks() as sdks:
        yield sdks


def body_of(case: str, chat: str) -> dict[str, Any]:
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": "Please."}]}
    return {"id": chat, "model": case, "message": message}


def asked(gateway: Gateway, case: str, chat: str) -> str:
    """Returns the type of the chunk with which the answer ends."""
    answer = httpx2.post(f"{gateway.url}/api/chat", json=body_of(case, chat), timeout=60)
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return lines[-1]["type"] if lines else answer.json()["code"]


def parts_of(gateway: Gateway, chat: str) -> list[dict[str, Any]]:
    """Returns the parts of the newest answer, without those that each framework shows in its own way."""
    parts = httpx2.get(f"{gateway.url}/api/chat/{chat}").json()["messages"][-1]["parts"]
    return [part for part in parts if not part["type"].startswith(("data-", "step-start", "tool-interrupt"))]


def brief(gateway: Gateway, chat: str) -> list[Any]:
    parts = parts_of(gateway, chat)
    return [part["text"] if part["type"] == "text" else [part["input"], part["state"]] for part in parts]


WHOLE = ["w0 w1 w2", [CALL, "output-available"], "w0 w1 w2 w3 w4 w5 w6 w7"]


def connections_to(gateway: Gateway, url: str) -> int:
    port = int(url.rpartition(":")[2])
    open_ones = psutil.Process(gateway.pid).net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == port and one.status == "ESTABLISHED" for one in open_ones)


def until_called(lines: Iterator[str]) -> str:
    """Reads a stream until a call has begun, whose end some tell with its result; returns the newest cursor."""
    cursor = ""
    for line in lines:
        cursor = line[4:] if line.startswith("id: ") else cursor
        if "tool-input-delta" in line:
            break
    return cursor


def test_two_steps_with_a_tool_and_another_question(gateway: Gateway) -> None:
    chat = uuid4().hex
    assert asked(gateway, "tool", chat) == "finish"
    assert brief(gateway, chat) == WHOLE
    assert asked(gateway, "tool", chat) == "finish"
    assert brief(gateway, chat) == WHOLE


def test_a_call_that_somebody_allows(gateway: Gateway, served: ServedFramework) -> None:
    if "ask" not in served.framework.paths:
        pytest.skip(f"{served.framework.name}: {served.framework.missing['ask']}")
    chat = uuid4().hex
    assert asked(gateway, "ask", chat) == "finish"
    [pending] = httpx2.get(f"{gateway.url}/api/chat/{chat}").json()["pending"]
    httpx2.post(f"{gateway.url}/api/chat/{chat}/approvals/{pending['approvalId']}", json={"approved": True})
    eventually(lambda: brief(gateway, chat) == WHOLE)


@pytest.mark.parametrize("is_approved", [True, False], ids=["approved", "denied"])
@pytest.mark.parametrize("version", VERSIONS_THAT_ASK)
def test_an_ask_that_a_client_of_the_ai_sdk_answers(
    version: str, is_approved: bool, gateway: Gateway, served: ServedFramework, sdks: dict[str, AISDK]
) -> None:
    if "ask" not in served.framework.paths:
        pytest.skip(f"{served.framework.name}: {served.framework.missing['ask']}")
    answered_by_client(sdks[version], gateway, is_approved=is_approved)


def _stopped(gateway: Gateway, served: ServedFramework) -> float:
    """Stops an answer while a tool runs; returns the seconds after which the agent's connection was closed."""
    chat, ticks_before = uuid4().hex, ticks(served.url)
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body_of("slow", chat), timeout=60) as answer:
        lines = answer.iter_lines()
        until_called(lines)
        eventually(lambda: ticks(served.url) > ticks_before)
        before = connections_to(gateway, served.url)
        httpx2.post(f"{gateway.url}/api/chat/{chat}/stop", json={})
        stopped_at = time.monotonic()
        looked_at = time.monotonic()  # a look at a process's connections takes long itself on a busy machine
        while connections_to(gateway, served.url) >= before and looked_at < stopped_at + 20:
            looked_at = time.monotonic()
        took_s = looked_at - stopped_at
        rest = "".join(lines)
        assert '"abort"' in rest, rest
    return took_s


def test_a_stop_from_elsewhere(gateway: Gateway, served: ServedFramework) -> None:
    took_s = [_stopped(gateway, served) for _ in range(TRIES)]
    assert min(took_s) <= STOP_S, took_s
    time.sleep(1)
    now = ticks(served.url)
    time.sleep(1)
    assert (ticks(served.url) > now) == served.framework.keeps_running


def test_a_reader_that_is_cut_goes_on_where_it_was(gateway: Gateway) -> None:
    chat = uuid4().hex
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body_of("tool", chat), timeout=60) as answer:
        cursor = until_called(answer.iter_lines())
    rest = httpx2.get(f"{gateway.url}/api/chat/{chat}/stream", headers={"last-event-id": cursor}, timeout=60).text
    assert "tool-output-available" in rest
    assert rest.endswith("data: [DONE]\n\n")
    assert brief(gateway, chat) == WHOLE


def test_a_model_that_fails(gateway: Gateway) -> None:
    assert asked(gateway, "error", uuid4().hex) == "error"


def test_an_agent_that_is_killed(gateway: Gateway, served: ServedFramework) -> None:
    """This test is the last one of a framework: its agent is gone."""
    with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body_of("slow", uuid4().hex), timeout=60) as answer:
        lines = answer.iter_lines()
        until_called(lines)
        served.process.kill()
        rest = "".join(lines)
    assert '"code":"upstream_cut"' in rest
    assert '"type":"error"' in rest
    assert '"type":"finish"' not in rest
