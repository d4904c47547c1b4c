"""Measures appends to the log of `TRILANE_LOG` in a process of its own, beside what its server does bare.

Producers append an event of 100 bytes at a time to many topics, and each waits for its append. After each number of
producers the bare server has the same number of appends in each request (`bare.py`), in the same process, so that both
meet the same machine, the same server and the same topics.

    TRILANE_LOG=URL python -m loadtests.bench.engines.appends SECONDS [STORE_PID]
"""

import asyncio
import json
import sys
import time
from typing import Any

from events.log.port import Append, EventLog
from gateway.core.engines import make_log, retention_policy
from gateway.settings import load
from loadtests.bench.engines.bare import bare_server
from loadtests.bench.engines.producers import EVENT, PRODUCERS, TOPICS, summary
from loadtests.bench.harness import machine
from loadtests.bench.harness.event_log import loop_factory
from loadtests.bench.harness.records import Figures

WARM_UP_SHARE = 0.25
"""Part of the seconds of a measurement for which the same is done before it."""


async def measure(seconds: float, store_pid: int | None) -> Figures:
    """Returns the figures of each number of producers, by that number in words."""
    settings = load()
    log = make_log(settings)
    await log.open()
    try:
        await asyncio.gather(*(log.append(Append(topic=topic, data=[EVENT])) for topic in TOPICS))
        bare = bare_server(settings.log_url, retention_policy(settings)(TOPICS[0]))
        figures = Figures()
        for count in PRODUCERS:
            await _produce(log, count, seconds * WARM_UP_SHARE)
            ours = await _measured(log, count, seconds, store_pid)
            figures[str(count)] = {**ours, "bare": bare(count, seconds) if bare else None}
            await asyncio.sleep(0.2)  # hears what the bare requests have published
        return figures
    finally:
        await log.close()


async def _measured(log: EventLog, count: int, seconds: float, store_pid: int | None) -> Figures:
    pids = machine.tree(store_pid) if store_pid else []
    process_s, store_ns = time.process_time(), machine.cpu_ns(pids)
    figures = summary(*await _produce(log, count, seconds))
    return {
        **figures,
        "us_per_append": (time.process_time() - process_s) * 1e6 / figures["appends"],
        "store_us_per_append": (machine.cpu_ns(pids) - store_ns) / 1e3 / figures["appends"],
    }


async def _produce(log: EventLog, count: int, seconds: float) -> tuple[list[float], float]:
    """Runs so many producers; returns how long each append took, and all of them together, in seconds."""
    took_s: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    async def produce(topics: list[str]) -> None:
        number = 0
        while (sent_at := time.perf_counter()) < end:
            await log.append(Append(topic=topics[number % len(topics)], data=[EVENT]))
            took_s.append(time.perf_counter() - sent_at)
            number += 1

    await asyncio.gather(*(produce(TOPICS[n::count]) for n in range(count)))
    return took_s, time.perf_counter() - began


def main(argv: list[str]) -> int:
    """Measures, and prints the figures."""
    seconds, store_pid = float(argv[0]), int(argv[1]) if len(argv) > 1 else None
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        figures: dict[str, Any] = runner.run(measure(seconds, store_pid))
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
