"""The check says whether something became more expensive: small measurements, as ratios to references beside them.

    python -m loadtests.bench regress            # 1 when a figure is more than 25 % worse than the committed one
    python -m loadtests.bench regress --write    # measures the committed ratios anew; on a quiet machine

Absolute figures of a shared machine say little, so every figure is ours divided by a reference that does the same job
without our code, measured a moment later on the same core; less is better. A figure is judged by the lower quartile of
its ratios: other work makes some of them worse, a regression all of them. One that fails is measured again twice, and
fails only when it does so each time. CPU and memory may become worse by a quarter. Times depend on who else wants the
core, so they may double: that is for a sleep, a timer, a flush that was forgotten.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, ClientFailed, NotStarted
from loadtests.bench.harness.records import RESULTS
from loadtests.bench.regress import cores, lanes
from loadtests.bench.regress.lanes import Probe

COMMITTED = RESULTS / "regress.json"
WORSE, TIMES_WORSE = 1.25, 2.0
TIMES = ("first token", "delay", "time")
"""Names of the figures that are times."""
TRIES = 3
PASSES = 3
PORT = 18600
PORTS = 8


@dataclass(frozen=True)
class Group:
    """Figures that are measured together, so many times."""

    name: str
    beside: str
    open: Callable[[int, Path], AbstractContextManager[Probe]]
    times: int


GROUPS = (
    Group("log", "SQLite alone", cores.log, 8),
    Group("chat", "a plain relay", lanes.chat, 6),
    Group("events", "Litestar's channels", lanes.events, 5),
    Group("streams", "Litestar's channels", lanes.streams, 3),
    Group("audio", "one decode of the whole", cores.audio, 2),
)


def main(argv: list[str]) -> int:
    """Measures, compares, and says what became worse."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, _stop)
    for port in range(args.port, args.port + PORTS):
        if not machine.port_is_free(port):
            raise SystemExit(f"port {port} is taken; choose others with --port")
    machine.allow_descriptors()
    began = time.monotonic()
    groups = [group for group in GROUPS if not args.only or group.name in args.only]
    with _clients_core():
        code = _write(groups, args.port) if args.write else _check(groups, args.port)
    print(f"took {time.monotonic() - began:.0f} s")
    return code


def _stop(*_: object) -> None:
    raise SystemExit("stopped")  # through every `with`, so that no server outlives the check


def _check(groups: Sequence[Group], port: int) -> int:
    committed = json.loads(COMMITTED.read_text())
    if committed["machine"]["cpu"] != machine.describe()["cpu"]:
        print(f"the committed ratios are of another processor: {committed['machine']['cpu']}")
    failures: list[str] = []
    for group in groups:
        failures += _failures(group, committed["ratios"], port)
    print("\n".join(failures) or "nothing became more expensive")
    return 1 if failures else 0


def _failures(group: Group, committed: dict[str, Any], port: int) -> list[str]:
    """Returns a sentence for each figure that failed each time."""
    if why := _left_out(group):
        print(f"{group.name} was left out: {why}")
        return []
    failures: dict[str, str] = {}
    for _ in range(TRIES):
        try:
            ratios = _measure(group, port)
        except (NotStarted, ClientFailed) as err:
            failures = {group.name: f"{group.name}: not measured: {err}"}
            continue
        judged = set(failures) & set(ratios) or set(ratios)  # again: only what failed
        sentences = {name: worse(name, ratios[name], committed, group.beside) for name in sorted(judged)}
        failures = {name: sentence for name, sentence in sentences.items() if sentence}
        if not failures:
            break
    return list(failures.values())


def worse(name: str, ratios: Sequence[float], committed: dict[str, Any], beside: str) -> str:
    """Returns what became worse, by how much; empty when nothing did."""
    is_now = lower_quartile(ratios)
    was = committed.get(name)
    if was is None:
        return f"{name}: not among the committed ratios; run: python -m loadtests.bench regress --write"
    change = is_now / was["ratio"]
    verdict = f"{name}: {is_now:.3g} of {beside}, was {was['ratio']:.3g}"
    print(f"  {verdict} ({100 * (change - 1):+.0f} %)", flush=True)
    limit = TIMES_WORSE if name.partition(": ")[2].startswith(TIMES) else WORSE
    if change <= limit:
        return ""
    return f"{verdict}: {100 * (change - 1):.0f} % worse, {100 * (limit - 1):.0f} % are allowed"


def lower_quartile(ratios: Sequence[float]) -> float:
    """Returns the figure that a quarter of the ratios is below."""
    return statistics.quantiles(ratios, n=4, method="inclusive")[0] if len(ratios) > 1 else ratios[0]


def _write(groups: Sequence[Group], port: int) -> int:
    """Measures in several passes; keeps the median of what would be judged, and how far apart the passes were."""
    passes: dict[str, list[float]] = {}
    for _ in range(PASSES):
        for group in groups:
            if why := _left_out(group):
                raise SystemExit(f"{group.name} cannot be measured: {why}")
            for name, new_ratios in _measure(group, port).items():
                passes.setdefault(name, []).append(lower_quartile(new_ratios))
    partly = len(groups) < len(GROUPS) and COMMITTED.exists()
    ratios = json.loads(COMMITTED.read_text())["ratios"] if partly else {}
    for name, quartiles in passes.items():
        exact = {"ratio": statistics.median(quartiles), "lowest": min(quartiles), "highest": max(quartiles)}
        ratios[name] = {key: float(f"{value:.3g}") for key, value in exact.items()}
        print(f"{name}: {ratios[name]['ratio']:g} ({ratios[name]['lowest']:g} to {ratios[name]['highest']:g})")
    about = {"machine": machine.describe(), "versions": machine.versions(), "passes": PASSES}
    COMMITTED.write_text(json.dumps({**about, "ratios": ratios}, indent=2) + "\n")
    return 0


def _measure(group: Group, port: int) -> dict[str, list[float]]:
    """Returns the ratios of each figure. Raises NotStarted, ClientFailed; a stall may cost half of the probes."""
    ratios: dict[str, list[float]] = {}
    errors: list[NotStarted] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trilane-bench-") as folder, group.open(port, Path(folder)) as probe:
        for _ in range(group.times):
            try:
                pairs = probe()
            except NotStarted as err:
                errors.append(err)
                continue
            for name, (ours, reference) in pairs.items():
                ratios.setdefault(name, []).append(ours / reference)
        if len(errors) * 2 > group.times:
            raise errors[-1]
    print(f"{group.name}: {group.times} times in {time.monotonic() - began:.0f} s", flush=True)
    return ratios


def _left_out(group: Group) -> str | None:
    if group.name == "audio" and not cores.has_audio():
        return "the extra `audio` is not installed"
    files = machine.allow_descriptors()
    if group.name == "streams" and files < lanes.FIRST_STREAMS + lanes.STREAMS + 200:
        return f"only {files:,} open files are allowed"
    return None


@contextlib.contextmanager
def _clients_core() -> Generator[None]:
    before = os.sched_getaffinity(0)
    if CLIENT_CORE in before:
        os.sched_setaffinity(0, {CLIENT_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench regress", description="Whether something became more expensive by a quarter."
    )
    names = ", ".join(group.name for group in GROUPS)
    parser.add_argument("--write", action="store_true", help="measure the committed ratios anew, on a quiet machine")
    parser.add_argument("--only", default="", metavar="NAME,...", help=f"some of {names}")
    parser.add_argument("--port", type=int, default=PORT, help=f"the first of {PORTS} ports ({PORT})")
    args = parser.parse_args(argv)
    args.only = [name for name in args.only.split(",") if name]
    if strangers := [name for name in args.only if name not in names.split(", ")]:
        parser.error(f"unknown group {strangers[0]!r}; there are {names}")
    return args
