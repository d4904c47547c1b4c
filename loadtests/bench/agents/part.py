"""What asks and steers cost: to the first token after, in memory while nobody answers, and when many answer at once.

    python -m loadtests.bench agents [--quick] [--cases answer,parked,many,steer,worker]

Fresh questions and answers to asks come in turns, so that other work on the machine falls on both; the fake model
says one word as soon as it is asked. What a call of a tool costs beside the package alone is `tools`.
"""

import argparse
import contextlib
import random
import statistics
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2

from loadtests.bench.agents.devices import AnsweringDevice, judged
from loadtests.bench.agents.gateways import (
    TOOL,
    answered,
    asking,
    body_of,
    chat_of,
    client,
    first_token_ms,
    memory_kib,
    park,
    responded,
    tasks_of,
)
from loadtests.bench.agents.steers import left_at, steer_now, summary
from loadtests.bench.agents.workers import FAR, NEAR
from loadtests.bench.agents.workers import measure as measure_workers
from loadtests.bench.harness import rounds
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.processes import NotStarted
from loadtests.bench.harness.records import Record
from loadtests.bench.report.rows import Row, at
from loadtests.bench.report.table import Table

MAX_MORE_MS = 5.0
"""Milliseconds that the first token after an answer may take longer than after a question, at the median."""
MAX_KIB = 1.0
DEVICES, PROCESSES = 8, 3
AT_ONCE = 8
END_S = 120.0
MAX_CLOSED_MS = 100.0
"""Milliseconds in which a message that is to be read at once closes the model's connection."""
WARM = 5
"""Steers before those that are timed."""


@dataclass(frozen=True)
class AgentsPlan:
    """Says how many answers are timed, how many chats are parked, and how many asks many devices answer."""

    answers: int = 200
    filling: int = 2500
    """Chats that are parked first, until the log has filled what it keeps of its file: 22 MiB, at 9 KiB a chat."""
    parked: int = 5000
    asks: int = 1000


@dataclass
class AgentsRig:
    """Says where the servers are to be, and what went wrong with them."""

    port: int
    plan: AgentsPlan
    settings: dict[str, str]
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0


@dataclass(frozen=True)
class AgentsCase:
    """One load of asks."""

    name: str
    measure: Callable[[AgentsRig], Record]
    targets: tuple[str, ...] = ("trilane",)


def _measure_answers(rig: AgentsRig) -> Record:
    """Times the first token after a question, and after each kind of answer to an ask."""
    times: dict[str, list[float]] = {}
    with asking(rig.port, 1, rig.settings) as there, client() as http:
        for number in range(rig.plan.answers):
            for name, ask in _WAYS.items():
                times.setdefault(name, []).append(ask(http, there.urls[0], f"{name}-{number}"))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{name: {"p50_ms": median} for name, median in medians.items()},
        "more_ms": {name: median - medians["question"] for name, median in medians.items()},
    }


def _question(http: httpx2.Client, url: str, chat_id: str) -> float:
    return first_token_ms(http, "POST", f"{url}/api/chat", json=body_of(chat_id, f"{chat_id} T=1 I=0"))


def _result(http: httpx2.Client, url: str, chat_id: str) -> float:
    """Brings the result of a client's own call, posted with its message."""
    [ask] = park(url, chat_id)
    shown = chat_of(url, chat_id)["messages"][-1]
    message = answered(shown, ask, state="output-available", output={"sun": True})
    return first_token_ms(http, "POST", f"{url}/api/chat", json={"id": chat_id, "message": message})


def _denial(http: httpx2.Client, url: str, chat_id: str, *, approved: bool = False) -> float:
    [ask] = park(url, chat_id, TOOL)
    message = responded(chat_of(url, chat_id)["messages"][-1], ask, approved=approved)
    return first_token_ms(http, "POST", f"{url}/api/chat", json={"id": chat_id, "message": message})


def _approval(http: httpx2.Client, url: str, chat_id: str) -> float:
    """Allows a call, which is made before the model goes on."""
    return _denial(http, url, chat_id, approved=True)


def _elsewhere(http: httpx2.Client, url: str, chat_id: str) -> float:
    """Refuses a call by the ask alone, and then follows what goes on."""
    [ask] = park(url, chat_id, TOOL)
    began = time.perf_counter()
    reply = http.post(f"{url}/api/chat/{chat_id}/approvals/{ask['approvalId']}", json={"approved": False})
    answered_ms = (time.perf_counter() - began) * 1000
    headers = {"last-event-id": reply.raise_for_status().json()["activeRun"]["cursor"]}
    return answered_ms + first_token_ms(http, "GET", f"{url}/api/chat/{chat_id}/stream", headers=headers)


_WAYS: dict[str, Callable[[httpx2.Client, str, str], float]] = {
    "question": _question,
    "result": _result,
    "denial": _denial,
    "approval": _approval,
    "elsewhere": _elsewhere,
}


def _measure_parked(rig: AgentsRig) -> Record:
    """Parks many chats, after those that fill what is bounded, and tells what the process has grown by."""
    with asking(rig.port, 1, rig.settings) as there:
        [url], [pid] = there.urls, there.pids
        _park_all(there.urls, [f"first{number}" for number in range(rig.plan.filling)])
        before, tasks = memory_kib(pid), tasks_of(url)
        _park_all(there.urls, [f"c{number}" for number in range(rig.plan.parked)])
        after, tasks_after = memory_kib(pid), tasks_of(url)
    return {"each_kib": (after - before) / rig.plan.parked, "tasks": tasks_after - tasks}


def _park_all(urls: list[str], chats: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Has all these chats ask twice."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asks = pool.map(lambda place: park(urls[place % len(urls)], chats[place], TOOL, "tools-2"), range(len(chats)))
        return dict(zip(chats, asks, strict=True))


def _measure_many(rig: AgentsRig) -> Record:
    """Has many devices answer all asks of many chats at random, by several processes."""
    seed = random.randrange(10**6)
    with asking(rig.port, PROCESSES, rig.settings) as there, ThreadPoolExecutor(DEVICES) as pool:
        chats = _park_all(there.urls, [f"c{number}" for number in range(rig.plan.asks // 2)])
        devices = [AnsweringDevice(number, there.urls, chats, seed) for number in range(DEVICES)]
        began = time.monotonic()
        told = [one for each in pool.map(AnsweringDevice.answer_all, devices) for one in each]
        took_s = time.monotonic() - began
        parts = [part for chat_id in chats for part in _ended(there.urls[0], chat_id)["messages"][-1]["parts"]]
        calls = [part for part in parts if part["type"] == "dynamic-tool"]
        decided = {part["input"]["text"]: part["state"] == "output-available" for part in calls}
        judgement = judged(told, decided, there.calls)
    if judgement.wrong or judgement.misled:
        rig.faults[f"seed {seed}"] = judgement.wrong + judgement.misled
    return {**judgement._asdict(), "answers_per_s": len(told) / took_s}


def _measure_steers(rig: AgentsRig) -> Record:
    """Times the first token after a question, and after a message that is to be read at once, in turns."""
    question_ms, steers = list[float](), list[tuple[float, float]]()
    with asking(rig.port, 1, rig.settings) as there, client() as http:
        [url], upstream = there.urls, f"http://127.0.0.1:{rig.port}"
        for number in range(-WARM, rig.plan.answers):
            asked, steered = _question(http, url, f"fresh-{number}"), steer_now(url, f"steered-{number}")
            if number >= 0:
                question_ms.append(asked)
                steers.append(steered)
        return summary(question_ms, steers, left_at(http, upstream)[WARM:])


def _ended(url: str, chat_id: str) -> dict[str, Any]:
    end = time.monotonic() + END_S
    while (chat := chat_of(url, chat_id))["activeRun"] is not None or chat["pending"]:
        if time.monotonic() > end:
            raise NotStarted(f"{chat_id} did not come to its end within {END_S:g} s")
        time.sleep(0.05)
    return chat


TABLE = Table(
    [
        Row("first token after a question, p50 ms", at("answer", "question", "p50_ms")),
        Row("  later after a client's result, by", at("answer", "more_ms", "result"), goal=MAX_MORE_MS),
        Row("  after a refusal, by", at("answer", "more_ms", "denial"), goal=MAX_MORE_MS),
        Row("  after a refusal elsewhere, by", at("answer", "more_ms", "elsewhere"), goal=MAX_MORE_MS),
        Row("  after an approval and its call, by", at("answer", "more_ms", "approval")),
        Row("memory of a parked chat, KiB", at("parked", "each_kib"), goal=MAX_KIB),
        Row("tasks of all parked chats", at("parked", "tasks"), "{:.0f}"),
        Row("asks that 8 devices answered: decisions", at("many", "decisions"), "{:.0f}"),
        Row("  calls that were made", at("many", "executions"), "{:.0f}"),
        Row("  of them wrong", at("many", "wrong"), "{:.0f}", goal=0),
        Row("  devices told what is not so", at("many", "misled"), "{:.0f}", goal=0),
        Row("  answers a second", at("many", "answers_per_s"), "{:.0f}"),
        Row(
            "a message read at once: first token later than after a question, by",
            at("steer", "more_ms"),
            goal=MAX_MORE_MS,
        ),
        Row("  the model's connection closed, p50 ms", at("steer", "closed", "p50_ms")),
        Row("  at worst, ms", at("steer", "closed", "max_ms"), goal=MAX_CLOSED_MS),
        Row("a worker at the same process: first token later than a model's, by", at("worker", "more_ms", NEAR)),
        Row("  at another process, by", at("worker", "more_ms", FAR)),
    ],
    faults="answers not as they must be",
)


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], AgentsRig]]:
    """Opens nothing that lives longer than a measurement."""
    yield lambda job: AgentsRig(run.port, run.plan, run.settings)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=1)


PART = Part(
    name="agents",
    says="What asks cost, and whether one answer counts.",
    port=18560,
    ports=1 + PROCESSES,
    cases=(
        AgentsCase("answer", _measure_answers),
        AgentsCase("parked", _measure_parked),
        AgentsCase("many", _measure_many),
        AgentsCase("steer", _measure_steers),
        AgentsCase("worker", lambda rig: measure_workers(rig.port, rig.plan.answers, rig.settings)),
    ),
    ours=("trilane",),
    plans=Plans(AgentsPlan(), quick=AgentsPlan(answers=30, parked=1500, asks=60)),
    session=session,
    table=TABLE,
    arguments=_arguments,
)


def main(argv: list[str]) -> int:
    """Measures asks."""
    return rounds.main([PART], argv)
