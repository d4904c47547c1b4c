"""The events lane: memory and CPU of streams, deliveries, storms, replays.

    python -m loadtests.bench events [--quick] [--peers] [--cases idle,fan-1000]

Every reader checks that it gets every event once, in order, under the id that all others see. Many idle streams for
minutes are another measurement: `scale.py`.
"""

import argparse
import contextlib
from collections.abc import Callable, Generator

from loadtests.bench import harness, machine, peers
from loadtests.bench.arguments import targets_of
from loadtests.bench.events_cases import CASES, QUICK, Plan, Rig
from loadtests.bench.events_table import TABLE
from loadtests.bench.harness import Job, Part, Plans, Run
from loadtests.bench.layout import Record
from loadtests.bench.pubsub import TARGETS, missing

OURS = ("trilane",)
SPARE_FILES = 100
"""Descriptors of a server with the most streams, besides their sockets."""


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], Rig]]:
    """What was learnt of each target's highest rates is kept for the next round."""
    best: dict[str, dict[str, float]] = {}

    def rig(job: Job) -> Rig:
        known = best.setdefault(job.target, {})
        return Rig(TARGETS[job.target], run.port, job.folder, run.settings, run.plan, run.args.client, known)

    yield rig


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", default="", metavar="PROGRAM", help="events: another build of fan.c")


def _lacks(_: argparse.Namespace) -> str | None:
    streams, files = max(Plan.idle), machine.allow_descriptors()
    if files < streams + SPARE_FILES:
        return f"{streams:,} streams need more than the {files:,} open files allowed; raise the limit: ulimit -Hn"
    return None


def _about(run: Run) -> Record:
    return {"versions": peers.versions(TARGETS[name].environment for name in targets_of(PART, run.args))}


PART = Part(
    name="events",
    says="What the events lane costs and carries.",
    port=18420,
    cases=CASES,
    ours=OURS,
    peers=tuple(name for name in TARGETS if name not in OURS),
    plans=Plans(Plan(step_s=1.0, within=1.1, steps=5, slow_turns=1, publish_s=2.0), quick=QUICK, long=Plan()),
    session=session,
    table=TABLE,
    arguments=_arguments,
    lacks=_lacks,
    missing=lambda name: missing(TARGETS[name]),
    cannot=lambda name, case: TARGETS[name].cannot.get(case),
    about=_about,
)


def main(argv: list[str]) -> int:
    """Measure the events lane."""
    return harness.main([PART], argv)
