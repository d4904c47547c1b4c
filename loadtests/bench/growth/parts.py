"""Growth measures each figure against its load: streams, readers, runs, sessions that speak, events in the log.

    python -m loadtests.bench growth [--quick] [--parts chat,events,audio,log] [--again]

Points go to `loadtests/results/growth.jsonl`, and `loadtests/GROWTH.md` with its plots is made from them. What was
measured at this commit on this machine is not measured again: a run that was stopped goes on where it was. A quick run
shows its tables and leaves the results of the repository alone.
"""

import argparse
import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from loadtests.bench.growth import page
from loadtests.bench.growth.cases import QUICK, GrowthPlan, GrowthSeries
from loadtests.bench.growth.log import LogRig
from loadtests.bench.growth.points import POINTS, PREFIX, read
from loadtests.bench.growth.table import GrowthTable
from loadtests.bench.harness import arguments, machine, records, rounds
from loadtests.bench.harness.part import Job, LeftOut, Part, Plans, Run
from loadtests.bench.report.pages import write

NAMES = ("events", "chat", "audio", "log")
PORT = 18500


def main(argv: list[str]) -> int:
    """Measures what is not known yet, then says what it means; 1 when something was not as it must be."""
    own, rest = _own(argv)
    out = Path(own.out or (arguments.OUT if own.quick else POINTS.parent))
    words = ["--rounds", "1", *rest, "--out", str(out), *(["--quick"] if own.quick else [])]
    there = set() if own.again else cases_of(out / POINTS.name, own.quick)
    parts = [part(name, own.quick, there) for name in own.parts]
    parts = [one for one in parts if isinstance(one, LeftOut) or one.cases]
    code = rounds.main(parts, words) if parts else 0
    if not parts:
        print("all of it was measured at this commit on this machine; --again measures it anew")
    if out / POINTS.name == POINTS:
        write(page.files(page.PAGE, POINTS))
    else:
        print(f"\n{page.summary(read(out / POINTS.name))}")
    return code


def part(name: str, quick: bool, there: set[str]) -> Part | LeftOut:
    """Returns a lane's part with the cases that are not there yet."""
    try:
        series: Sequence[GrowthSeries] = import_module(f"loadtests.bench.growth.{name}").SERIES
        lane = _LOG if name == "log" else import_module(f"loadtests.bench.{name}.part").PART
    except ModuleNotFoundError as err:
        return LeftOut(name, f"the package {err.name} is missing; install all extras: make dev")
    plan = QUICK if quick else GrowthPlan()
    return replace(
        lane,
        name=PREFIX + name,
        file=POINTS.stem,
        port=PORT,
        ports=2,
        cases=[case for one in series for case in one.cases(plan) if f"{PREFIX}{name} {case.name}" not in there],
        ours=("trilane",),
        peers=(),
        extras=(),
        plans=Plans(GrowthPlan(), quick=QUICK),
        table=GrowthTable(series),
        about=lambda run: {**lane.about(run), "command": _command(name, run)},
    )


def cases_of(path: Path, quick: bool) -> set[str]:
    """Returns the cases that have figures from this commit and machine, as thorough as is asked for."""
    if not path.exists():
        return set()
    here, commit = machine.describe(), machine.versions().get("commit")
    return {
        f"{record['bench']} {record['case']}"
        for record in records.read(path)
        if "figures" in record
        and record["plan"]["quick"] <= quick
        and record["machine"] == here
        and record["versions"].get("commit") == commit
    }


def _command(name: str, run: Run) -> str:
    words = ["python -m loadtests.bench growth", "--parts", name, *(["--quick"] if run.args.quick else [])]
    return " ".join([*words, *(f"--env {pair}" for pair in run.args.env)])


@contextlib.contextmanager
def _log_session(_: Run) -> Generator[Callable[[Job], LogRig]]:
    yield lambda job: LogRig(job.folder)


_LOG = Part(
    name="log",
    says="What the log costs when it holds much.",
    port=PORT,
    cases=(),
    ours=("trilane",),
    plans=Plans(GrowthPlan(), quick=QUICK),
    session=_log_session,
    table=GrowthTable(()),
)


def _own(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments of this benchmark alone, and the rest of the words."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench growth",
        description="Each figure against its load.",
        epilog="And what every part of the benchmark may be told:",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--parts", default=",".join(NAMES), help=f"some of {','.join(NAMES)} (all)")
    parser.add_argument("--again", action="store_true", help="also what was measured at this commit on this machine")
    parser.add_argument("--quick", action="store_true", help="2 minutes, and nothing is written into the repository")
    parser.add_argument("--out", default="", help="another folder for growth.jsonl")
    if {"-h", "--help"} & set(argv):
        parser.print_help()
    own, rest = parser.parse_known_args(argv)
    own.parts = own.parts.split(",")
    if strangers := [name for name in own.parts if name not in NAMES]:
        parser.error(f"unknown part {strangers[0]!r}; there are {', '.join(NAMES)}")
    return own, rest
