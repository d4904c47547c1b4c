"""The events lane is measured: memory and CPU of streams, deliveries, storms, replays.

    python -m loadtests.bench events [--quick] [--peers] [--cases idle,fan-1000]

Every reader checks that it gets every event once, in order, under the id that all others see. Many idle streams for
minutes are another measurement: `scale.py`.
"""

import argparse
import contextlib
from collections.abc import Callable, Generator

from loadtests.bench.events.cases import CASES, QUICK, USUAL, EventsPlan, EventsRig
from loadtests.bench.events.servers import TARGETS, missing
from loadtests.bench.events.table import TABLE
from loadtests.bench.harness import machine, peers, rounds
from loadtests.bench.harness.arguments import targets_of
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.records import Record

OURS = ("trilane",)
SPARE_FILES = 100
"""Descriptors that the server with the most streams needs besides their sockets."""


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], EventsRig]]:
    """Keeps each target's highest rates for the next round."""
    best: dict[str, dict[str, float]] = {}

    def rig(job: Job) -> EventsRig:
        rates = best.setdefault(job.target, {})
        return EventsRig(TARGETS[job.target], run.port, job.folder, run.settings, run.plan, rates)

    yield rig


def _lacks(_: argparse.Namespace) -> str | None:
    streams, files = max(EventsPlan.idle), machine.allow_descriptors()
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
    plans=Plans(USUAL, quick=QUICK, long=EventsPlan()),
    session=session,
    table=TABLE,
    lacks=_lacks,
    missing=lambda name: missing(TARGETS[name]),
    cannot=lambda name, case: TARGETS[name].cannot.get(case),
    about=_about,
)


def main(argv: list[str]) -> int:
    """Measures the events lane."""
    return rounds.main([PART], argv)
