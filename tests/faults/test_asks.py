"""What runs ask is answered once, whoever answers, wherever, and whatever has been restarted meanwhile.

LONG_TESTS=1 makes it 1,000 asks instead of 60.
"""

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from loadtests.bench.agents.devices import AnsweringDevice, Judgement, judged
from loadtests.bench.agents.gateways import chat_of, client, park
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import follow

LONG = bool(os.environ.get("LONG_TESTS"))
CHATS = 500 if LONG else 30
DEVICES, PROCESSES = 8, 3
GO_ON_S = 0.2
"""Seconds from the last answer to the first frame of what goes on, at the median."""
TOOL = "desk__echo"
SERVER = Path(__file__).parents[1] / "gateway" / "chat" / "tools" / "raw_server.py"
FILE = """
[[upstream]]
name = "default"
base_url = "{upstream}"
model = "ok"

[[mcp]]
name = "desk"
command = ["{python}", "{server}"]
env = ["NOTES"]
[mcp.tools.echo]
approve = "ask"
effect = "once"
"""


class Fleet(NamedTuple):
    """Several processes on one log, whose tool notes each call."""

    gateways: list[Gateway]
    notes: Path

    def calls(self, chats: str) -> list[str]:
        """Returns the text of each call by chats whose ids begin so."""
        lead = f"call echo {chats}"
        lines = self.notes.read_text().splitlines()
        return [line.removeprefix("call echo ") for line in lines if line.startswith(lead)]


@pytest.fixture(scope="module")
def fleet(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("asks")
    file, notes = folder / "upstreams.toml", folder / "notes"
    notes.touch()
    file.write_text(FILE.format(upstream=upstream.url, python=sys.executable, server=SERVER))
    env = {"TRILANE_UPSTREAMS": str(file), "NOTES": str(notes)}
    gateways = [serving(folder, upstream.url, **env) for _ in range(PROCESSES)]
    try:
        for gateway in gateways:
            gateway.start()
        yield Fleet(gateways, notes)
    finally:
        for gateway in gateways:
            gateway.stop()


@pytest.fixture
def http() -> Iterator[httpx2.Client]:
    with client() as new:
        yield new


def calls_of(chat: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in chat["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]


def test_of_many_answers_one_counts_and_each_call_is_made_once_or_never(fleet: Fleet) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    urls = [gateway.url for gateway in fleet.gateways]
    with ThreadPoolExecutor(DEVICES) as pool:
        ids = [f"many{number}" for number in range(CHATS)]
        asked = pool.map(lambda chat_id: park(random.choice(urls), chat_id, TOOL, "tools-2"), ids)
        chats = dict(zip(ids, asked, strict=True))
        devices = [AnsweringDevice(number, urls, chats, seed) for number in range(DEVICES)]
        told = [one for told in pool.map(AnsweringDevice.answer_all, devices) for one in told]

    def is_over(chat_id: str) -> bool:
        chat = chat_of(urls[0], chat_id)
        return chat["activeRun"] is None and not chat["pending"]

    for chat_id in chats:
        eventually(lambda chat_id=chat_id: is_over(chat_id), 60, f"{chat_id} goes on and comes to its end")
    calls = [call for chat_id in chats for call in calls_of(chat_of(urls[0], chat_id))]
    assert {call["state"] for call in calls} <= {"output-available", "output-denied"}
    decided = {call["input"]["text"]: call["state"] == "output-available" for call in calls}
    judgement = judged(told, decided, fleet.calls("many"))
    assert judgement == Judgement(2 * CHATS, sum(decided.values()), wrong=0, misled=0)


def test_the_second_of_two_answers_from_two_devices_goes_on_at_once(fleet: Fleet, http: httpx2.Client) -> None:
    first, second, third = (gateway.url for gateway in fleet.gateways)
    took_s: list[float] = []
    for number in range(12):
        chat_id = f"two{number}"
        one, two = park(third, chat_id, TOOL, "tools-2")
        path = f"/api/chat/{chat_id}/approvals"
        waiting = http.post(f"{first}{path}/{one['approvalId']}", json={"approved": True}).json()
        assert (waiting["waitingFor"], waiting["activeRun"]) == ([two["approvalId"]], None)
        began = time.monotonic()
        going_on = http.post(f"{second}{path}/{two['approvalId']}", json={"approved": False}).json()
        cursor = going_on["activeRun"]["cursor"]
        headers = {"last-event-id": cursor}
        with http.stream("GET", f"{third}/api/chat/{chat_id}/stream", headers=headers) as stream:
            assert next(line for line in stream.iter_lines() if line.startswith("data: "))
        took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) <= GO_ON_S, took_s
    eventually(lambda: len(fleet.calls("two")) == 12, what="each call is made once")


def test_an_ask_outlives_all_processes(fleet: Fleet, http: httpx2.Client) -> None:
    """The last of the file: it ends them all, one of them without a word."""
    asks = park(fleet.gateways[0].url, "c1", TOOL, "tools-2")
    [question] = park(fleet.gateways[1].url, "c2")
    for gateway, how in zip(fleet.gateways, (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM), strict=True):
        gateway.signal(how)
    for gateway in fleet.gateways:
        gateway.wait()
    back = fleet.gateways[0].start()
    assert chat_of(back.url, "c1")["pending"] == asks
    assert chat_of(back.url, "c2")["pending"] == [question]
    for ask in asks:
        path = f"{back.url}/api/chat/c1/approvals/{ask['approvalId']}"
        assert http.post(path, json={"approved": True}).json()["approved"]
    result = {"output": {"sun": True}}
    path = f"{back.url}/api/chat/c2/approvals/{question['approvalId']}"
    assert http.post(path, json=result).status_code == 200
    for chat_id in ("c1", "c2"):
        follow(back.url, chat_id)
        eventually(lambda chat_id=chat_id: chat_of(back.url, chat_id)["activeRun"] is None, 30, f"{chat_id} goes on")
    assert sorted(fleet.calls("c1")) == [ask["input"]["text"] for ask in asks]
    assert chat_of(back.url, "c1")["messages"][-1]["metadata"]["finishReason"] == "stop"
    assert chat_of(back.url, "c2")["messages"][-1]["metadata"]["finishReason"] == "stop"
