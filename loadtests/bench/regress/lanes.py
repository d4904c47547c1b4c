"""The regression check measures servers: each lane beside a reference that has none of our code.

Chat beside a plain Litestar relay, events beside Litestar's channels. Both run on the server's core all the time and
are loaded in turn, a second each, so that other work on the machine falls on both.
"""

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

from loadtests.bench.chat.cases import WARM_UP, ChatCase, ChatPlan, ChatRig, RequestNumbers
from loadtests.bench.chat.servers import TARGETS, Ports, server, upstream
from loadtests.bench.events.cases import EventsPlan, EventsRig
from loadtests.bench.events.fan import Fan
from loadtests.bench.events.servers import TARGETS as EVENT_TARGETS
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import NotStarted

Pairs = dict[str, tuple[float, float]]
"""The values of ours and of the reference, by figure; less is better."""
Probe = Callable[[], Pairs]
OURS, REFERENCE = "trilane", "litestar"

ONE = ChatCase("one", 1, 2, 20_000, 0.1, 0.7)
PACED = ChatCase("paced", 40, 25, 20_000, 0.5, 1.0)
BURST = ChatCase("burst", 10, 200, 0, 0.2, 0.6)
DRAIN_S = 10.0
"""Seconds for the last answers, which take their time on a busy machine."""
READERS, RATE = 500, 20
FIRST_STREAMS, STREAMS = 4000, 2000
"""Streams opened first, to fill memory that the process has already (how much depends on its start), and after them."""


@contextlib.contextmanager
def chat(port: int, folder: Path) -> Generator[Probe]:
    """Measures the first token's delay beyond the upstream's, a token's, and the CPU of a token. Raises NotStarted."""
    requests = RequestNumbers()
    with contextlib.ExitStack() as stack:
        upstream_pid = stack.enter_context(upstream(port))
        rigs: dict[str, tuple[ChatRig, list[int]]] = {}
        for place, name in enumerate((OURS, REFERENCE, "direct")):
            ports = Ports(server=port + 1 + place, upstream=port)
            pids = stack.enter_context(server(TARGETS[name], ports, {}))
            rigs[name] = ChatRig(TARGETS[name], ports, {}, ChatPlan(), upstream_pid, requests), pids
            rigs[name][0].load(WARM_UP, pids, drain_s=1)

        def load(name: str, case: ChatCase) -> dict[str, float]:
            rig, pids = rigs[name]
            result = rig.load(case, pids, DRAIN_S)
            if name == OURS and result["bad"]:
                raise NotStarted(f"{name}: {result['bad']} of {result['requests']} streams were bad")
            if not result["tokens"]:
                raise NotStarted(f"{name}: no token came in {case.dur_s:g} s")
            times = {key: result[key]["p50"] for key in ("ttft_ms", "lag_ms")}
            return {**times, "cpu": result["server_us_per_token"]}

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
    """Measures what a delivery and an event cost, and how late they are. Raises NotStarted."""
    with contextlib.ExitStack() as stack:
        clients = [_readers(stack, port + place, name, folder) for place, name in enumerate((OURS, REFERENCE))]

        def probe() -> Pairs:
            many = [rig.publish(crowd, RATE, 1.0) for rig, crowd, _ in clients]
            single = [rig.publish(one, 100, 1.0) for rig, _, one in clients]
            for (rig, *_), figures in zip(clients * 2, many + single, strict=True):
                if figures["missing"] or rig.faults:
                    raise NotStarted(f"{rig.target.name}: {figures['missing']} events missing, {rig.faults}")
            return {
                "events: CPU of a delivery": (many[0]["us_per_delivery"], many[1]["us_per_delivery"]),
                "events: delay to many readers": (many[0]["delay_ms"]["p50"], many[1]["delay_ms"]["p50"]),
                "events: CPU of an event": (single[0]["us_per_delivery"], single[1]["us_per_delivery"]),
                "events: delay to one reader": (single[0]["delay_ms"]["p50"], single[1]["delay_ms"]["p50"]),
            }

        yield probe


@contextlib.contextmanager
def streams(port: int, folder: Path) -> Generator[Probe]:
    """Measures what a waiting stream keeps in memory, and what taking it costs: a fresh server each time."""

    def probe() -> Pairs:
        pairs = [_open_streams(port, name, folder) for name in (OURS, REFERENCE)]
        return {
            "events: memory of a stream": (pairs[0][0], pairs[1][0]),
            "events: CPU of a new stream": (pairs[0][1], pairs[1][1]),
        }

    yield probe


def _rig(port: int, name: str, folder: Path) -> EventsRig:
    own = folder / f"{name}-{port}"
    own.mkdir(exist_ok=True)
    return EventsRig(EVENT_TARGETS[name], port, own, {}, EventsPlan())


def _readers(stack: contextlib.ExitStack, port: int, name: str, folder: Path) -> tuple[EventsRig, Fan, Fan]:
    """Opens a server with many readers of one topic, and one reader of another."""
    rig = _rig(port, name, folder)
    pids = stack.enter_context(rig.serving())
    crowd, one = (stack.enter_context(rig.readers(pids)) for _ in range(2))
    crowd.ask("open", READERS)
    one.ask("open", 1)
    for client in (crowd, one):
        rig.publish(client, 20, 0.5)
    return rig, crowd, one


def _open_streams(port: int, name: str, folder: Path) -> tuple[float, float]:
    """Returns the KiB of a stream, and the CPU µs of taking it."""
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
