"""What the log costs: appends of tokens in bursts and paced, latency when idle, reads. On one core, as a unit runs.

    python -m loadtests.bench_log [--engine sqlite|memory] [--path FILE] [--core N] [--seconds S] [--only NAME]

`paced` is the traffic of a chat unit: many runs, each appending a token at a time, on an event loop that is busy with
something else too (`--busy-us` of work for each event told, about what encoding a frame and writing it costs).
"""

import argparse
import asyncio
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from events.log.memory import MemoryLog
from events.log.port import Append, Commit, EventLog, Retention
from events.log.sqlite.engine import SqliteLog

TOKEN = b'{"type":"text-delta","id":"0","delta":" hello"}'
TOPICS = 300


class Busy:
    """A listener that takes as long as the readers' side of a gateway would."""

    def __init__(self, us_per_event: float) -> None:
        self.s_per_event = us_per_event / 1e6
        self.events = 0
        self.commits = 0

    def __call__(self, commits: Sequence[Commit]) -> None:
        events = sum(len(commit.block.data) for commit in commits if commit.block is not None)
        self.events += events
        self.commits += 1
        until = time.perf_counter() + events * self.s_per_event
        while time.perf_counter() < until:
            pass


def quantiles(latencies_s: list[float]) -> str:
    if len(latencies_s) < 2:
        return "no samples"
    cuts = statistics.quantiles(latencies_s, n=1000)
    p50, p99, p999 = cuts[499], cuts[989], cuts[998]
    return f"p50 {p50 * 1e3:.2f} p99 {p99 * 1e3:.2f} p99.9 {p999 * 1e3:.2f} max {max(latencies_s) * 1e3:.2f} ms"


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def idle(log: EventLog, arguments: argparse.Namespace) -> str:
    """One append at a time, on a process that does nothing else."""
    latencies: list[float] = []
    for _ in range(int(arguments.seconds * 150)):
        await asyncio.sleep(0.005)
        began = time.perf_counter()
        await log.append(Append(topic="idle", data=[TOKEN]))
        latencies.append(time.perf_counter() - began)
    return quantiles(latencies)


async def chain(log: EventLog, arguments: argparse.Namespace) -> str:
    """One append after the other."""
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + arguments.seconds / 2:
        await log.append(Append(topic="chain", data=[TOKEN]))
        count += 1
    return f"{count / (time.perf_counter() - began):,.0f} appends/s"


async def burst(log: EventLog, arguments: argparse.Namespace) -> str:
    """Every run appends its next token as soon as the last one is told: as many as can be."""
    count, began = 0, time.perf_counter()

    async def run(topic: str) -> None:
        nonlocal count
        expect = 1
        while time.perf_counter() < began + arguments.seconds:
            data = [TOKEN] * arguments.chunk
            await log.append(Append(topic=topic, data=data, expect=expect), patient=True)
            expect += len(data)
            count += len(data)

    cpu = cpu_s()
    await asyncio.gather(*(run(f"burst/{n}") for n in range(TOPICS)))
    took = time.perf_counter() - began
    return f"{count / took:,.0f} events/s, {(cpu_s() - cpu) / count * 1e6:.1f} us of CPU each"


async def flood(log: EventLog, arguments: argparse.Namespace) -> str:
    """Each run has 20 appends of one token under way: what arrives while the last group is written is merged."""
    count, began = 0, time.perf_counter()

    async def run(topic: str) -> None:
        nonlocal count
        while time.perf_counter() < began + arguments.seconds:
            calls = [log.append(Append(topic=topic, data=[TOKEN]), patient=True) for _ in range(20)]
            for call in calls:
                await call
            count += len(calls)

    cpu = cpu_s()
    await asyncio.gather(*(run(f"flood/{n}") for n in range(TOPICS)))
    took = time.perf_counter() - began
    return f"{count / took:,.0f} events/s, {(cpu_s() - cpu) / count * 1e6:.1f} us of CPU each"


async def paced(log: EventLog, arguments: argparse.Namespace) -> str:
    """Runs that append one token each 20 ms, on a busy loop."""
    busy = Busy(arguments.busy_us)
    log.listener = busy
    latencies: list[float] = []
    period = 1 / arguments.rate
    began = time.perf_counter() + 0.1

    async def run(number: int) -> None:
        due, expect = began + number * period / TOPICS, 1
        while due < began + arguments.seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sent = time.perf_counter()
            await log.append(Append(topic=f"paced/{number}", data=[TOKEN], expect=expect), patient=True)
            latencies.append(time.perf_counter() - sent)
            due, expect = due + period, expect + 1

    cpu = cpu_s()
    await asyncio.gather(*(run(number) for number in range(TOPICS)))
    took = time.perf_counter() - began
    used = (cpu_s() - cpu) / took
    return (
        f"{len(latencies) / took:,.0f} appends/s in {busy.commits / took:.0f} commits/s, {quantiles(latencies)}, "
        f"{used:.0%} of a core, of it {busy.events * busy.s_per_event / took:.0%} simulated"
    )


async def churn(log: EventLog, arguments: argparse.Namespace) -> str:
    """As `paced`, but runs are of 100 tokens: each makes its topic and closes it, and notes both in its chat's.

    They begin one after the other, so the latencies are also those of fewer than all.
    """
    busy = Busy(arguments.busy_us)
    log.listener = busy
    latencies: list[float] = []
    period = 1 / arguments.rate
    began = time.perf_counter() + 0.1

    async def append(*appends: Append, patient: bool) -> None:
        sent = time.perf_counter()
        await log.append(*appends, patient=patient)
        latencies.append(time.perf_counter() - sent)

    async def run(number: int) -> None:
        due, chat = began + number * period * (1 + 1 / TOPICS), f"chat/{number}"
        for nth in range(1_000_000):
            topic = f"run/{number}/{nth}"
            for token in range(100):
                if due > began + arguments.seconds:
                    return
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                one = Append(topic=topic, data=[TOKEN], close=token == 99)
                if token in (0, 99):
                    await append(one, Append(topic=chat, data=[TOKEN]), patient=False)
                else:
                    await append(one, patient=True)
                due += period

    cpu = cpu_s()
    await asyncio.gather(*(run(number) for number in range(TOPICS)))
    took = time.perf_counter() - began
    return (
        f"{len(latencies) / took:,.0f} appends/s in {busy.commits / took:.0f} commits/s, {quantiles(latencies)}, "
        f"{(cpu_s() - cpu) / took:.0%} of a core"
    )


async def read(log: EventLog, arguments: argparse.Namespace) -> str:
    """Replay, 1000 events at a time, of a topic that was written a token at a time among others."""
    for _ in range(3000):
        await asyncio.gather(*(log.append(Append(topic=f"read/{n}", data=[TOKEN])) for n in range(5)))
    count, began, cpu = 0, time.perf_counter(), cpu_s()
    latencies: list[float] = []
    while time.perf_counter() < began + arguments.seconds / 2:
        after, head = 0, 1
        while after < head:
            sent = time.perf_counter()
            found = await log.read("read/2", after)
            latencies.append(time.perf_counter() - sent)
            head, after = found.head, found.blocks[-1].last
        count += head
    took = time.perf_counter() - began
    return f"{count / took:,.0f} events/s, {quantiles(latencies)} a read, {(cpu_s() - cpu) / count * 1e6:.2f} us each"


async def attach(log: EventLog, arguments: argparse.Namespace) -> str:
    """Short reads of many topics, as after a restart: 64 at a time."""
    for n in range(200):
        await log.append(Append(topic=f"attach/{n}", data=[TOKEN] * 20))
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + arguments.seconds / 2:
        await asyncio.gather(*(log.read(f"attach/{(count + n) % 200}", 5) for n in range(64)))
        count += 64
    return f"{count / (time.perf_counter() - began):,.0f} reads/s"


Scenario = Callable[[EventLog, argparse.Namespace], Awaitable[str]]
SCENARIOS: tuple[Scenario, ...] = (idle, chain, burst, flood, paced, churn, read, attach)


def make_log(engine: str, path: Path) -> EventLog:
    def retention(topic: str) -> Retention:
        return Retention(events=10_000, max_bytes=16 << 20, age_s=7 * 86_400)

    return MemoryLog(retention) if engine == "memory" else SqliteLog(path, retention)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The loop that the units run on."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def measure(arguments: argparse.Namespace, path: Path) -> None:
    for scenario in SCENARIOS:
        if arguments.only in (None, scenario.__name__):
            log = make_log(arguments.engine, path / f"{scenario.__name__}.db")
            await log.open()
            print(f"{scenario.__name__:7} {await scenario(log, arguments)}", flush=True)
            await log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--path", type=Path, help="a directory on the disk to measure")
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--busy-us", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--chunk", type=int, default=1)
    parser.add_argument("--switch-ms", type=float, help="sys.setswitchinterval, to see what it changes")
    parser.add_argument("--only", choices=[scenario.__name__ for scenario in SCENARIOS])
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {arguments.core})
    if arguments.switch_ms:
        sys.setswitchinterval(arguments.switch_ms / 1e3)
    directory = tempfile.TemporaryDirectory(dir=arguments.path)
    with directory as path, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(measure(arguments, Path(path)))


if __name__ == "__main__":
    main()
