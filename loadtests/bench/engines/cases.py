"""The loads of the engines benchmark: appends alone, then the units of the gateway on each engine.

What is measured has the server's core, as always. The store's server lies on the other core, with the load client, the
fake upstream and the benchmark: as if it were another machine.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.chat import cases as chat
from loadtests.bench.chat.servers import TARGETS as CHAT_TARGETS
from loadtests.bench.chat.servers import Ports
from loadtests.bench.engines.producers import PRODUCERS
from loadtests.bench.engines.stores import Store, cpu_s
from loadtests.bench.events.cases import EventsPlan, EventsRig, fan_out
from loadtests.bench.events.servers import TARGETS as EVENTS_TARGETS
from loadtests.bench.harness import machine
from loadtests.bench.harness.part import Cannot
from loadtests.bench.harness.processes import FOREIGN_SETTINGS, ROOT, SERVER_CORE, ClientFailed, on_core
from loadtests.bench.harness.records import Figures

ENGINES = ("memory", "sqlite", "redis", "postgres")
READERS, FIXED_RATE = 1000, 60.0
"""Readers of one topic in one process, and events a second that every engine manages."""
RELAYED_RATE = 100.0
"""Events a second that one process takes while the reader is on another."""
LATE_S = 1.0
"""Seconds after the last of them within which all must have arrived."""
TIMEOUT_S = 5.0
"""Seconds after which an event that has not arrived is lost."""
CARRIED = chat.ChatCase("carry", 220, 100, 20_000, 2.0, 2.5)
"""A paced load of 11,000 tokens/s: a little more than is wanted, for streams begin anew meanwhile."""
WORKERS = {
    "one": ("1", chat.ChatCase("one worker", 60, 100, 20_000, 2.0, 4.0)),
    "two": ("2", chat.ChatCase("two workers", 120, 100, 20_000, 2.0, 4.0)),
}
"""How many workers, and the same load for each of them, which leaves the cores idle in part."""
FIRST = {case.name: case for case in chat.CASES if case.name in ("one", "hundred")}
APPEND_EXTRA_S = 60.0
"""Seconds beyond its own after which the process that appends is stuck."""


@dataclass(frozen=True)
class EnginesPlan:
    """Says how much is measured."""

    append_s: float = 1.5
    """Seconds for each number of producers, and as many for the bare server."""
    relay_s: float = 4.0
    share: float = 0.6
    """Part of the seconds of the chat loads."""
    fan: EventsPlan = field(default_factory=lambda: EventsPlan(step_s=0.8, within=1.04, steps=8))


QUICK = EnginesPlan(append_s=1.0, relay_s=1.5, share=0.5, fan=EventsPlan(step_s=0.6, within=1.2, steps=3))


@dataclass
class EngineRig:
    """Holds one engine, empty, and where units that use it run."""

    engine: str
    store: Store | None
    """The engine's server; None where it is a file, or nothing."""
    port: int
    folder: Path
    settings: dict[str, str]
    plan: EnginesPlan
    upstream_port: int
    upstream_pid: int
    requests: chat.RequestNumbers
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0

    def environment(self) -> dict[str, str]:
        """Returns the settings of a unit on an empty log."""
        url = "memory:" if self.engine == "memory" else f"sqlite:///{self.folder / 'log.db'}"
        return {"TRILANE_LOG": self.store.empty() if self.store else url, **self.settings}

    def events(self, environment: dict[str, str], port: int) -> EventsRig:
        """Returns the rig of an events unit."""
        return EventsRig(EVENTS_TARGETS["trilane"], port, self.folder, environment, self.plan.fan, faults=self.faults)

    def chat(self) -> chat.ChatRig:
        """Returns the rig of a chat unit."""
        ports, plan = Ports(server=self.port, upstream=self.upstream_port), chat.ChatPlan(self.plan.share)
        environment = self.environment()
        return chat.ChatRig(
            CHAT_TARGETS["trilane"], ports, environment, plan, self.upstream_pid, self.requests, faults=self.faults
        )


def append(rig: EngineRig) -> Figures:
    """Measures appends of each number of producers, beside the bare server, in a process of its own."""
    words = ["-m", "loadtests.bench.engines.appends", f"{rig.plan.append_s:g}"]
    words += [str(rig.store.pid)] if rig.store else []
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_SETTINGS)}
    own = {"PYTHONPATH": str(ROOT), "TRILANE_DATA_DIR": str(rig.folder), **rig.environment()}
    command = on_core(SERVER_CORE, [sys.executable, *words])
    limit_s = len(PRODUCERS) * 2.5 * rig.plan.append_s + APPEND_EXTRA_S
    try:
        process = subprocess.run(
            command, env={**inherited, **own}, capture_output=True, text=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired as err:
        raise ClientFailed(f"the log is stuck: no end within {limit_s:g} s") from err
    if process.returncode:
        raise ClientFailed(f"the log's process ended with {process.returncode}\n{process.stderr[-1000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def relay(rig: EngineRig) -> Figures:
    """Measures how long an event takes that one process takes, to the socket of a reader on another."""
    if rig.engine == "memory":
        raise Cannot("share a log between processes")
    environment, seconds = rig.environment(), rig.plan.relay_s
    reader, taker = rig.events(environment, rig.port), rig.events(environment, rig.port + 1)
    count = round(RELAYED_RATE * seconds)
    with (
        reader.serving() as pids,
        taker.serving() as taker_pids,
        reader.readers(pids, "relayed") as client,
        taker.readers(taker_pids, "relayed") as publisher,
    ):
        client.ask("open", 1)
        publisher.ask("publish", RELAYED_RATE, RELAYED_RATE, 1)
        client.ask("wait", 0.5)
        store_s = cpu_s(rig.store.pids) if rig.store else 0.0
        client.send("wait", seconds + LATE_S)
        publisher.ask("publish", RELAYED_RATE, count, 1)
        answer = client.answer()
        if answer["events"] < count:
            late = client.ask("wait", TIMEOUT_S)["events"]
            rig.faults["late events" if answer["events"] + late == count else "lost events"] = count - answer["events"]
        store_s = (cpu_s(rig.store.pids) if rig.store else 0.0) - store_s
    return {"delay_ms": answer["delay_ms"], "store_us_per_event": store_s * 1e6 / count}


def fan(rig: EngineRig) -> Figures:
    """Measures one publisher with many readers in one process."""
    return fan_out(READERS, FIXED_RATE)(rig.events(rig.environment(), rig.port))


def first(rig: EngineRig) -> Figures:
    """Measures the time to the first token of one stream, and of a hundred."""
    return {name: case.measure(rig.chat()) for name, case in FIRST.items()}


def carry(rig: EngineRig) -> Figures:
    """Measures many answers at the pace of people, each token of which is in the log before it is sent."""
    return CARRIED.measure(rig.chat())


def workers(rig: EngineRig) -> Figures:
    """Measures what a token costs one worker, and each of two that share a log, on all cores."""
    if rig.engine == "memory":
        raise Cannot("share a log between processes")
    figures: Figures = {}
    for name, (count, case) in WORKERS.items():
        one = rig.chat()
        one.settings["TRILANE_WORKERS"], one.is_pinned = count, False
        figures[name] = case.measure(one)
    return figures


@dataclass(frozen=True)
class EngineCase:
    """A load, watched for other work of the machine."""

    name: str
    load: Callable[[EngineRig], Figures]
    targets: Sequence[str] = ENGINES

    def measure(self, rig: EngineRig) -> Figures:
        """Returns the figures of the load. Raises NotStarted, ClientFailed, Cannot."""
        with _watch(rig):
            return self.load(rig)


@contextlib.contextmanager
def _watch(rig: EngineRig) -> Generator[None]:
    """Notes in the rig how much of the machine anything else used meanwhile."""
    began = _clocks(rig)
    yield
    wall_s, busy_s, ours_s = (b - a for a, b in zip(began, _clocks(rig), strict=True))
    rig.foreign_cores = (busy_s - ours_s) / wall_s


def _clocks(rig: EngineRig) -> tuple[float, float, float]:
    """Returns seconds of the wall clock, of CPU of everything, and of what belongs to the measurement."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    lasting = [rig.upstream_pid, *(rig.store.pids if rig.store else [])]
    ours_s = time.process_time() + ended.ru_utime + ended.ru_stime + cpu_s(lasting)
    return time.monotonic(), machine.busy_s(), ours_s


CASES = (
    EngineCase("append", append),
    EngineCase("relay", relay),
    EngineCase("fan", fan),
    EngineCase("first", first),
    EngineCase("carry", carry),
    EngineCase("workers", workers),
)
