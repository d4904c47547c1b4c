"""What the regression check measures on servers: each lane beside a reference that has none of our code.

Chat beside a plain Litestar relay, events beside Litestar's channels. Both run on the server's core all the time and
are loaded in turn, a second each, so that other work on the machine falls on both.
"""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

from loadtests.bench import machine
from loadtests.bench.build import tool
from loadtests.bench.chat_cases import WARM_UP, Case, Plan, Requests, Rig
from loadtests.bench.events_cases import Plan as EventsPlan
from loadtests.bench.events_cases import Rig as EventsRig
from loadtests.bench.fan_client import Fan
from loadtests.bench.processes import NotStarted
from loadtests.bench.pubsub import TARGETS as EVENT_TARGETS
from loadtests.bench.servers import TARGETS, Ports, server, upstream

Pairs = dict[str, tuple[float, float]]
"""Ours and the reference's, by figure; less is better."""
Probe = Callable[[], Pairs]
OURS, REFERENCE = "trilane", "litestar"

ONE = Case("one", 1, 2, 20_000, 0.1, 0.7)
PACED = Case("paced", 40, 25, 20_000, 0.5, 1.0)
BURST = Case("burst", 10, 200, 0, 0.2, 0.6)
DRAIN_S = 10.0
"""On a busy machine the last answers take their time."""
READERS, RATE = 500, 20
FIRST_STREAMS, STREAMS = 4000, 2000
"""The first fill memory that the process has already: how much of it there is depends on how it was started."""


@contextlib.contextmanager
def chat(port: int, folder: Path) -> Generator[Probe]:
    """Time to the first token beyond the upstream's, CPU of a token, and how many come through. Raises NotStarted."""
    requests = Requests()
    with contextlib.ExitStack() as stack:
        upstream_pid = stack.enter_context(upstream(tool("llm").resolve(), port))
        rigs: dict[str, tuple[Rig, list[int]]] = {}
        for place, name in enumerate((OURS, REFERENCE, "direct")):
            ports = Ports(server=port + 1 + place, upstream=port)
            pids = stack.enter_context(server(TARGETS[name], ports, {}))
            rigs[name] = Rig(TARGETS[name], ports, {}, Plan(), upstream_pid, requests), pids
            rigs[name][0].load(WARM_UP, pids, drain_s=1)

        def load(name: str, case: Case) -> dict[str, float]:
            rig, pids = rigs[name]
            found = rig.load(case, pids, DRAIN_S)
            if name == OURS and found["bad"]:
                raise NotStarted(f"{name}: {found['bad']} of {found['requests']} streams were bad")
            if not found["tokens"]:
                raise NotStarted(f"{name}: no token came in {case.dur_s:g} s")
            times = {key: found[key]["p50"] for key in ("ttft_ms", "lag_ms")}
            return {**times, "cpu": found["server_us_per_token"]}

        def probe() -> Pairs:
            bare = load("direct", ONE)
            one, paced, burst = ([load(name, case) for name in (OURS, REFERENCE)] for case in (ONE, PACED, BURST))
            return {
                "chat: first token, added": (one[0]["ttft_ms"] - bare["ttft_ms"], one[1]["ttft_ms"] - bare["ttft_ms"]),
                "chat: delay of a token, added": (one[0]["lag_ms"] - bare["lag_ms"], one[1]["lag_ms"] - bare["lag_ms"]),
                "chat: CPU of a token": (paced[0]["cpu"], paced[1]["cpu"]),
                "chat: CPU of a token in a burst": (burst[0]["cpu"], burst[1]["cpu"]),
            }

        yield probe


@contextlib.contextmanager
def events(port: int, folder: Path) -> Generator[Probe]:
    """What a delivery and an event cost, and how late they are. Raises NotStarted."""
    with contextlib.ExitStack() as stack:
        clients = [_readers(stack, port + place, name, folder) for place, name in enumerate((OURS, REFERENCE))]

        def probe() -> Pairs:
            many = [rig.publish(crowd, RATE, 1.0) for rig, crowd, _ in clients]
            single = [rig.publish(one, 100, 1.0) for rig, _, one in clients]
            for (rig, *_), found in zip(clients * 2, many + single, strict=True):
                if found["missing"] or rig.faults:
                    raise NotStarted(f"{rig.target.name}: {found['missing']} events missing, {rig.faults}")
            return {
                "events: CPU of a delivery": (many[0]["us_per_delivery"], many[1]["us_per_delivery"]),
                "events: delay to many readers": (many[0]["delay_ms"]["p50"], many[1]["delay_ms"]["p50"]),
                "events: CPU of an event": (single[0]["us_per_delivery"], single[1]["us_per_delivery"]),
                "events: delay to one reader": (single[0]["delay_ms"]["p50"], single[1]["delay_ms"]["p50"]),
            }

        yield probe


@contextlib.contextmanager
def streams(port: int, folder: Path) -> Generator[Probe]:
    """What a stream that waits keeps in memory, and what taking it costs: a fresh server each time."""

    def probe() -> Pairs:
        found = [_opened(port, name, folder) for name in (OURS, REFERENCE)]
        return {
            "events: memory of a stream": (found[0][0], found[1][0]),
            "events: CPU of a new stream": (found[0][1], found[1][1]),
        }

    yield probe


def _rig(port: int, name: str, folder: Path) -> EventsRig:
    own = folder / f"{name}-{port}"
    own.mkdir(exist_ok=True)
    return EventsRig(EVENT_TARGETS[name], port, own, {}, EventsPlan())


def _readers(stack: contextlib.ExitStack, port: int, name: str, folder: Path) -> tuple[EventsRig, Fan, Fan]:
    """A server with many readers of one topic, and one reader of another."""
    rig = _rig(port, name, folder)
    pids = stack.enter_context(rig.serving())
    crowd, one = (stack.enter_context(rig.readers(pids)) for _ in range(2))
    crowd.ask("open", READERS)
    one.ask("open", 1)
    for client in (crowd, one):
        rig.publish(client, 20, 0.5)
    return rig, crowd, one


def _opened(port: int, name: str, folder: Path) -> tuple[float, float]:
    """KiB of a stream, CPU µs of taking it."""
    rig = _rig(port, name, folder)
    with rig.serving() as pids, rig.readers(pids) as client:
        client.ask("open", FIRST_STREAMS)
        client.ask("wait", 0.5)
        base = machine.pss_kib(pids)
        answer = client.ask("open", FIRST_STREAMS + STREAMS)
        if answer["live"] < FIRST_STREAMS + STREAMS:
            raise NotStarted(f"{name}: {answer['live']:,} of {FIRST_STREAMS + STREAMS:,} streams were opened")
        client.ask("wait", 0.5)
        kib = (machine.pss_kib(pids) - base) / STREAMS
    return kib, answer["server_s"] * 1e6 / STREAMS
