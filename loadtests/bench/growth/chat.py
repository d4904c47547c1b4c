"""The chat lane grows: more runs at once, longer answers, more readers of one run."""

import contextlib
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from loadtests.bench.chat.cases import SETTLE_S, WARM_UP, ChatCase, ChatRig
from loadtests.bench.chat.servers import TARGETS, server
from loadtests.bench.growth.cases import GrowthFigures, GrowthPlan, GrowthSeries
from loadtests.bench.harness import machine

TOKENS_PER_S = 50
INTERVAL_US = 1_000_000 // TOKENS_PER_S
ANSWER_TOKENS = 100
RUNS = 100
"""Runs at once while answers grow longer."""
DUR_S, DRAIN_S = 3.0, 5.0
IDLE_S = 1.0
KIB_FROM = 100
"""Runs from which on they show in the memory of a process."""
LOOK_S = 0.4
"""Seconds between two looks at the server's memory."""


def runs(rig: ChatRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures runs of 100 tokens at 50 a second: what is added to the first token, what a token and a run cost."""
    return _beside_direct(rig, count, ANSWER_TOKENS)


def answers(rig: ChatRig, plan: GrowthPlan, tokens: int) -> GrowthFigures:
    """Measures 100 runs at once with answers of so many tokens: the share of beginnings in a token's cost."""
    return _beside_direct(rig, RUNS, tokens)


def followers(rig: ChatRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures one run that so many follow: the same message posted again is the same run."""
    target = replace(rig.target, body=rig.target.body.replace("%d", "1"))
    whole_s = (1.0 + DUR_S + 1.0) * plan.share
    load = ChatCase("followers", count, round(whole_s * TOKENS_PER_S), INTERVAL_US, 1.0, DUR_S)
    with _serving(rig) as serving:
        figures = replace(rig, target=target).load(load, serving.pids, drain_s=0)
    _note(rig, figures)
    return {
        **_costs(figures),
        "idle_core": serving.idle_core,
        "lag_p50_ms": figures["lag_ms"]["p50"],
        "lag_p99_ms": figures["lag_ms"]["p99"],
    }


def _beside_direct(rig: ChatRig, streams: int, tokens: int) -> GrowthFigures:
    """Measures the same load on the bare upstream and through Trilane.

    Few runs of 100 tokens begin too seldom to say when first tokens come: theirs are those of shorter answers.
    """
    load = _answers(rig, streams, tokens)
    short = _answers(rig, streams, min(tokens, max(2, streams)))
    bare = replace(rig, target=TARGETS["direct"]).load(short, [], drain_s=0)
    with _serving(rig) as serving:
        with serving.watch() as most_kib:
            first = whole = rig.load(load, serving.pids, DRAIN_S + tokens / TOKENS_PER_S)
        _note(rig, whole)
        if short != load:
            first = rig.load(short, serving.pids, DRAIN_S)
            _note(rig, first)
    return {
        **_costs(whole),
        "base_mib": serving.idle_kib / 1024,
        "mib": most_kib[0] / 1024,
        "kib_per_run": (most_kib[0] - serving.idle_kib) / streams if streams >= KIB_FROM else None,
        "idle_core": serving.idle_core,
        "added_p50_ms": _less(first["ttft_ms"]["p50"], bare["ttft_ms"]["p50"]),
        "added_p99_ms": _less(first["ttft_ms"]["p99"], bare["ttft_ms"]["p99"]),
        "lag_p99_ms": whole["lag_ms"]["p99"],
        "starts_per_s": whole["tokens_per_s"] / tokens,
        "carried": whole["tokens_per_s"] / (streams * TOKENS_PER_S),
    }


def _answers(rig: ChatRig, streams: int, tokens: int) -> ChatCase:
    """Returns a load measured once every stream is in its second answer, so that beginnings are spread evenly."""
    warm_s = max(1.0, 1.2 * tokens / TOKENS_PER_S) / rig.plan.share
    return ChatCase("growth", streams, tokens, INTERVAL_US, warm_s, DUR_S)


@dataclass(frozen=True)
class Serving:
    """A server that has answered once, and what it takes while it does nothing."""

    pids: list[int]
    idle_kib: float
    idle_core: float

    @contextlib.contextmanager
    def watch(self) -> Generator[list[float]]:
        """Yields a list with the most memory that it had until the end, in KiB."""
        most, end = [self.idle_kib], threading.Event()

        def look() -> None:
            while not end.wait(LOOK_S):
                most[0] = max(most[0], machine.pss_kib(self.pids))

        watcher = threading.Thread(target=look, name="memory")
        watcher.start()
        try:
            yield most
        finally:
            end.set()
            watcher.join()


@contextlib.contextmanager
def _serving(rig: ChatRig) -> Generator[Serving]:
    with server(rig.target, rig.ports, rig.settings) as pids:
        rig.load(WARM_UP, pids, drain_s=1)
        time.sleep(SETTLE_S)
        began, used_ns = time.monotonic_ns(), machine.cpu_ns(pids)
        time.sleep(IDLE_S)
        idle_core = (machine.cpu_ns(pids) - used_ns) / (time.monotonic_ns() - began)
        yield Serving(pids, machine.pss_kib(pids), idle_core)


def _costs(result: dict[str, Any]) -> GrowthFigures:
    return {
        "tokens_per_s": result["tokens_per_s"],
        "core": result["server_core"],
        "us_per_token": result["server_us_per_token"],
    }


def _less(value: float | None, bare: float | None) -> float | None:
    return None if value is None or bare is None else value - bare


def _note(rig: ChatRig, result: dict[str, Any]) -> None:
    rig.foreign_cores = max(rig.foreign_cores, result["foreign_cores"])
    if result["bad"]:
        rig.faults["bad streams"] = rig.faults.get("bad streams", 0) + result["bad"]


SERIES = (
    GrowthSeries("chat", "runs", "runs at once", (1, 10, 30, 100, 300, 1000), (100, 300), runs),
    GrowthSeries("chat", "answers", "tokens in an answer", (10, 30, 100, 300), (10,), answers),
    GrowthSeries("chat", "followers", "readers of one run", (1, 10, 100), (1, 100), followers),
)
