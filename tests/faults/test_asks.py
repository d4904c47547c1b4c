"""What runs ask is answered once, whoever answers, wherever, and whatever has been restarted meanwhile.

LONG_TESTS=1 makes it 1,000 asks instead of 60.
"""

import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from loadtests.upstream import shapes
from loadtests.upstream.answer import Answer
from loadtests.upstream.behaviours import TABLE
from loadtests.upstream.stream import finish, start
from tests.conftest import Gateway, UpstreamThread, eventually, serving
from tests.support.sse_client import chat_body, follow, send

LONG = bool(os.environ.get("LONG_TESTS"))
CHATS = 500 if LONG else 30
DEVICES, PROCESSES = 8, 3
GO_ON_S = 0.2
"""Seconds from the last answer to the first frame of what goes on, at the median."""
QUESTION = "T=2 I=0"
MODEL = "asks-twice"
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


async def ask_twice(answer: Answer) -> None:
    """Calls a tool twice, each call with a text of its own, and says something once it has the results."""
    if answer.ask.after_tool:
        return await TABLE["ok"].behave(answer)
    await start(answer)
    name = answer.ask.text.split()[0]
    for place in range(2):
        call = shapes.tool_call(place, "desk__echo", f'{{"text":"{name}-{place}"}}')
        await answer.frame(shapes.chunk(answer.ask, {"tool_calls": [call]}))
    return await finish(answer, "tool_calls")


class Fleet(NamedTuple):
    """Several processes on one log, whose tool notes each call."""

    gateways: list[Gateway]
    notes: Path

    def calls(self, chats: str) -> Counter[str]:
        """Returns how often the tool was called with each text, by chats whose ids begin so."""
        lead = f"call echo {chats}"
        lines = self.notes.read_text().splitlines()
        return Counter(line.removeprefix("call echo ") for line in lines if line.startswith(lead))


@pytest.fixture(scope="module")
def fleet(upstream: UpstreamThread, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    upstream.fake.script(MODEL, ask_twice)
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


def park(url: str, chat_id: str) -> list[dict[str, Any]]:
    """Has a chat ask twice; returns the asks."""
    _, frames = send(url, chat_body(chat_id, f"{chat_id} {QUESTION}") | {"model": MODEL}, timeout_s=60)
    assert frames.terminals[0]["finishReason"] == "tool-calls", frames.chunks
    return chat_of(url, chat_id)["pending"]


def chat_of(url: str, chat_id: str) -> dict[str, Any]:
    return httpx2.get(f"{url}/api/chat/{chat_id}", timeout=60).json()


def calls_of(chat: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns the parts of the calls of a chat's answer, by the text that each is called with."""
    parts = [part for part in chat["messages"][-1]["parts"] if part["type"] == "dynamic-tool"]
    return {part["input"]["text"]: part for part in parts}


class Told(NamedTuple):
    """What a device said of an ask, and what it was told."""

    text: str
    said: bool
    status: int
    is_first: bool
    approved: bool | None
    """What is so, as the device was told; None when it was told nothing of that."""


class Device:
    """Answers all asks in an order of its own, at random, by any process, in one of the two ways."""

    def __init__(self, number: int, urls: list[str], chats: dict[str, list[dict[str, Any]]], seed: int) -> None:
        self._random = random.Random(seed + number)
        self._posts = number % 4 == 0
        self._urls = urls
        self._shown = {chat_id: chat_of(urls[0], chat_id)["messages"][-1] for chat_id in chats if self._posts}
        self._asks = [(chat_id, ask) for chat_id, asks in chats.items() for ask in asks]
        self._random.shuffle(self._asks)

    def answer_all(self) -> list[Told]:
        with httpx2.Client(timeout=60) as http:
            return [self._post(http, *ask) if self._posts else self._answer(http, *ask) for ask in self._asks]

    def _answer(self, http: httpx2.Client, chat_id: str, ask: dict[str, Any]) -> Told:
        said, url = self._random.random() < 0.5, self._random.choice(self._urls)
        reply = http.post(f"{url}/api/chat/{chat_id}/approvals/{ask['approvalId']}", json={"approved": said})
        told = reply.json()
        is_first = reply.status_code == 200 and not told["duplicate"]
        return Told(ask["input"]["text"], said, reply.status_code, is_first, told.get("approved"))

    def _post(self, http: httpx2.Client, chat_id: str, ask: dict[str, Any]) -> Told:
        """Posts the answer as an AI SDK client holds it, with all that this device has said before."""
        said, url = self._random.random() < 0.5, self._random.choice(self._urls)
        message = self._shown[chat_id]
        [part] = [part for part in message["parts"] if part.get("toolCallId") == ask["toolCallId"]]
        part |= {"state": "approval-responded", "approval": {"id": ask["approvalId"], "approved": said}}
        response, frames = send(url, {"id": chat_id, "message": message}, timeout_s=60)
        kinds = {chunk["type"] for chunk in frames.chunks if chunk.get("toolCallId") == ask["toolCallId"]}
        approved = True if "tool-output-available" in kinds else False if "tool-output-denied" in kinds else None
        return Told(ask["input"]["text"], said, response.status_code, False, approved)


def test_of_many_answers_one_counts_and_each_call_is_made_once_or_never(fleet: Fleet) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    urls = [gateway.url for gateway in fleet.gateways]
    with ThreadPoolExecutor(DEVICES) as pool:
        ids = [f"many{number}" for number in range(CHATS)]
        asked = pool.map(lambda chat_id: park(random.choice(urls), chat_id), ids)
        chats = dict(zip(ids, asked, strict=True))
        devices = [Device(number, urls, chats, seed) for number in range(DEVICES)]
        told = [one for told in pool.map(Device.answer_all, devices) for one in told]

    def is_over(chat_id: str) -> bool:
        chat = chat_of(urls[0], chat_id)
        return chat["activeRun"] is None and not chat["pending"]

    for chat_id in chats:
        eventually(lambda chat_id=chat_id: is_over(chat_id), 60, f"{chat_id} goes on and comes to its end")
    parts = {text: part for chat_id in chats for text, part in calls_of(chat_of(urls[0], chat_id)).items()}
    decided = {text: part["state"] == "output-available" for text, part in parts.items()}
    assert len(decided) == 2 * CHATS
    assert {part["state"] for part in parts.values()} <= {"output-available", "output-denied"}
    assert fleet.calls("many") == Counter(text for text, is_allowed in decided.items() if is_allowed)
    assert {one.status for one in told} <= {200, 409}
    wrong = [one for one in told if one.approved is not None and one.approved != decided[one.text]]
    assert not wrong, "who was late is told what is so"
    firsts = Counter(one.text for one in told if one.is_first)
    assert not firsts or max(firsts.values()) == 1, "nobody else is told that theirs was the first"
    assert all(one.said == decided[one.text] for one in told if one.is_first)
    assert all(one.status == 200 for one in told if one.said == decided[one.text])


def test_the_second_of_two_answers_from_two_devices_goes_on_at_once(fleet: Fleet) -> None:
    first, second, third = (gateway.url for gateway in fleet.gateways)
    took_s: list[float] = []
    for number in range(12):
        chat_id = f"two{number}"
        one, two = park(third, chat_id)
        path = f"/api/chat/{chat_id}/approvals"
        waiting = httpx2.post(f"{first}{path}/{one['approvalId']}", json={"approved": True}, timeout=60).json()
        assert (waiting["waitingFor"], waiting["activeRun"]) == ([two["approvalId"]], None)
        began = time.monotonic()
        going_on = httpx2.post(f"{second}{path}/{two['approvalId']}", json={"approved": False}, timeout=60).json()
        cursor = going_on["activeRun"]["cursor"]
        headers = {"last-event-id": cursor}
        with httpx2.stream("GET", f"{third}/api/chat/{chat_id}/stream", headers=headers, timeout=60) as stream:
            assert next(line for line in stream.iter_lines() if line.startswith("data: "))
        took_s.append(time.monotonic() - began)
    assert statistics.median(took_s) <= GO_ON_S, took_s
    assert sum(fleet.calls("two").values()) == 12


def test_an_ask_outlives_all_processes(fleet: Fleet) -> None:
    """The last of the file: it ends them all, one of them without a word."""
    asks = park(fleet.gateways[0].url, "c1")
    own = httpx2.post(f"{fleet.gateways[1].url}/api/chat", json=chat_body("c2", QUESTION, model="tools"), timeout=20)
    assert own.status_code == 200
    [question] = chat_of(fleet.gateways[2].url, "c2")["pending"]
    for gateway, how in zip(fleet.gateways, (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM), strict=True):
        gateway.signal(how)
    for gateway in fleet.gateways:
        gateway.wait()
    back = fleet.gateways[0].start()
    assert chat_of(back.url, "c1")["pending"] == asks
    assert chat_of(back.url, "c2")["pending"] == [question]
    for ask in asks:
        path = f"{back.url}/api/chat/c1/approvals/{ask['approvalId']}"
        assert httpx2.post(path, json={"approved": True}, timeout=60).json()["approved"]
    result = {"output": {"sun": True}}
    path = f"{back.url}/api/chat/c2/approvals/{question['approvalId']}"
    assert httpx2.post(path, json=result, timeout=60).status_code == 200
    for chat_id in ("c1", "c2"):
        follow(back.url, chat_id)
        eventually(lambda chat_id=chat_id: chat_of(back.url, chat_id)["activeRun"] is None, 30, f"{chat_id} goes on")
    assert fleet.calls("c1") == {"c1-0": 1, "c1-1": 1}
    assert chat_of(back.url, "c1")["messages"][-1]["metadata"]["finishReason"] == "stop"
    assert chat_of(back.url, "c2")["messages"][-1]["metadata"]["finishReason"] == "stop"
