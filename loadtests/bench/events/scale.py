"""Many idle streams are watched for minutes: memory, CPU with pings, lateness of pings, and whether anything creeps.

    python -m loadtests.bench scale [--quick] [--cases 18000x1,50000x3]

A case is so many streams on so many processes, which share one database and the server's core; any STREAMSxPROCESSES
can be asked for. Each process has a load client of its own, with loopback addresses of its own. At the end one event is
published on the first process and must reach every stream of all of them. Says what it sees every 15 s.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.bench.events import scale_table
from loadtests.bench.events.fan import Fan, FanAnswer, fan
from loadtests.bench.events.servers import TARGETS, server
from loadtests.bench.harness import machine, rounds
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.processes import NotStarted

EVERY_S = 15.0
WARM_UP = 50
SOURCES = 4
ARRIVAL_S = 5
SPARE_FILES = 200
"""Descriptors of a server besides the sockets of its streams."""
MOST_PROCESSES = 10


@dataclass(frozen=True)
class ScalePlan:
    """Says how long the streams are watched."""

    seconds: float = 300


@dataclass
class ScaleRig:
    """Says where the processes run, and what they did that they must not."""

    port: int
    folder: Path
    settings: dict[str, str]
    plan: ScalePlan
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0


@dataclass(frozen=True)
class Layout:
    """A number of streams on a number of processes."""

    streams: int
    processes: int
    targets: tuple[str, ...] = ("trilane",)

    @property
    def name(self) -> str:
        return f"scale-{self.streams}x{self.processes}"

    @property
    def each(self) -> int:
        """Returns the streams of each process, rounded up: never fewer in all than asked for."""
        return -(-self.streams // self.processes)

    def measure(self, rig: ScaleRig) -> dict[str, Any]:
        """Measures from the first stream to the last event. Raises NotStarted, ClientFailed."""
        files = machine.allow_descriptors()
        if files < self.each + SPARE_FILES:
            raise NotStarted(f"{self.each:,} streams in a process need more than the {files:,} open files: ulimit -Hn")
        print(f"{self.streams:,} streams, processes: {self.processes}", flush=True)
        with contextlib.ExitStack() as stack:
            watch = Watch([stack.enter_context(_process(rig, number)) for number in range(self.processes)])
            start_figures = watch.open(self.each)
            rows = watch.hold(rig.plan.seconds)
            figures = {**start_figures, "wanted": self.each * self.processes, "reached": watch.publish(), "rows": rows}
        rig.foreign_cores = max(client.foreign_cores for client in watch.clients)
        for name in [*scale_table.wrongs(figures), *(name for client in watch.clients for name in client.faults)]:
            rig.faults[name] = rig.faults.get(name, 0) + 1
        return figures


@contextlib.contextmanager
def _process(rig: ScaleRig, number: int) -> Generator[Fan]:
    """Runs one server and its client."""
    settings = {"TRILANE_MAX_AGE_S": "86400", **rig.settings}
    target, port = TARGETS["trilane"], rig.port + number
    with server(target, port, rig.folder, settings) as pids:
        options = {**target.options(port, "scale"), "sources": SOURCES, "first-source": 1 + number * SOURCES}
        with fan(options, pids) as client:
            yield client


class Watch:
    """Watches the streams of one layout."""

    def __init__(self, clients: list[Fan]) -> None:
        self.clients = clients
        self.pids = [pid for client in clients for pid in client.pids]
        self.base_kib = 0.0

    def open(self, each: int) -> dict[str, Any]:
        """Opens a few streams to warm up, then all of them, in all processes at once."""
        self._all("open", WARM_UP)
        time.sleep(1)
        self.base_kib = machine.pss_kib(self.pids)
        start = time.monotonic()
        live = sum(answer["live"] for answer in self._all("open", each))
        open_s = time.monotonic() - start
        print(f"  {live:,} are open after {open_s:.1f} s, {live / open_s:,.0f}/s", flush=True)
        return {"base_mib": self.base_kib / 1024, "open_s": open_s}

    def hold(self, seconds: float) -> list[dict[str, float]]:
        """Looks every 15 s, and prints what it saw."""
        start = time.monotonic()
        rows: list[dict[str, float]] = []
        while (began := time.monotonic()) < start + seconds:
            cpu = machine.cpu_ns(self.pids)
            time.sleep(min(EVERY_S, start + seconds - began))
            core = (machine.cpu_ns(self.pids) - cpu) / 1e9 / (time.monotonic() - began)
            rows.append({"after_s": time.monotonic() - start, "core": core, **self._look()})
            print(scale_table.look_line(rows[-1]), flush=True)
        return rows

    def publish(self) -> int:
        """Publishes one event on the first process; returns how many streams it reaches."""
        event_count = self.clients[0].ask("publish", 1, 1, 1)["events"]
        for _ in range(ARRIVAL_S if len(self.clients) > 1 else 0):
            event_count += sum(answer["events"] for answer in self._all("wait", 1))
        return event_count

    def _look(self) -> dict[str, float]:
        """Returns the streams now, and their pings since the last look."""
        answers = self._all("wait", 0)
        live = sum(answer["live"] for answer in answers)
        pings = [answer["ping_after_ms"] for answer in answers if answer["pings"]]
        return {
            "streams": live,
            "kib": (machine.pss_kib(self.pids) - self.base_kib) / max(1, live - WARM_UP * len(self.clients)),
            "pings": sum(ping["n"] for ping in pings),
            "ping_min_s": min((ping["min"] for ping in pings), default=0.0) / 1000,
            "ping_p50_s": statistics.fmean([ping["p50"] for ping in pings] or [0.0]) / 1000,
            "ping_max_s": max((ping["max"] for ping in pings), default=0.0) / 1000,
        }

    def _all(self, *words: object) -> list[FanAnswer]:
        """Asks every client the same, at the same time."""
        for client in self.clients:
            client.send(*words)
        return [client.answer() for client in self.clients]


def named(name: str) -> Layout | None:
    """Returns the layout that `18000x1` names."""
    streams, _, processes = name.partition("x")
    if not (streams.isdigit() and processes.isdigit()) or not 1 <= int(processes) <= MOST_PROCESSES:
        return None
    return Layout(int(streams), int(processes))


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], ScaleRig]]:
    """Opens nothing that lives longer than a layout."""
    yield lambda job: ScaleRig(run.port, job.folder, run.settings, run.plan)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=1)


PART = Part(
    name="scale",
    says="Many idle streams of the events lane for minutes.",
    port=18440,
    ports=MOST_PROCESSES,
    cases=(Layout(18_000, 1), Layout(50_000, 3)),
    ours=("trilane",),
    plans=Plans(ScalePlan(), quick=ScalePlan(seconds=40)),
    session=session,
    table=scale_table,
    named=named,
    arguments=_arguments,
    file="events-scale",
)


def main(argv: list[str]) -> int:
    """Measures the layouts."""
    return rounds.main([PART], argv)
