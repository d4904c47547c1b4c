"""The chat lane beside the bare upstream: what a gateway adds to a token, and what it costs.

    python -m loadtests.bench chat [--quick] [--peers] [--targets direct,trilane,trilane-v1]

Cases: one stream and a hundred at 50 tokens/s (time to first token), 20 unpaced streams (burst), 300 at 50 tokens/s
(lag of each token). Every stream is checked: each token once, in order, to the regular end.
"""

import argparse
import contextlib
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path

from loadtests.bench import harness, peers
from loadtests.bench.arguments import targets_of
from loadtests.bench.build import tool
from loadtests.bench.chat_cases import CASES, Plan, Requests, Rig
from loadtests.bench.chat_table import TABLE
from loadtests.bench.harness import Job, Part, Plans, Run
from loadtests.bench.layout import Record
from loadtests.bench.servers import TARGETS, Ports, missing, upstream

OURS, EXTRAS = ("direct", "trilane"), ("trilane-v1",)


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], Rig]]:
    """The fake upstream, for all measurements; a new server for each."""
    ports, requests = Ports(server=run.port, upstream=run.port + 1), Requests()
    program = Path(run.args.upstream) if run.args.upstream else tool("llm")
    with upstream(program.resolve(), ports.upstream) as pid:

        def rig(job: Job) -> Rig:
            return Rig(TARGETS[job.target], ports, run.settings, run.plan, pid, requests)

        yield rig


def _arguments(parser: argparse.ArgumentParser) -> None:
    said = "chat: another fake upstream with the same marks and T= I=, called with a port"
    parser.add_argument("--upstream", metavar="PROGRAM", help=said)


def _about(run: Run) -> Record:
    """The loads, and what the peers run, in every record."""
    versions = peers.versions(TARGETS[name].environment for name in targets_of(PART, run.args))
    return {"versions": versions, "cases_of_load": [asdict(case) for case in CASES]}


PART = Part(
    name="chat",
    says="What the chat lane adds to a token.",
    port=18400,
    ports=2,
    cases=CASES,
    ours=OURS,
    peers=tuple(name for name in TARGETS if name not in OURS + EXTRAS),
    extras=EXTRAS,
    plans=Plans(Plan(share=0.6), quick=Plan(share=0.5), long=Plan()),
    session=session,
    table=TABLE,
    arguments=_arguments,
    missing=lambda name: missing(TARGETS[name]),
    about=_about,
)


def main(argv: list[str]) -> int:
    """Measure the chat lane."""
    return harness.main([PART], argv)
