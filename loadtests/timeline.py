"""A Locust plugin writes lines of JSON that show how a run goes, second by second; others read them.

`locust -f loadtests/mixed.py,loadtests/timeline.py --timeline FILE`. A line has what happened since the line before.
"""

import json
import time
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.stats import RequestStats, calculate_response_time_percentile

STEP_S = 1.0


@events.init_command_line_parser.add_listener
def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--timeline", default="", metavar="FILE", help="write a line of JSON each second")


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Writes the timeline where the figures of all processes come together."""
    path = environment.parsed_options.timeline if environment.parsed_options else ""
    if path and not isinstance(environment.runner, WorkerRunner):
        environment.events.test_start.add_listener(lambda **_: gevent.spawn(_write, environment, Path(path)))


def _write(environment: Environment, path: Path) -> None:
    began, before = time.monotonic(), Counts()
    with path.open("w") as file:
        while True:
            gevent.sleep(STEP_S)
            before = _line(file, time.monotonic() - began, environment, before)


class Counts:
    """Holds how often each response time has occurred so far, for each entry."""

    def __init__(self, stats: RequestStats | None = None) -> None:
        entries = stats.entries.values() if stats is not None else ()
        self.times = {f"{entry.method}/{entry.name}": Counter(entry.response_times) for entry in entries}
        self.faults = sum(entry.num_failures for entry in entries)

    def since(self, before: "Counts") -> dict[str, Any]:
        """Returns count and percentiles of each entry that had news."""
        figures: dict[str, Any] = {}
        for name, times in self.times.items():
            new = times - before.times.get(name, Counter())
            if total := new.total():
                p50, p95 = (calculate_response_time_percentile(new, total, share) for share in (0.5, 0.95))
                figures[name] = {"count": total, "p50": p50, "p95": p95}
        return figures


def _line(file: TextIO, at_s: float, environment: Environment, before: Counts) -> Counts:
    now = Counts(environment.stats)
    users = environment.runner.user_count if environment.runner is not None else 0
    line = {"at_s": round(at_s, 1), "users": users, "faults": now.faults, "measures": now.since(before)}
    file.write(json.dumps(line) + "\n")
    file.flush()
    return now
