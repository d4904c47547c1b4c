"""`python -m loadtests.load`, or `make load`, puts two minutes of people on every lane, and writes a verdict and a
report.

Without `--host` it starts what it loads (`loadtests.deployment`). Options it does not know go to Locust: `--token`,
`--cut`, `--listeners`, `--speech`, `--processes`; see `locust -f loadtests/mixed.py --help`. The exit code is 0 only
when every check held and every lane that was asked for was measured.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import msgspec

from loadtests import report
from loadtests.bench.harness.machine import allow_descriptors
from loadtests.bench.harness.processes import ROOT, NotStarted
from loadtests.deployment import MISTAKES, can_ask, deployment
from loadtests.outcome import LANES, Assignment, Outcome, judge, span
from loadtests.progress import Progress, read_timeline
from loadtests.users.fault import Fault
from loadtests.users.tally import FaultCount, Summary

STOP_S = 20
"""Seconds that users may take to finish when the time is over."""
GRACE_S = 60
"""Seconds that Locust itself may take to begin and to end."""
TIMELINE = "timeline.jsonl"
EVERY_S = 5.0
"""Seconds between two lines of progress."""
FILES = "loadtests/mixed.py,loadtests/timeline.py"
_TIME = re.compile(r"(?:(\d+)m)?(?:(\d+)s?)?")


class NoVerdict(Exception):
    """Locust did not get as far as a verdict; the message ends with what it printed."""


@dataclass(frozen=True)
class Options:
    """Holds the parsed command line; `rest` is for Locust."""

    host: str
    lanes: tuple[str, ...]
    users: int
    speakers: int
    seconds: int
    out: Path
    via: str
    settings: dict[str, str]
    rest: list[str]
    is_ours: bool = False
    """Whether the gateway was started for this run."""


def main() -> int:
    """Runs the load; returns the exit code."""
    options = parse(sys.argv[1:])
    allow_descriptors()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with _target(options) as host:
            outcome = run(replace(options, host=host, is_ours=not options.host))
    except (NotStarted, NoVerdict) as err:
        print(f"Nothing was loaded: {err}", file=sys.stderr)
        return 1
    _conclude(outcome, options.out)
    return 0 if outcome.ok else 1


def parse(arguments: Sequence[str]) -> Options:
    """Parses the arguments; exits with 2 and a message when they cannot be understood."""
    parser = argparse.ArgumentParser(prog="loadtests.load", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--host", default="", help="a gateway that runs; without it one is started")
    parser.add_argument("--users", type=int, default=30, help="people at once (30)")
    parser.add_argument("--time", type=_seconds, default=120, metavar="T", help="90s or 2m (2m)")
    parser.add_argument("--lanes", type=_lanes, default=tuple(LANES), metavar="A,B", help=f"of {','.join(LANES)} (all)")
    parser.add_argument(
        "--speakers", type=int, default=_speakers(), help="people who speak, among the users (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "load", metavar="DIR", help="report (build/load)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="of the gateway it starts")
    parser.add_argument("--via-proxy", choices=MISTAKES, default="", help="rehearse: with this mistake it must fail")
    options, rest = parser.parse_known_args(arguments)
    if options.host and (options.via_proxy or options.env):
        parser.error("--via-proxy and --env are for the gateway that is started without --host")
    return Options(
        host=options.host.rstrip("/"),
        lanes=options.lanes,
        users=options.users,
        speakers=options.speakers,
        seconds=options.time,
        out=options.out.resolve(),
        via=options.via_proxy,
        settings=dict(pair.split("=", 1) for pair in options.env),
        rest=rest,
    )


def _seconds(text: str) -> int:
    match = _TIME.fullmatch(text)
    if not text or match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: say 90s or 2m")
    return 60 * int(match[1] or 0) + int(match[2] or 0)


def _lanes(text: str) -> tuple[str, ...]:
    strangers = [name for name in text.split(",") if name not in LANES]
    if strangers:
        raise argparse.ArgumentTypeError(f"no lane {strangers[0]!r}: there are {', '.join(LANES)}")
    return tuple(name for name in LANES if name in text.split(","))


def _speakers() -> int:
    """Returns how many people speak: transcription takes the cores that everything else of the run needs too."""
    return max(1, min(4, (os.cpu_count() or 1) // 2))


@contextlib.contextmanager
def _target(options: Options) -> Generator[str]:
    if options.host:
        yield options.host
        return
    print("Starting a Trilane with all lanes, and a fake upstream ...", flush=True)
    with deployment(options.settings, via=options.via, with_audio="audio" in options.lanes) as there:
        yield there.url


def run(options: Options) -> Outcome:
    """Loads the host, shows how it goes, writes the report. Raises NoVerdict."""
    through = f" through a proxy that has the mistake `{options.via}`" if options.via else ""
    print(f"{options.users} users for {span(options.seconds)} on {options.host}{through}\n", flush=True)
    began = datetime.now().astimezone()
    verdict = _locust(options)
    timeline = read_timeline(options.out / TIMELINE)
    lasted_s = timeline[-1]["at_s"] if timeline else 0.0
    outcome = judge(
        Assignment(options.host, options.lanes, options.users, options.seconds, options.via, lasted_s), verdict
    )
    command = " ".join(["python -m loadtests.load", *report.mask(sys.argv[1:])])
    about = report.About(began, command, with_gateway=options.is_ours)
    (options.out / "report.html").write_text(report.page(outcome, about, timeline))
    return outcome


def _locust(options: Options) -> Summary:
    """Runs Locust to its end, and returns its verdict."""
    verdict, log = options.out / "verdict.json", options.out / "locust.log"
    for stale in (verdict, options.out / TIMELINE):
        stale.unlink(missing_ok=True)
    with log.open("w") as output:
        child = subprocess.Popen(_command(options, verdict), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            _watch(child, options)
        finally:
            if child.poll() is None:
                child.kill()
    if not verdict.exists():
        raise NoVerdict(f"Locust ended with {child.returncode}; {log} ends with\n{log.read_text()[-1500:].strip()}")
    return with_failure(msgspec.json.decode(verdict.read_bytes(), type=Summary), child.returncode)


def with_failure(verdict: Summary, code: int) -> Summary:
    """Returns a verdict with a fault added when Locust failed without one: then a user of ours broke."""
    if code == 0 or verdict.faults or not verdict.measures:
        return verdict
    first = f"Locust ended with {code}, though no user found a fault: locust.log says why"
    error = Fault.ERROR
    return replace(verdict, ok=False, faults=[FaultCount(error.name, error.title, error.sentence, 1, first)])


def _command(options: Options, verdict: Path) -> list[str]:
    users = [user for lane in options.lanes for user in LANES[lane].users]
    if options.is_ours and "chat" in options.lanes and can_ask():
        users.append("AskingUser")
    speaking = json.dumps({"user_class_name": "AudioUser", "fixed_count": options.speakers})
    return [
        *(sys.executable, "-m", "locust", "-f", FILES, "--headless", "--only-summary", "--host", options.host),
        *("-u", str(options.users), "-t", f"{options.seconds}s"),
        *("-s", str(STOP_S), "--html", str(options.out / "locust.html")),
        *("--verdict", str(verdict), "--timeline", str(options.out / TIMELINE)),
        *options.rest,
        *(("--config-users", speaking) if "audio" in options.lanes else ()),
        *("-r", str(max(1, options.users / 5)), *users),
    ]


def _watch(child: subprocess.Popen[bytes], options: Options) -> None:
    """Prints a line now and then until Locust ends; ends it when it does not."""
    progress = Progress(options.out / TIMELINE)
    end = time.monotonic() + options.seconds + STOP_S + GRACE_S
    while time.monotonic() < end:
        try:
            child.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            if line := progress.line():
                print(line, flush=True)
        except KeyboardInterrupt:  # Locust got it too: it stops its users and says what it has
            print("Stopping ...", flush=True)
        else:
            return


def _conclude(outcome: Outcome, out: Path) -> None:
    print(f"\n{'PASSED' if outcome.ok else 'FAILED'}. {outcome.headline}")
    for sentence, first in outcome.problems:
        print(f"  {sentence}" + (f"\n    first seen: {first}" if first else ""))
    for note in outcome.notes:
        print(f"  {note}")
    if outcome.measures:
        print()
    for line in report.lines(outcome.measures):
        print(f"  {line}")
    print(f"\nReport: {out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
