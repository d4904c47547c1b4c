"""The chat lane is measured beside the bare upstream: what a gateway adds to a token, and what it costs.

    python -m loadtests.bench chat [--quick] [--peers] [--targets direct,trilane,trilane-v1]

Cases: one stream and a hundred at 50 tokens/s (time to first token), 20 unpaced streams (burst), 300 at 50 tokens/s
(lag of each token). Every stream is checked: each token once, in order, to the regular end.
"""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import asdict

from loadtests.bench.chat.cases import CASES, ChatPlan, ChatRig, RequestNumbers
from loadtests.bench.chat.servers import TARGETS, Ports, missing, upstream
from loadtests.bench.chat.table import TABLE
from loadtests.bench.harness import peers, rounds
from loadtests.bench.harness.arguments import targets_of
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.records import Record

OURS, EXTRAS = ("direct", "trilane"), ("trilane-v1", "trilane-responses", "trilane-messages")


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], ChatRig]]:
    """Runs the fake upstream for all measurements, and yields rigs that start a new server for each."""
    ports, requests = Ports(server=run.port, upstream=run.port + 1), RequestNumbers()
    with upstream(ports.upstream) as pid:

        def rig(job: Job) -> ChatRig:
            return ChatRig(TARGETS[job.target], ports, run.settings, run.plan, pid, requests)

        yield rig


def _about(run: Run) -> Record:
    """Returns the fields of every record that name the loads, and the versions of what the peers run."""
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
    plans=Plans(ChatPlan(share=0.6), quick=ChatPlan(share=0.5), long=ChatPlan()),
    session=session,
    table=TABLE,
    missing=lambda name: missing(TARGETS[name]),
    about=_about,
)


def main(argv: list[str]) -> int:
    """Measures the chat lane."""
    return rounds.main([PART], argv)
