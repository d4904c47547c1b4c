"""The events lane beside nginx with Nchan: memory and CPU of streams, deliveries, storms, replays.

    python -m loadtests.bench events [--quick] [--cases idle,fan-1000] [--scale]

Round by round and load by load, each target in turn on a fresh server, so that drifts of the machine fall on all of
them. Every reader checks that it gets every event once, in order, under the id that all others see. Raw figures go to
`--out`, one JSON line per round, load and target. `--scale` is another, long measurement: see `scale.py`.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.bench import events_table, machine, scale
from loadtests.bench.events_cases import CASES, QUICK, Case, Plan, Rig
from loadtests.bench.fan_client import ClientFailed
from loadtests.bench.layout import NOISY_CORES, Record
from loadtests.bench.processes import CLIENT_CORE, NotStarted
from loadtests.bench.pubsub import TARGETS, missing

RESULTS = Path(__file__).resolve().parents[1] / "results" / "events.jsonl"
ATTEMPTS = 3


def main(argv: list[str]) -> int:
    """Measure, print the table, return 1 when a server did not start or a reader did not get what it should."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    files = machine.allow_descriptors()
    if not machine.port_is_free(args.port):
        raise SystemExit(f"port {args.port} is taken: what listens there would be measured; choose another with --port")
    if (os.cpu_count() or 1) > CLIENT_CORE:
        os.sched_setaffinity(0, {CLIENT_CORE})
    if args.scale:
        about = _about(args)
        return scale.run(args, files, lambda record: _keep(Path(args.out), {**about, **record}))
    if files < max(Plan.idle) + 100:
        raise SystemExit(f"{max(Plan.idle):,} streams need more than the {files:,} open files allowed: see ulimit -Hn")
    absent = {name: why for name in args.targets if (why := missing(TARGETS[name]))}
    records: list[Record] = []
    try:
        for record in _rounds(args, [name for name in args.targets if name not in absent]):
            records.append(record)
    finally:  # also what there is when it is stopped
        print(f"\n{events_table.render(records, absent)}")
    return 1 if any(record.get("error") or record.get("faults") for record in records) else 0


def _stop(*_: object) -> None:
    raise SystemExit("stopped")  # through every `with`, so that no server outlives the benchmark


def _rounds(args: argparse.Namespace, names: list[str]) -> Iterator[Record]:
    plan = QUICK if args.quick else Plan(rounds=args.rounds)
    about = {**_about(args), "plan": asdict(plan)}
    best: dict[str, dict[str, float]] = {name: {} for name in names}
    for turn in range(plan.rounds):
        for case in CASES:
            for name in [name for name in names if name in case.targets and case.name in args.cases]:
                for record in _attempts(args, case, name, plan, best[name]):
                    record = {**about, "time": time.time(), "round": turn, **record}
                    _keep(Path(args.out), record)
                    print(events_table.progress(record), flush=True)
                    yield record


def _attempts(
    args: argparse.Namespace, case: Case, name: str, plan: Plan, best: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """One measurement; with `--quiet` up to three, until other work did not disturb it: the calmest counts."""
    for _ in range(ATTEMPTS if args.quiet else 1):
        machine.await_quiet(args.quiet)
        record = _measure(args, case, name, plan, best)
        yield record
        if record["foreign_cores"] <= NOISY_CORES:
            return


def _measure(args: argparse.Namespace, case: Case, name: str, plan: Plan, best: dict[str, float]) -> dict[str, Any]:
    settings = dict(pair.split("=", 1) for pair in args.env)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        rig = Rig(TARGETS[name], args.port, Path(folder), settings, plan, args.client, best)
        found: dict[str, Any] = {"case": case.name, "target": name}
        try:
            found["figures"] = case.measure(rig)
        except (NotStarted, ClientFailed) as err:
            found["error"] = str(err)
    return {**found, "faults": rig.faults, "foreign_cores": rig.foreign_cores, "took_s": time.monotonic() - began}


def _about(args: argparse.Namespace) -> Record:
    return {"bench": "events", "machine": machine.describe(), "versions": machine.versions(), "env": args.env}


def _keep(out: Path, record: Record) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _arguments(argv: list[str]) -> argparse.Namespace:
    known = [case.name for case in CASES]
    parser = argparse.ArgumentParser(
        prog="loadtests.bench events", description="What the events lane costs and carries."
    )
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="how often everything is measured (3)")
    parser.add_argument("--quick", action="store_true", help="one short round: an indication, not a measurement")
    parser.add_argument("--targets", default="nchan,trilane,plain", help=f"some of {','.join(TARGETS)}")
    parser.add_argument("--cases", default=",".join(known), help="some of the loads (all)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="a setting for Trilane")
    parser.add_argument(
        "--quiet",
        type=float,
        default=0,
        help="wait up to so many seconds for other work to end, and repeat what it disturbed (0)",
    )
    parser.add_argument("--client", default="", metavar="PROGRAM", help="another build of fan.c")
    parser.add_argument("--port", type=int, default=18420, help="where the server listens (18420)")
    parser.add_argument("--out", default=str(RESULTS), help="where raw results are appended")
    scale.add_arguments(parser)
    args = parser.parse_args(argv)
    args.targets, args.cases = args.targets.split(","), args.cases.split(",")
    for kind, asked, there in (("target", args.targets, list(TARGETS)), ("load", args.cases, known)):
        if unknown := [name for name in asked if name not in there]:
            parser.error(f"unknown {kind} {unknown[0]!r}; there are {', '.join(there)}")
    return args
