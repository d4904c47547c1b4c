"""The loads of the events benchmark, each on a fresh server, run by commands to the load client `fan.c`."""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.events.fan import Fan, FanAnswer, fan
from loadtests.bench.events.rates import highest, keeps_up
from loadtests.bench.events.servers import TARGETS, EventsTarget, server
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import ClientFailed
from loadtests.bench.harness.records import Figures

BATCH = 100
RING_EVENTS, LOG_EVENTS = 3000, 9000
"""Fewer than Trilane keeps in memory by default; fewer than it keeps of a topic at all."""


@dataclass(frozen=True)
class EventsPlan:
    """Says how much is measured."""

    rounds: int = 3
    idle: tuple[int, ...] = (1000, 10_000)
    step_s: float = 1.8
    within: float = 1.07
    """The factor to which the highest rate is known."""
    steps: int = 8
    slow_s: float = 2.5
    """Long enough that one late event is less than 1 % of them."""
    slow_turns: int = 3
    storm: int = 5000
    publish_s: float = 3.0


USUAL = EventsPlan(step_s=1.0, within=1.1, steps=5, slow_turns=1, publish_s=2.0)
QUICK = EventsPlan(rounds=1, step_s=1.2, within=1.12, steps=6, slow_turns=1, publish_s=1.5)


@dataclass
class EventsRig:
    """Holds one target on its port, and the highest rates that it kept up with in the rounds before."""

    target: EventsTarget
    port: int
    folder: Path
    settings: dict[str, str]
    plan: EventsPlan
    best: dict[str, float] = field(default_factory=dict[str, float])
    """The highest rate of each case."""
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0
    _topics: Iterator[int] = field(default_factory=itertools.count)

    @contextlib.contextmanager
    def serving(self) -> Generator[list[int]]:
        with server(self.target, self.port, self.folder, self.settings) as pids:
            yield pids

    @contextlib.contextmanager
    def readers(self, pids: list[int], topic: str = "", **options: object) -> Generator[Fan]:
        """Opens the client on a topic of its own."""
        defaults = self.target.options(self.port, topic or f"bench-{next(self._topics)}")
        with fan({**defaults, **options}, pids) as client:
            try:
                yield client
            finally:
                self.foreign_cores = max(self.foreign_cores, client.foreign_cores)
                for name, count in client.faults.items():
                    self.faults[name] = self.faults.get(name, 0) + count

    def publish(self, client: Fan, rate: float, seconds: float, batch: int = 1) -> Figures:
        """Publishes events at a steady pace, and returns what became of them."""
        figures = _figures_of(client.ask("publish", f"{rate:.2f}", max(5, round(rate * seconds)), batch))
        if not figures["deliveries"] and figures["missing"]:
            raise ClientFailed(
                f"none of {figures['missing']:,} events arrived; publish errors: {figures['publish_errors']}"
            )
        return figures


def _figures_of(answer: FanAnswer) -> Figures:
    deliveries = answer["events"]
    return {
        "rate": answer["rate"],
        "deliveries": deliveries,
        "missing": max(0, answer["expected"] - deliveries),
        "publish_errors": answer["publish_errors"],
        "events_per_s": answer["accepted"] / max(answer["publish_s"], 1e-9),
        "deliveries_per_s": deliveries / max(answer["seconds"], 1e-9),
        "delay_ms": answer["delay_ms"],
        "answer_ms": answer["answer_ms"],
        "us_per_delivery": answer["server_s"] * 1e6 / max(deliveries, 1),
        "server_core": answer["server_s"] / max(answer["seconds"], 1e-9),
        "client_core": answer["client_s"] / max(answer["seconds"], 1e-9),
    }


def idle(rig: EventsRig) -> Figures:
    """Measures the memory of streams that wait, and how fast they are taken."""
    with rig.serving() as pids:
        with rig.readers(pids) as warm_up:
            warm_up.ask("open", 50)
        time.sleep(1)
        base, kib = machine.pss_kib(pids), dict[str, float]()
        with rig.readers(pids) as client:
            open_count, new, answer = 0, 0, FanAnswer()
            for total in rig.plan.idle:
                answer = client.ask("open", total)
                new, open_count = answer["live"] - open_count, answer["live"]
                client.ask("wait", 1)
                kib[str(total)] = (machine.pss_kib(pids) - base) / max(open_count, 1)
        return {
            "base_mib": base / 1024,
            "kib": kib,
            "open": open_count,
            "accepts_per_s": new / answer["seconds"],
            "us_per_accept": answer["server_s"] * 1e6 / max(new, 1),
        }


def fan_out(readers: int, fixed_rate: float) -> Callable[[EventsRig], Figures]:
    """Measures one publisher with many readers: the cost at a rate that everyone manages, then the highest rate."""

    def measure(rig: EventsRig) -> Figures:
        plan, name = rig.plan, f"fan-{readers}"
        with rig.serving() as pids, rig.readers(pids) as client:
            client.ask("open", readers)
            client.ask("wait", 0.5)
            rig.publish(client, fixed_rate, 0.5)
            at_fixed_rate = rig.publish(client, fixed_rate, plan.step_s * 1.5)
            steps: list[Figures] = []

            def step(rate: float) -> bool:
                steps.append(rig.publish(client, rate, plan.step_s))
                client.ask("wait", 0.2)
                return keeps_up(steps[-1])

            could = 0.8e6 / max(at_fixed_rate["us_per_delivery"] * readers, 1)
            rig.best[name] = highest(step, rig.best.get(name) or could, within=plan.within, steps=plan.steps)
            in_time = [one for one in steps if keeps_up(one)]
            best = max(in_time, key=lambda one: one["deliveries_per_s"], default=None)
            return {
                "fixed": at_fixed_rate,
                "best": best,
                "steps": [[s["rate"], s["delay_ms"]["p99"], s["missing"]] for s in steps],
            }

    return measure


def slow_reader(rig: EventsRig) -> Figures:
    """Measures whether 999 readers feel one that stops reading; with and without it in turns."""
    plan, rate = rig.plan, 60.0
    with rig.serving() as pids, rig.readers(pids, slow=1, size=2000) as client:
        client.ask("open", 1000)
        rig.publish(client, rate, 0.5)
        without: list[float] = []
        beside: list[float] = []
        back: list[FanAnswer] = []
        for _ in range(plan.slow_turns):
            without.append(rig.publish(client, rate, plan.slow_s)["delay_ms"]["p99"])
            client.ask("stall")
            rig.publish(client, rate, 1.5)  # until what it does not read fills the buffers between
            beside.append(rig.publish(client, rate, plan.slow_s)["delay_ms"]["p99"])
            back.append(client.ask("resume"))
        alone, together = statistics.median(without), statistics.median(beside)
        return {
            "p99_ms": alone,
            "p99_beside_ms": together,
            "ratio": together / alone,
            "behind": statistics.median(answer["slow_events"] for answer in back),
            "caught_up_s": max(answer["seconds"] for answer in back),
        }


def storm(rig: EventsRig) -> Figures:
    """Measures readers that all hang up, miss some events, and come back at once with their ids until they are live."""
    count = rig.plan.storm
    with rig.serving() as pids, rig.readers(pids) as client:
        client.ask("open", count)
        rig.publish(client, 5, 1)
        client.ask("drop")
        rig.publish(client, 50, 0.4)
        back = client.ask("return")
        after = rig.publish(client, 5, 1)
        return {
            "readers": count,
            "up": back["up"],
            "live_s": (back["live_ms"]["max"] or 0) / 1000,
            "up_s": (back["up_ms"]["max"] or 0) / 1000 if back["up"] == count else back["seconds"],
            "us_per_reader": back["server_s"] * 1e6 / count,
            "missing": after["missing"] + count - back["up"],
        }


def publish(rig: EventsRig) -> Figures:
    """Measures how fast events are taken, and how long one takes to the socket of its reader."""
    plan, figures = rig.plan, Figures()
    with rig.serving() as pids, rig.readers(pids) as client:
        client.ask("open", 1)
        rig.publish(client, 200, 0.5)
        figures["single"] = rig.publish(client, 200, plan.publish_s)
        figures["single_top"] = _figures_of(client.ask("publish", 0, 1000, 1))
        if rig.target.trilane:
            figures["batched"] = rig.publish(client, 15_000, plan.publish_s, BATCH)
            figures["batched_top"] = _figures_of(client.ask("publish", 0, round(15_000 * plan.publish_s), BATCH))
    return figures


def replay(rig: EventsRig) -> Figures:
    """Measures how fast one reader gets what is already there: from memory, and by a server that has just started."""
    figures, batch, topic = Figures(), BATCH if rig.target.trilane else 1, "replayed"
    with rig.serving() as pids, rig.readers(pids, topic) as client:
        client.ask("open", 1)
        client.ask("publish", 0, RING_EVENTS, batch)
        client.ask("catchup", 3)
        figures["memory"] = _events_per_s(client.ask("catchup", 20), RING_EVENTS - 1)
        if rig.target.trilane:  # one by one, as most are: a batch lies together in the database
            client.ask("publish", 0, LOG_EVENTS - RING_EVENTS, 1)
    if rig.target.trilane:
        with rig.serving() as pids, rig.readers(pids, topic) as client:
            client.ask("expect", LOG_EVENTS)
            figures["log_first"] = _events_per_s(client.ask("replay", 1), LOG_EVENTS)
            figures["log"] = _events_per_s(client.ask("replay", 5), LOG_EVENTS)
    return figures


def _events_per_s(answer: FanAnswer, events: int) -> float | None:
    """Returns the events a second from the request to the last event, in the median reader."""
    median_ms = answer["up_ms"]["p50"]
    return None if not median_ms else events / median_ms * 1000


@dataclass(frozen=True)
class EventsCase:
    """A load, and the targets for which it means something."""

    name: str
    measure: Callable[[EventsRig], Figures]
    targets: tuple[str, ...]


ALL = tuple(TARGETS)
MOST = tuple(name for name in ALL if name != "plain")
"""Targets without plain ASGI, where a load costs the same as on ours."""
CASES = (
    EventsCase("idle", idle, ALL),
    EventsCase("fan-1000", fan_out(1000, 60), ALL),
    EventsCase("fan-5000", fan_out(5000, 12), MOST),
    EventsCase("slow", slow_reader, tuple(name for name in MOST if name != "nchan")),
    EventsCase("storm", storm, MOST),
    EventsCase("publish", publish, MOST),
    EventsCase("replay", replay, MOST),
)
