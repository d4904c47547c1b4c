"""The log grows: what appending, reading and opening cost when the SQLite file already holds so many events.

The file is written in a process of its own on the server's core, as a unit's is: topics of 1,000 events, a token each,
ten in an append. It lies in the system's temporary folder (TMPDIR) and in the page cache: a disk's time is not in this.

    python -m loadtests.bench.growth.log EVENTS FOLDER SECONDS
"""

import asyncio
import faulthandler
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from events.log.port import Append, EventLog
from loadtests.bench.growth.cases import GrowthFigures, GrowthPlan, GrowthSeries
from loadtests.bench.harness import machine
from loadtests.bench.harness.event_log import TOKEN, event_log, loop_factory
from loadtests.bench.harness.part import Cannot
from loadtests.bench.harness.processes import ROOT, SERVER_CORE, ClientFailed, on_core

TOPIC_EVENTS = 1000
BATCH = 10
"""Events in an append: a run's tokens come alone or a few together."""
AT_ONCE = 64
"""Topics written at the same time."""
FILL_S, TIMEOUT_S = 150.0, 180.0
"""Seconds for filling a file, else it is left out; and seconds for the whole, else the log is stuck."""
TOO_LARGE = 3
"""The process's exit code where the file was not filled in time."""
FREE = 1 << 30
BYTES_PER_EVENT = 200
"""More than an event takes: what must be free on the disk."""
TAIL, RESUMED = 20, 100
"""Events that a reader near the head reads; that one reads which comes back."""
SEED = 7
SLICE_S = 0.05


@dataclass
class LogRig:
    """The folder in which the file lies."""

    folder: Path
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0


def events(rig: LogRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures a file of so many events: its size, and what appends, reads and opening it cost."""
    free = shutil.disk_usage(rig.folder).free
    if free < FREE + count * BYTES_PER_EVENT:
        raise Cannot(f"hold {count:,} events in the {free / 1e9:.1f} GB free in {rig.folder.parent}")
    began, busy_s, children_s = time.monotonic(), machine.busy_s(), _children_s()
    figures = _in_its_process(count, rig.folder, plan.log_s)
    foreign_s = machine.busy_s() - busy_s - (_children_s() - children_s)
    rig.foreign_cores = foreign_s / (time.monotonic() - began)
    return figures


def _in_its_process(count: int, folder: Path, seconds: float) -> GrowthFigures:
    """Measures in a process of its own, whose messages go to the terminal. Raises Cannot, ClientFailed."""
    words = ["-m", "loadtests.bench.growth.log", str(count), str(folder), f"{seconds:g}"]
    command = on_core(SERVER_CORE, [sys.executable, *words])
    try:
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as err:
        raise ClientFailed(f"the log is stuck: no end within {TIMEOUT_S:g} s") from err
    if process.returncode == TOO_LARGE:
        raise Cannot(f"write a log of {count:,} events within {FILL_S:g} s")
    if process.returncode:
        raise ClientFailed(f"the log's process ended with {process.returncode}")
    return json.loads(process.stdout)


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def _measure(count: int, folder: Path, seconds: float) -> GrowthFigures:
    """Fills a file, opens it again, and measures. Raises TimeoutError when it is not filled in time."""
    began = time.perf_counter()
    async with event_log(folder / "log.db") as log, asyncio.timeout(FILL_S):
        await _fill(log, count)
    fill_s = time.perf_counter() - began
    size = _size(folder)
    topics = [f"t/{n}" for n in range(-(-count // TOPIC_EVENTS))]
    topic_events = min(count, TOPIC_EVENTS)
    rng = random.Random(SEED)
    began = time.perf_counter()
    async with event_log(folder / "log.db") as log:
        await log.read("t/0", 0, max_events=1)
        open_s = time.perf_counter() - began
        return {
            "file_mb": size / 1e6,
            "bytes_per_event": size / count,
            "open_ms": open_s * 1e3,
            "fill_per_s": count / fill_s,
            "tail_us": await _median_us(lambda: log.read(rng.choice(topics), topic_events - TAIL), seconds / 2),
            "resume_us": await _median_us(lambda: log.read(rng.choice(topics), topic_events - RESUMED), seconds / 2),
            "append_us": await _median_us(_one_by_one(log), seconds / 2),
            **await _burst(log, seconds),
        }


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def _fill(log: EventLog, count: int) -> None:
    """Writes whole topics, each event a token, some of them at the same time."""
    topics = iter(range(-(-count // TOPIC_EVENTS)))

    async def write() -> None:
        for n in topics:
            size = min(TOPIC_EVENTS, count - n * TOPIC_EVENTS)
            for first in range(0, size, BATCH):
                await log.append(Append(topic=f"t/{n}", data=[TOKEN] * min(BATCH, size - first)), patient=True)

    await asyncio.gather(*(write() for _ in range(AT_ONCE)))


def _one_by_one(log: EventLog) -> Callable[[], Awaitable[Any]]:
    return lambda: log.append(Append(topic="single", data=[TOKEN]))


async def _burst(log: EventLog, seconds: float) -> GrowthFigures:
    """Measures 300 runs, each of which appends its next token as soon as the last is durable.

    The rate is that of the median slice: a disk that stands still for a moment shows as the longest append.
    """
    began = time.perf_counter()
    slices = [0] * (round(seconds / SLICE_S) + 1)
    longest_s = 0.0

    async def run(topic: str) -> None:
        nonlocal longest_s
        while (sent_at := time.perf_counter()) < began + seconds:
            await log.append(Append(topic=topic, data=[TOKEN]), patient=True)
            now = time.perf_counter()
            longest_s = max(longest_s, now - sent_at)
            slices[min(int((now - began) / SLICE_S), len(slices) - 1)] += 1

    await asyncio.gather(*(run(f"burst/{n}") for n in range(300)))
    return {"append_per_s": statistics.median(slices[:-1]) / SLICE_S, "longest_ms": longest_s * 1e3}


async def _median_us(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Returns the median time of a call in µs, made again and again for so many seconds."""
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await call()
        durations.append(time.perf_counter() - began)
    return statistics.median(durations) * 1e6


SERIES = (
    GrowthSeries(
        "log", "events", "events in the file", (10**3, 10**4, 10**5, 10**6, 10**7), (10**3, 10**4, 10**5), events
    ),
)


def main(count: int, folder: Path, seconds: float) -> int:
    """Measures in this process, and prints the figures. Says where it is when it gets stuck."""
    faulthandler.dump_traceback_later(TIMEOUT_S - 10)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            print(json.dumps(runner.run(_measure(count, folder, seconds))))
    except TimeoutError:
        return TOO_LARGE
    finally:
        faulthandler.cancel_dump_traceback_later()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])))
