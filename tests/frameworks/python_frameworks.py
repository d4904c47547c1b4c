"""A framework within an agent of the user's own Python, in its own environment: part of `make test-frameworks`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest

from tests.clients.ai_sdk import AISDK
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.frameworks.asks import VERSIONS_THAT_ASK, answered_by_client, open_sdks
from tests.frameworks.framework import INSTALL_S, Framework
from tests.frameworks.upstream import calling

pytestmark = pytest.mark.timeout(INSTALL_S + 120)
HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "deploy" / "clients" / "agent"
OPENAI_AGENTS = Framework(
    name="openai-agents",
    packages=("openai-agents",),
    kind="python",
    paths={"tool": "tools", "slow": "slow", "ask": "asking", "error": "failing"},
)
CALL = {"text": "the thing"}
WHOLE = ["w0 w1 w2", ["lookup", CALL, "output-available"], "w0 w1 w2 w3 w4 w5 w6 w7"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    framework = OPENAI_AGENTS
    try:
        framework.install()
    except subprocess.CalledProcessError as err:
        pytest.skip(f"{framework.name} cannot be installed here: {err}")
    folder = tmp_path_factory.mktemp("python")
    (folder / "ticks").touch()
    entry = (
        '[[upstream]]\nname = "{}"\nkind = "python"\nfunction = "openai_agents_agent:{}"\nagent_python = "{}"\n'
        'env = ["MODEL_URL", "TICKS"]\n'
    )
    python = framework.folder / "bin" / "python"
    tables = [entry.format(case, function, python) for case, function in framework.paths.items()]
    (folder / "upstreams.toml").write_text("\n".join(tables))
    with UpstreamThread() as model:
        model.fake.script("agent-tools", calling("lookup"))
        model.fake.script("agent-slow", calling("slow"))
        env = {
            "TRILANE_UPSTREAMS": str(folder / "upstreams.toml"),
            "MODEL_URL": model.url,
            "TICKS": str(folder / "ticks"),
            "PYTHONPATH": f"{PACKAGE}:{HERE / 'agents'}",
        }
        made = serving(folder, "", OPENAI_BASE_URL="", **env)
        try:
            yield made.start()
        finally:
            made.stop()


@pytest.fixture(scope="module")
def sdks() -> Iterator[dict[str, AISDK]]:
    with open_sdks() as sdks:
        yield sdks


def asked(gateway: Gateway, case: str, chat: str) -> str:
    """Returns the type of the chunk with which the answer ends, or the code of the refusal."""
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": "Please."}]}
    body = {"id": chat, "model": case, "message": message}
    answer = httpx2.post(f"{gateway.url}/api/chat", json=body, timeout=120)
    lines = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return lines[-1]["type"] if lines else answer.json()["code"]


def brief(gateway: Gateway, chat: str) -> list[Any]:
    parts = httpx2.get(f"{gateway.url}/api/chat/{chat}").json()["messages"][-1]["parts"]
    shown = [part for part in parts if part["type"] in ("text", "dynamic-tool") and part.get("toolName") != "allow"]
    return [
        part["text"] if part["type"] == "text" else [part["toolName"], part["input"], part["state"]] for part in shown
    ]


def ticks(gateway: Gateway) -> int:
    return len((gateway.folder / "ticks").read_bytes())


def test_two_steps_with_a_tool_and_another_question(gateway: Gateway) -> None:
    chat = uuid4().hex
    for _ in range(2):
        assert asked(gateway, "tool", chat) == "finish"
        assert brief(gateway, chat) == WHOLE


def test_a_call_that_somebody_allows(gateway: Gateway) -> None:
    chat = uuid4().hex
    assert asked(gateway, "ask", chat) == "finish"
    [pending] = httpx2.get(f"{gateway.url}/api/chat/{chat}").json()["pending"]
    httpx2.post(f"{gateway.url}/api/chat/{chat}/approvals/{pending['approvalId']}", json={"approved": True})
    eventually(lambda: brief(gateway, chat) == WHOLE, 60)


@pytest.mark.parametrize("is_approved", [True, False], ids=["approved", "denied"])
@pytest.mark.parametrize("version", VERSIONS_THAT_ASK)
def test_an_ask_that_a_client_of_the_ai_sdk_answers(
    version: str, is_approved: bool, gateway: Gateway, sdks: dict[str, AISDK]
) -> None:
    answered_by_client(sdks[version], gateway, is_approved=is_approved)


def test_a_stop_and_a_kill_end_its_tool(gateway: Gateway) -> None:
    for is_killed in (False, True):
        chat, before = uuid4().hex, ticks(gateway)
        message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": "Please."}]}
        body = {"id": chat, "model": "slow", "message": message}
        with httpx2.stream("POST", f"{gateway.url}/api/chat", json=body, timeout=120) as answer:
            eventually(lambda before=before: ticks(gateway) > before, 60)
            if is_killed:
                children = psutil.Process(gateway.pid).children(recursive=True)
                [process] = [child for child in children if "slow=openai_agents_agent:slow" in child.cmdline()[3:4]]
                os.kill(process.pid, signal.SIGKILL)
                eventually(lambda: psutil.Process(gateway.pid).is_running(), 5)
            httpx2.post(f"{gateway.url}/api/chat/{chat}/stop", json={})
            assert '"abort"' in "".join(answer.iter_lines())
        time.sleep(0.5)
        now = ticks(gateway)
        time.sleep(1)
        assert ticks(gateway) == now


def test_a_model_that_fails(gateway: Gateway) -> None:
    assert asked(gateway, "error", uuid4().hex) in ("error", "agent_failed")
