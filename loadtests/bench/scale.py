"""Many idle streams for minutes: memory, CPU with pings, whether pings come in time, and whether anything creeps.

    python -m loadtests.bench events --scale [--scale-s 300] [--layout 18000x1,50000x3]

A layout is so many streams on so many processes, which share one database and the server's core. Each has a load client
of its own, with loopback addresses of its own. At the end one event is published on the first process and must reach
every stream of all of them. Says what it sees every 15 s.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench import machine, scale_table
from loadtests.bench.fan_client import Answer, ClientFailed, Fan, fan
from loadtests.bench.processes import NotStarted
from loadtests.bench.pubsub import TARGETS, server

EVERY_S = 15.0
WARM_UP = 50
SOURCES = 4
ARRIVAL_S = 5


@dataclass(frozen=True)
class Layout:
    """So many streams on so many processes."""

    streams: int
    processes: int

    @property
    def name(self) -> str:
        return f"{self.streams}x{self.processes}"

    @property
    def each(self) -> int:
        """Rounded up: never fewer in all than asked for."""
        return -(-self.streams // self.processes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `--scale` may be told."""
    parser.add_argument("--scale", action="store_true", help="instead: many idle streams of Trilane for minutes")
    parser.add_argument("--scale-s", type=float, default=300, help="how long they are watched (300)")
    parser.add_argument("--layout", default="18000x1,50000x3", help="STREAMSxPROCESSES,... (18000x1,50000x3)")


def run(args: argparse.Namespace, files: int, keep: Callable[[dict[str, Any]], None]) -> int:
    """Measure each layout and print the table; 1 when something was not as it must be."""
    layouts = [Layout(*map(int, text.split("x"))) for text in args.layout.split(",")]
    most = max(layout.each for layout in layouts)
    if files < most + 200:
        raise SystemExit(f"{most:,} streams in a process need more than the {files:,} open files allowed: ulimit -Hn")
    records: list[dict[str, Any]] = []
    for layout in layouts:
        record: dict[str, Any] = {"case": f"scale-{layout.name}", "target": "trilane", "time": time.time()}
        try:
            record |= _measure(args, layout)
        except (NotStarted, ClientFailed) as err:
            record["error"] = str(err)
        keep(record)
        records.append(record)
    print(f"\n{scale_table.render(records)}")
    return 1 if any(scale_table.wrongs(record) for record in records) else 0


def _measure(args: argparse.Namespace, layout: Layout) -> dict[str, Any]:
    """Runs one layout, from its first stream to its last event."""
    settings = {"TRILANE_MAX_AGE_S": "86400", **dict(pair.split("=", 1) for pair in args.env)}
    print(f"{layout.streams:,} streams, processes: {layout.processes}", flush=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trilane-bench-")))
        clients: list[Fan] = []
        for number in range(layout.processes):
            target, port = TARGETS["trilane"], args.port + number
            pids = stack.enter_context(server(target, port, folder, settings))
            options = {**target.options(port, "scale"), "sources": SOURCES, "first-source": 1 + number * SOURCES}
            clients.append(stack.enter_context(fan(options, pids, args.client)))
        watch = Watch(clients)
        figures = watch.open(layout.each)
        rows = watch.hold(args.scale_s)
        faults = [f"{name}: {count}" for client in clients for name, count in client.faults.items()]
        figures |= {"wanted": layout.each * layout.processes, "reached": watch.publish()}
        return {"figures": figures, "rows": rows, "faults": faults}


class Watch:
    """The streams of one layout."""

    def __init__(self, clients: list[Fan]) -> None:
        self.clients = clients
        self.pids = [pid for client in clients for pid in client.pids]
        self.base_kib = 0.0

    def open(self, each: int) -> dict[str, Any]:
        """A few to warm up, then all of them, in all processes at once."""
        self._all("open", WARM_UP)
        time.sleep(1)
        self.base_kib = machine.pss_kib(self.pids)
        start = time.monotonic()
        live = sum(answer["live"] for answer in self._all("open", each))
        open_s = time.monotonic() - start
        print(f"  {live:,} are open after {open_s:.1f} s, {live / open_s:,.0f}/s", flush=True)
        return {"base_mib": self.base_kib / 1024, "open_s": open_s}

    def hold(self, seconds: float) -> list[dict[str, float]]:
        """Looks every 15 s, and says what it saw."""
        start = time.monotonic()
        rows: list[dict[str, float]] = []
        while (began := time.monotonic()) < start + seconds:
            cpu = machine.cpu_ns(self.pids)
            time.sleep(min(EVERY_S, start + seconds - began))
            core = (machine.cpu_ns(self.pids) - cpu) / 1e9 / (time.monotonic() - began)
            rows.append({"after_s": time.monotonic() - start, "core": core, **self._look()})
            print(scale_table.progress(rows[-1]), flush=True)
        return rows

    def publish(self) -> int:
        """One event on the first process; how many streams it reaches."""
        reached = self.clients[0].ask("publish", 1, 1, 1)["events"]
        for _ in range(ARRIVAL_S if len(self.clients) > 1 else 0):
            reached += sum(answer["events"] for answer in self._all("wait", 1))
        return reached

    def _look(self) -> dict[str, float]:
        """The streams now, and their pings since the last look."""
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

    def _all(self, *words: object) -> list[Answer]:
        """The same of every client, at the same time."""
        for client in self.clients:
            client.send(*words)
        return [client.answer() for client in self.clients]
