"""The chat lane beside the bare upstream and nginx: what a gateway adds to a token, and what it costs.

    python -m loadtests.bench chat [--quick] [--v1] [--upstream PROGRAM]

Round by round, each target in turn, so that noise of the machine falls on all of them. Cases: one stream and a
hundred at 50 tokens/s (time to first token), 20 unpaced streams (burst), 300 at 50 tokens/s (lag of each token).
Every stream is checked: each token once, in order, to the regular end. Raw figures go to `--out`, one JSON line
per round and target.
"""

import argparse
import json
import os
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtests.bench import machine, table
from loadtests.bench.build import tool
from loadtests.bench.processes import CLIENT_CORE, NotStarted, pinned
from loadtests.bench.servers import TARGETS, Ports, Target, missing, server, upstream

RESULTS = Path(__file__).resolve().parents[1] / "results" / "chat.jsonl"


@dataclass(frozen=True)
class Case:
    """One load: so many streams, of so many tokens, one every `interval_us` (0: unpaced)."""

    name: str
    streams: int
    tokens: int
    interval_us: int
    warm_s: float
    dur_s: float


CASES = (
    Case("one", 1, 2, 20_000, 0.2, 2.0),
    Case("hundred", 100, 100, 20_000, 2.0, 3.0),
    Case("burst", 20, 500, 0, 0.7, 1.5),
    Case("paced", 300, 100, 20_000, 2.0, 2.5),
)
WARM_UP = Case("warm-up", 4, 20, 1000, 0.1, 0.3)


class Bench:
    """One run of the benchmark: what stays the same from round to round, and the numbers given to requests."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.ports = Ports(server=args.port, upstream=args.port + 1)
        self.client = tool("load")
        self.upstream_pid = 0
        self.next_id = 0

    def measure(self, target: Target) -> dict[str, Any]:
        """One round of one target: a fresh server, all cases, its memory before and after."""
        settings = dict(pair.split("=", 1) for pair in self.args.env)
        with server(target, self.ports, settings) as pids:
            self.load(target, WARM_UP, pids, drain_s=1)
            time.sleep(0.2)
            idle = machine.rss_mb(pids)
            cases = {case.name: self.load(target, case, pids, target.drain_s) for case in CASES}
            return {"rss_idle_mb": idle, "rss_after_mb": machine.rss_mb(pids), "cases": cases}

    def load(self, target: Target, case: Case, pids: list[int], drain_s: float) -> dict[str, Any]:
        """Run the load client once, and read the server's CPU clock at both ends of what it measures."""
        port = self.ports.server if pids else self.ports.upstream
        text = target.body.replace("@T", str(case.tokens)).replace("@I", str(case.interval_us))
        options = {
            "port": port,
            "path": target.path,
            "body": text,
            "streams": case.streams,
            "tokens": case.tokens,
            "warm": case.warm_s,
            "dur": case.dur_s,
            "drain": drain_s,
            "first-id": self.next_id,
        }
        command = [str(self.client), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        with subprocess.Popen(pinned(CLIENT_CORE, command), stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            client.stdout.readline()
            before = self._clocks(pids)
            client.stdout.readline()
            after = self._clocks(pids)
            result = json.loads(client.stdout.readline())
        self.next_id = result["next_id"]
        return self._judge(result, before, after, drain_s)

    def _clocks(self, pids: list[int]) -> tuple[float, float, float, float]:
        """Wall, server, fake upstream with ourselves, and everything, in seconds."""
        ours = machine.cpu_ns([self.upstream_pid, os.getpid()]) / 1e9
        return time.monotonic(), machine.cpu_ns(pids) / 1e9, ours, machine.busy_s()

    def _judge(
        self, result: dict[str, Any], before: tuple[float, ...], after: tuple[float, ...], drain_s: float
    ) -> dict[str, Any]:
        wall, server_s, ours, busy = (b - a for a, b in zip(before, after, strict=True))
        if drain_s:  # what has not ended long after its last token never will
            result["bad"] += result["running"]
        foreign = (busy - server_s - ours - result["client_cpu_s"]) / wall
        return {
            **result,
            "server_core": server_s / wall,
            "server_us_per_token": server_s * 1e6 / max(1, result["tokens"]),
            "foreign_cores": max(0.0, foreign),
        }


def main(argv: list[str]) -> int:
    """Measure, print the table, return 1 when a server did not start or a stream was bad."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    bench = Bench(args)
    for port in (bench.ports.server, bench.ports.upstream):
        if not machine.port_is_free(port):
            raise SystemExit(f"port {port} is taken: what listens there would be measured; choose others with --port")
    if (os.cpu_count() or 1) > CLIENT_CORE:
        os.sched_setaffinity(0, {CLIENT_CORE})
    program = Path(args.upstream) if args.upstream else tool("llm")
    absent = {name: why for name in args.targets if (why := missing(TARGETS[name]))}
    with upstream(program.resolve(), bench.ports.upstream) as bench.upstream_pid:
        records = _rounds(bench, [name for name in args.targets if name not in absent])
    print()
    print(table.render(records, absent))
    return 1 if any(table.bad_streams(record) or "error" in record for record in records) else 0


def _stop(*_: object) -> None:
    raise SystemExit("stopped")  # through every `with`, so that no server outlives the benchmark


def _rounds(bench: Bench, names: list[str]) -> list[dict[str, Any]]:
    about = {"bench": "chat", "machine": machine.describe(), "versions": machine.versions(), "env": bench.args.env}
    about["cases_of_load"] = [asdict(case) for case in CASES]
    out = Path(bench.args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for turn in range(1 if bench.args.quick else bench.args.rounds):
        for name in names:
            record: dict[str, Any] = {**about, "time": time.time(), "round": turn, "target": name}
            machine.await_quiet(bench.args.quiet)
            try:
                record |= bench.measure(TARGETS[name])
            except NotStarted as err:
                record["error"] = str(err)
            with out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(table.progress(record), flush=True)
            records.append(record)
    return records


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtests.bench chat", description="What the chat lane adds to a token.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each target is measured (5)")
    parser.add_argument("--quick", action="store_true", help="one round: an indication, not a measurement")
    parser.add_argument("--targets", default="direct,nginx,litestar,trilane", help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--v1", action="store_true", help="also measure Trilane's /v1/chat/completions")
    parser.add_argument("--upstream", help="another fake upstream with the same marks and T= I=, called with a port")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting for Trilane")
    parser.add_argument("--quiet", type=float, default=0, help="wait up to so many seconds for other work to end (0)")
    parser.add_argument(
        "--port", type=int, default=18400, help="the server's port; the upstream takes the next (18400)"
    )
    parser.add_argument("--out", default=str(RESULTS), help="where raw results are appended")
    args = parser.parse_args(argv)
    args.targets = args.targets.split(",") + (["trilane-v1"] if args.v1 else [])
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"unknown target {unknown[0]!r}; there are {', '.join(TARGETS)}")
    return args
