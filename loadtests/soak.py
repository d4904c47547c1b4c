"""`python -m loadtests.soak`, or `make soak`, has people on every lane for twenty minutes, and says whether what the
gateway holds of the machine grows.

The people are those of `loadtests.load`, at a deployment that is started for it. They come twice: once to warm it up,
for a quarter of an hour, because the heap of a process that listens is as large as its busiest moment so far, and
busier ones grow rare; and then for `--time`, during which memory and descriptors of every process of the gateway are
looked at each second. After either visit all have left, and what the gateway then holds must be the same. Before them
the log is filled past all that SQLite keeps of it in memory, and more names are asked for than are kept of any: those
caches have a bound, and would grow until they reach it. Exit code 0 only when nothing grew (`loadtests.steadiness`),
nothing was left open, and every lane was loaded; faults that the people found are told, and are for `make load` to
judge: many of them say that the machine is slow.
"""

import argparse
import contextlib
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.error import HTTPError

from loadtests import load
from loadtests.bench.harness import machine
from loadtests.deployment import Deployed, deployment
from loadtests.outcome import LANES, Outcome
from loadtests.steadiness import Course, ProcessSample, course

EVERY_S = 1.0
REST_S = 45.0
"""Seconds within which a gateway that everybody has left holds no more than before: idle connections end in 30."""
SHARE = 0.01
"""Growth of memory that is allowed over the window, as a share of what a process has."""
FILLED_BYTES = 40_000_000
"""Bytes of the log before anybody comes: SQLite's caches hold 16 MiB for the writer and 2 for each of four others."""
PIECE_BYTES, PIECES = 60_000, 16
"""An event of the filling, and as many as one request publishes."""
CHURN = {
    "TRILANE_MAX_AGE_S": "20",
    "TRILANE_SESSION_KEPT_S": "10",
    "TRILANE_RETENTION_EVENTS": "500",
}
"""Settings with which everything that ends by age or by number does so many times, also in a short soak."""
NAMES = 1100
"""Chats and topics that are asked for before anybody comes: of paths, queries and names at most 1024 are kept."""
GAUGES = ("chat_open_runs", "gateway_open_streams", "gateway_tasks", "audio_open_sessions", "audio_open_uploads")


@dataclass
class AtRest:
    """What a gateway holds that everybody has left."""

    descriptors: dict[int, int]
    gauges: dict[str, float]

    def beyond(self, before: "AtRest") -> list[str]:
        """Returns a sentence for each thing of which there is more than before."""
        more = [
            f"process {pid} has {count} descriptors open, and had {before.descriptors.get(pid, 0)}"
            for pid, count in self.descriptors.items()
            if count > before.descriptors.get(pid, 0)
        ]
        gauges = self.gauges.items()
        return more + [
            f"{name} is {now:g}, and was {before.gauges[name]:g}" for name, now in gauges if now > before.gauges[name]
        ]


@dataclass
class Watch:
    """The samples of every process of a gateway."""

    gateway: int
    samples: dict[int, list[ProcessSample]] = field(default_factory=dict[int, list[ProcessSample]])

    def look(self, at_s: float) -> None:
        for pid in machine.tree(self.gateway):
            with contextlib.suppress(OSError):  # it has just ended
                sample = ProcessSample(at_s, machine.own_memory_kib(pid), machine.descriptors(pid))
                self.samples.setdefault(pid, []).append(sample)

    def courses(self, skip_s: float, share: float) -> list[Course]:
        """Returns the course of memory and of descriptors of each process that lived through the window."""
        longest = max(map(len, self.samples.values()))
        found: list[Course] = []
        for pid, samples in self.samples.items():
            window = [sample for sample in samples if sample.at_s >= skip_s]
            if len(samples) < longest * 0.9:
                continue
            memory = [(sample.at_s, sample.memory_kib) for sample in window]
            found.append(course(f"{pid} memory KiB", memory, share * window[0].memory_kib))
            opened = [(sample.at_s, float(sample.descriptors)) for sample in window]
            found.append(course(f"{pid} descriptors", opened, 0.1 * window[0].descriptors))
        return found


@contextmanager
def watched(gateway: int) -> Iterator[Watch]:
    """Looks at a gateway each second meanwhile."""
    watch, over, began = Watch(gateway), threading.Event(), time.monotonic()

    def run() -> None:
        while not over.wait(EVERY_S):
            watch.look(time.monotonic() - began)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def fill(url: str) -> None:
    """Fills the log, and reads all of it again, several at once."""
    topics = [f"load/filling-{number}" for number in range(FILLED_BYTES // (PIECE_BYTES * PIECES))]
    for topic in topics:
        body = json.dumps([{"topic": topic, "data": "x" * PIECE_BYTES}] * PIECES).encode()
        request = urllib.request.Request(f"{url}/api/events", body, {"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=60).close()
    with ThreadPoolExecutor(8) as readers:
        list(readers.map(partial(_read_again, url), topics * 2))
        list(readers.map(partial(_ask_for, url), range(NAMES)))


def _read_again(url: str, topic: str) -> None:
    """Reads the filling of one topic to its end."""
    with urllib.request.urlopen(f"{url}/api/events?topic={topic}&from=earliest", timeout=60) as stream:
        stream.read(PIECE_BYTES * PIECES)


def _ask_for(url: str, number: int) -> None:
    """Asks for a chat that there is not, and follows a topic that nobody writes to for a moment."""
    with contextlib.suppress(HTTPError):
        urllib.request.urlopen(f"{url}/api/chat/no-chat-{number}/stream", timeout=60).close()
    urllib.request.urlopen(f"{url}/api/events?topic=load/nothing-{number}", timeout=60).close()


def at_rest(there: Deployed) -> AtRest:
    with urllib.request.urlopen(f"{there.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    gauges = {
        name: sum(
            float(line.split()[-1]) for line in lines if line.startswith((f"trilane_{name} ", f"trilane_{name}{{"))
        )
        for name in GAUGES
    }
    return AtRest({pid: machine.descriptors(pid) for pid in machine.tree(there.gateway)}, gauges)


def settled(there: Deployed, before: AtRest) -> list[str]:
    """Waits until a gateway holds no more than before; returns what it still holds when it does not."""
    end = time.monotonic() + REST_S
    while more := at_rest(there).beyond(before):
        if time.monotonic() > end:
            return more
        time.sleep(0.5)
    return []


def main(arguments: Sequence[str]) -> int:
    """Runs the soak; returns the exit code."""
    options_of_load = "and the options of loadtests.load, but for --host and --via-proxy"
    own = argparse.ArgumentParser(
        prog="loadtests.soak", description=(__doc__ or "").partition("\n\n")[2], epilog=options_of_load
    )
    own.add_argument("--warm-up", type=float, default=900.0, metavar="S", help="seconds of the first visit (900)")
    own.add_argument("--skip", type=float, default=120.0, metavar="S", help="seconds of the second not judged (120)")
    own.add_argument("--share", type=float, default=SHARE, help="growth of memory that is allowed (%(default)s)")
    mine, rest = own.parse_known_args(arguments)
    options = load.parse(["--time", "20m", *rest])
    if options.host or options.via:
        own.error("--host and --via-proxy are not for a soak: it starts the gateway that it looks at")
    options.out.mkdir(parents=True, exist_ok=True)
    machine.allow_descriptors()
    with deployment(CHURN | options.settings, with_audio="audio" in options.lanes) as there:
        fill(there.url)
        options = replace(options, host=there.url, is_ours=True)
        load.run(replace(options, seconds=int(mine.warm_up)))
        time.sleep(REST_S / 3)
        before = at_rest(there)
        with watched(there.gateway) as watch:
            outcome = load.run(options)
        left = settled(there, before)
    (options.out / "soak.json").write_text(json.dumps(watch.samples))
    courses = watch.courses(mine.skip, mine.share)
    return conclude(outcome, courses, left)


def conclude(outcome: Outcome, courses: Sequence[Course], left: Sequence[str]) -> int:
    """Prints what a soak came to; returns the exit code."""
    measured = {(one.lane, one.name) for one in outcome.measures if one.count}
    idle = [lane for lane in outcome.assignment.lanes if not {(lane, need) for need in LANES[lane].needs} <= measured]
    print(f"\nThe load: {outcome.headline}")
    for sentence, first in outcome.problems:
        print(f"  {sentence} {first}")
    for line in (*courses, *[f"LEFT OPEN: {it}" for it in left], *[f"NOT LOADED: the {lane} lane" for lane in idle]):
        print(f"  {line}")
    is_steady = all(one.is_steady for one in courses) and not left and not idle
    print("STEADY" if is_steady else "NOT STEADY")
    return 0 if is_steady else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
