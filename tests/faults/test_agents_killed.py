"""Python agents in processes of their own: kill -9 of the agent's process, of the gateway, of both; effects counted."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import psutil
import pytest

from tests.conftest import Gateway, eventually, serving

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "deploy" / "clients" / "agent"
AGENTS = ("pays_again", "pays_once", "tells", "counts", "heeds", "crashes", "hangs")
STOPS = 5
STOP_S = 0.1
TAKEN_OVER_S = 90.0
"""Seconds within which another process has gone on with a run; it looks after 15 s of silence."""


def upstreams(folder: Path, kind: str = "python") -> str:
    """Writes the file of upstreams; the agents have an interpreter without the gateway's packages."""
    function = 'function = "worker_agents:{}"\nagent_python = "{}"\nenv = ["NOTES"]\n' if kind == "python" else ""
    bare = folder / "bare"
    bare.mkdir(exist_ok=True)
    interpreter = bare / "python"
    if not interpreter.exists():  # the same one, without its site-packages
        interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
        interpreter.chmod(0o755)
    tables = [
        f'[[upstream]]\nname = "{name}"\nkind = "{kind}"\nfirst_token_s = 60\n' + function.format(name, interpreter)
        for name in AGENTS
    ]
    (folder / "upstreams.toml").write_text("\n".join(tables))
    return str(folder / "upstreams.toml")


def made(folder: Path, **env: str) -> Gateway:
    here = f"{PACKAGE}:{Path(__file__).parent}"
    more = {"TRILANE_UPSTREAMS": upstreams(folder), "NOTES": str(folder / "notes"), "PYTHONPATH": here}
    (folder / "notes").touch()
    return serving(folder, "", OPENAI_BASE_URL="", **more, **env)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = made(tmp_path_factory.mktemp("agents"))
    try:
        yield gateway.start()
    finally:
        gateway.stop()


def said(
    gateway: Gateway, model: str, chat: str, text: str = "Hi", headers: dict[str, str] | None = None
) -> httpx2.Response:
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": text}]}
    body = {"id": chat, "model": model, "message": message}
    return httpx2.post(f"{gateway.url}/api/chat", json=body, headers=headers, timeout=120)


def chat_of(gateway: Gateway, chat: str) -> dict[str, Any]:
    answer = httpx2.get(f"{gateway.url}/api/chat/{chat}", timeout=30)
    assert answer.status_code == 200, f"{answer.text} {gateway.stderr()[-2000:]}"
    return answer.json()


def brief(gateway: Gateway, chat: str) -> list[str]:
    return brief_of(httpx2.get(f"{gateway.url}/api/chat/{chat}", timeout=30))


def brief_of(answer: httpx2.Response) -> list[str]:
    """Returns the last message of a chat: its texts, and its calls by name."""
    parts = answer.json()["messages"][-1]["parts"]
    return [part.get("text") or part["toolName"] for part in parts if part["type"] in ("text", "dynamic-tool")]


def notes(gateway: Gateway, word: str) -> list[list[str]]:
    lines = [line.split() for line in (gateway.folder / "notes").read_text().splitlines()]
    return [line for line in lines if line[0] == word]


def test_an_agent_sees_nothing_of_the_gateway_and_its_prints_disturb_nothing(agents: Gateway) -> None:
    assert said(agents, "tells", "c1", "Hello").status_code == 200
    assert brief(agents, "c1") == ["local: Hello; imported [], sees []"]


def test_a_process_that_ends_by_itself_is_replaced_and_then_given_up(agents: Gateway) -> None:
    assert '"code":"agent_lost"' in said(agents, "crashes", "c2").text


def stops(gateway: Gateway, headers: dict[str, str] | None = None) -> list[float]:
    """Stops a function that hangs, some times; returns the seconds after which it was told each time."""
    took_s: list[float] = []
    with ThreadPoolExecutor() as pool:
        for number in range(1, STOPS + 1):
            saying = pool.submit(said, gateway, "hangs", f"stop-{number}", headers=headers)
            eventually(lambda number=number: len(notes(gateway, "hangs")) == number, 60, "it has begun")
            stopped_at = time.monotonic()
            told = httpx2.post(f"{gateway.url}/api/chat/stop-{number}/stop", json={}, headers=headers, timeout=30)
            assert told.json()["stopped"]
            assert '"abort"' in saying.result().text
            eventually(lambda number=number: len(notes(gateway, "stopped")) == number, 30, "it is told")
            took_s.append(float(notes(gateway, "stopped")[-1][1]) - stopped_at)
    return took_s


def test_a_stop_reaches_the_function_at_once(agents: Gateway) -> None:
    took_s = stops(agents)
    assert min(took_s) <= STOP_S, took_s


def steer(gateway: Gateway, chat: str, text: str) -> None:
    message = {"id": f"s-{text}", "role": "user", "parts": [{"type": "text", "text": text}]}
    answer = httpx2.post(f"{gateway.url}/api/chat/{chat}/steer", json={"message": message}, timeout=30)
    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")


def test_what_is_sent_meanwhile_is_taken_once_though_the_agent_is_killed(agents: Gateway) -> None:
    """What it took before stands in the answer once, and it is given it once more; then what came in between."""
    with ThreadPoolExecutor() as pool:
        saying = pool.submit(said, agents, "heeds", "c4")
        eventually(lambda: notes(agents, "heeds"), 60, "it has begun")
        steer(agents, "c4", "one")
        eventually(lambda: notes(agents, "saw"), 60, "it has taken the first")
        os.kill(int(notes(agents, "heeds")[0][1]), signal.SIGKILL)
        steer(agents, "c4", "two")
        steer(agents, "c4", "stop")
        assert '"type":"finish"' in saying.result().text
    told = chat_of(agents, "c4")
    parts = [part.get("text") or part.get("id") or part["toolName"] for part in told["messages"][-1]["parts"]]
    shown = [part for part in parts if part.startswith(("s-", "saw-"))]
    assert shown.index("s-one") < shown.index("saw-one") < shown.index("s-two") < shown.index("saw-two")
    assert sorted(shown) == ["s-one", "s-stop", "s-two", "saw-one", "saw-stop", "saw-two"]
    assert "".join(part for part in parts if part.endswith(". ")) == "one. two. stop. "
    assert told["queue"] == []
    assert len(notes(agents, "heeds")) == 2
    assert [text for _, text in notes(agents, "saw")][-2:] == ["two", "stop"]


@pytest.mark.parametrize("killed", ["the agent", "the gateway", "both"])
def test_what_is_killed_is_entered_again_and_nothing_is_done_that_must_not_be(tmp_path: Path, killed: str) -> None:
    first, second = made(tmp_path), made(tmp_path)
    try:
        first.start()
        if killed != "the agent":
            second.start()
        with ThreadPoolExecutor() as pool:
            for name in ("pays_again", "pays_once"):
                pool.submit(said, first, name, name)
            eventually(lambda: len(notes(first, "pay")) == 2, 60, "both have paid")
            children = psutil.Process(first.pid).children(recursive=True)
            if killed != "the agent":
                first.signal(signal.SIGKILL)
            if killed != "the gateway":
                for _, _, pid in notes(first, "pay"):
                    os.kill(int(pid), signal.SIGKILL)
            living = first if killed == "the agent" else second
            (tmp_path / "go").touch()

            def over() -> bool:
                return all(chat_of(living, name)["activeRun"] is None for name in ("pays_again", "pays_once"))

            eventually(over, TAKEN_OVER_S, f"both are over: {living.stderr()[-2000:]}")
        assert brief(living, "pays_again") == ["One moment. ", "look", "pay", "paid"]
        [ask] = chat_of(living, "pays_once")["pending"]
        assert (ask["kind"], brief(living, "pays_once")) == ("doubt", ["One moment. ", "pay"])
        keys = [key for _, key, _ in notes(living, "pay")]
        assert len(keys) == 3, "twice where that is allowed, once where it is not"
        assert len(set(keys)) == 2, "the second try has the key of the first"
        assert len(notes(living, "look")) == 1, "what the log has is not done again"
        eventually(lambda: not any(child.is_running() for child in children) or killed == "the agent", 30)
    finally:
        first.stop()
        second.stop()


def test_what_waits_for_a_person_outlives_everything(tmp_path: Path) -> None:
    gateway = made(tmp_path)
    (tmp_path / "go").touch()
    try:
        gateway.start()
        assert '"tool-calls"' in said(gateway, "pays_again", "c", "ask").text
        gateway.signal(signal.SIGKILL)
        gateway.wait()
        gateway.start()
        [ask] = chat_of(gateway, "c")["pending"]
        answer = httpx2.post(f"{gateway.url}/api/chat/c/approvals/{ask['approvalId']}", json={"approved": True})
        assert answer.json()["activeRun"]
        eventually(lambda: brief(gateway, "c") == ["One moment. ", "look", "pay", "pay", "paid"], 60)
        assert (len(notes(gateway, "look")), len(notes(gateway, "pay"))) == (1, 1)
    finally:
        gateway.stop()
