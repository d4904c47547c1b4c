"""Every part of the benchmark runs in one loop: rounds of cases of targets, a record for each, the table, the exit.

A part says what it measures (`part.py` has every field), and the harness does the rest:

    PART = Part(
        name="events", says="What an event costs.",     # its word on the command line; a line for --help
        port=18420,                                     # the first of the ports it listens on
        cases=CASES,                                    # loads, with `name`, `targets` and `measure(rig) -> figures`
        ours=("trilane", "plain"), peers=("nchan",),    # targets measured always, and those that --peers adds
        plans=Plans(Plan(), quick=Plan(step_s=1)),      # how much is measured: dataclasses of the part's own
        session=session,                                # Run -> context manager of (Job -> rig)
        table=TABLE,                                    # `render(records, absent)` and `progress(record)`
    )

    def main(argv: list[str]) -> int:
        return rounds.main([PART], argv)

Round by round and case by case, each target in turn, so that drifts of the machine fall on all of them. A rig is what
the cases measure with; after `measure` it tells its `faults` and `foreign_cores`, the other work of the machine. With
`--quiet` a measurement that other work disturbed is repeated, up to three times.

A record is one line of JSON: `bench`, `run` (when it began), `command`, `machine`, `versions`, `pinned`, `plan`, `env`,
`time`, `round`, `case`, `target`, `figures` (or `error`, or `cannot`: why the target cannot do this), `faults`,
`foreign_cores`, `took_s`. The exit code is 1 when one of `ours` had a fault or an error; of peers they are only told.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.bench.harness import machine
from loadtests.bench.harness.arguments import cases_of, parse, targets_of
from loadtests.bench.harness.part import Cannot, Case, Job, LeftOut, Part, Run, group
from loadtests.bench.harness.processes import ClientFailed, NotStarted
from loadtests.bench.harness.records import NOISY_CORES, Record

ATTEMPTS = 3


def main(parts: Sequence[Part | LeftOut], argv: list[str]) -> int:
    """Measures these parts one after the other and says what was left out; 1 when something was not as it must be."""
    there = [part for part in parts if isinstance(part, Part)]
    args = parse(there, argv)
    signal.signal(signal.SIGTERM, _stop)
    machine.allow_descriptors()
    left_out = [part for part in parts if isinstance(part, LeftOut)]
    left_out += [LeftOut(part.name, why) for part in there if (why := part.lacks(args))]
    measurable = [part for part in there if part.name not in [one.name for one in left_out]]
    failures = [part.name for part in measurable if not _measure_part(part, args, argv)]
    for one in left_out:
        print(f"\n{one.name} was left out: {one.why}")
    if failures:
        print(f"\nnot as it must be: {', '.join(failures)}")
    return 1 if failures or not measurable else 0


def _stop(*_: object) -> None:
    raise SystemExit("stopped")  # through every `with`, so that no server outlives the benchmark


def _measure_part(part: Part, args: argparse.Namespace, argv: list[str]) -> bool:
    """Measures one part and prints its table; returns whether all of ours was as it must be."""
    run = Run(args, part.plans.chosen(args), args.port or part.port)
    _refuse_taken_ports(part, run)
    names = targets_of(part, args)
    absent = {name: why for name in names if (why := part.missing(name))}
    records: list[Record] = []
    print(f"\n{part.name}: {', '.join(name for name in names if name not in absent)}", flush=True)
    with _on_core(part.client_core):
        try:
            for record in _rounds(part, run, [name for name in names if name not in absent], argv):
                records.append(record)
        finally:  # also what there is when it is stopped
            print(f"\n{part.table.render(records, absent)}", flush=True)
    return bool(records) and not any(_wrong(part, record) for record in records)


def _wrong(part: Part, record: Record) -> bool:
    return record["target"] not in part.peers and bool(record.get("error") or record["faults"])


def _refuse_taken_ports(part: Part, run: Run) -> None:
    for port in range(run.port, run.port + part.ports):
        if not machine.port_is_free(port):
            raise SystemExit(f"port {port} is taken: what listens there would be measured; choose others with --port")


@contextlib.contextmanager
def _on_core(core: int) -> Generator[None]:
    """Puts this process on the client's core, where there is one; the next part may have it elsewhere."""
    before = os.sched_getaffinity(0)
    if core in before:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _rounds(part: Part, run: Run, names: list[str], argv: list[str]) -> Iterator[Record]:
    about = _about(part, run, argv)
    out = _results(part, run.args)
    with part.session(run) as rig_of:
        for turn in range(1 if run.args.quick else run.args.rounds):
            for case in cases_of(part, run.args):
                if turn and group(case) in part.once:
                    continue
                for target in [name for name in names if name in case.targets]:
                    for attempt in _attempts(part, run, case, target, rig_of):
                        record = {**about, "time": time.time(), "round": turn, **attempt}
                        _keep(out, record)
                        print(part.table.progress(record), flush=True)
                        yield record


def _attempts(part: Part, run: Run, case: Case, target: str, rig_of: Any) -> Iterator[Record]:
    """Measures once; with `--quiet` up to three times, until other work did not disturb it: the calmest counts."""
    if why := part.cannot(target, case.name):
        yield {"case": case.name, "target": target, "cannot": why, "faults": {}, "foreign_cores": 0.0, "took_s": 0.0}
        return
    for _ in range(ATTEMPTS if run.args.quiet else 1):
        machine.await_quiet(run.args.quiet)
        record = _measure(case, target, rig_of)
        yield record
        if record["foreign_cores"] <= NOISY_CORES or "figures" not in record:
            return


def _measure(case: Case, target: str, rig_of: Any) -> Record:
    began = time.monotonic()
    outcome: Record = {"case": case.name, "target": target}
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder:
        rig = rig_of(Job(case, target, Path(folder)))
        try:
            outcome["figures"] = case.measure(rig)
        except Cannot as why:
            outcome["cannot"] = str(why)
        except (NotStarted, ClientFailed) as err:
            outcome["error"] = str(err)
    took_s = time.monotonic() - began
    return {**outcome, "faults": rig.faults, "foreign_cores": max(0.0, rig.foreign_cores), "took_s": took_s}


def _about(part: Part, run: Run, argv: list[str]) -> Record:
    """Returns the fields that are the same in every record of a run."""
    words = [re.sub(r"(^|=)/.*/", r"\1", word) for word in argv]  # no path of this machine
    own = part.about(run)
    return {
        "bench": part.name,
        "run": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": " ".join(["python -m loadtests.bench", part.name, *words]),
        "machine": machine.describe(),
        "versions": {**machine.versions(), **own.pop("versions", {})},
        "pinned": {"server": list(part.server_cores(run.args)), "client": [part.client_core]},
        "plan": asdict(run.plan),
        "env": run.args.env,
        **own,
    }


def _results(part: Part, args: argparse.Namespace) -> Path:
    """Returns the file of a part's results: `--out` is a folder, or for a single part a file."""
    out = Path(args.out)
    return out if out.suffix == ".jsonl" else out / f"{part.file or part.name}.jsonl"


def _keep(out: Path, record: Record) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a") as file:
        file.write(json.dumps(record) + "\n")
