"""The events lane grows: more streams that wait, more readers of one topic."""

import re
import time
from dataclasses import replace
from pathlib import Path

from loadtests.bench.events.cases import EventsRig
from loadtests.bench.events.fan import Fan
from loadtests.bench.events.rates import highest, keeps_up
from loadtests.bench.growth.cases import GrowthFigures, GrowthPlan, GrowthSeries
from loadtests.bench.harness import machine
from loadtests.bench.harness.part import Cannot
from loadtests.bench.harness.processes import ClientFailed

DESCRIPTORS_BESIDE = 200
"""Descriptors that a process has open besides its streams."""
WARM_UP = 50
KIB_FROM = 1000
"""Streams from which on they show in memory: fewer fit into what the process has already."""
KERNEL_FROM = 10_000
"""Streams from which on they show in what the kernel holds for everything."""
STEADY_RATE = 10.0
"""Events a second while the cost of one is measured: far enough apart that none waits for another."""
RELAYED_RATE = 40
"""Events a second from another process, which is looked for every 20 ms: few share a look."""
WITHIN = 1.15
"""The factor to which the highest rate is known."""
MOST_AT_ONCE = 50_000
"""Deliveries of the burst that shows where to look for the highest rate."""


def idle(rig: EventsRig, plan: GrowthPlan, streams: int) -> GrowthFigures:
    """Measures streams that wait: the memory of one, the CPU of their pings, how fast they are taken."""
    if streams + DESCRIPTORS_BESIDE > (files := machine.allow_descriptors()):
        raise Cannot(f"open {streams:,} streams: {files:,} open files are allowed; raise the limit: ulimit -Hn")
    rig.settings.update(TRILANE_PING_S=f"{plan.ping_s:g}", TRILANE_MAX_AGE_S="86400")
    with rig.serving() as pids:
        with rig.readers(pids) as warm_up:
            warm_up.ask("open", WARM_UP)
        time.sleep(1)
        base_kib, base_kernel_kib = machine.pss_kib(pids), _kernel_kib()
        with rig.readers(pids) as client:
            start = client.ask("open", streams)
            client.ask("wait", 1)
            own_kib, kernel_kib = machine.pss_kib(pids) - base_kib, _kernel_kib() - base_kernel_kib
            silence = client.ask("wait", plan.ping_s * 1.1)
            if silence["live"] < streams:
                raise ClientFailed(f"{silence['live']:,} of {streams:,} streams are open")
    return {
        "base_mib": base_kib / 1024,
        "mib": (base_kib + own_kib) / 1024,
        "kib": own_kib / streams if streams >= KIB_FROM else None,
        # The client's ends of the connections are in this kernel too.
        "kernel_kib": kernel_kib / 2 / streams if streams >= KERNEL_FROM else None,
        "core": silence["server_s"] / silence["wall_s"],
        "pings_per_s": silence["pings"] / silence["wall_s"],
        "accepts_per_s": streams / start["seconds"],
        "us_per_accept": start["server_s"] * 1e6 / streams,
    }


def readers(rig: EventsRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures readers of one topic: the cost of an event at a steady rate, and the most deliveries a second."""
    with rig.serving() as pids, rig.readers(pids) as client:
        client.ask("open", count)
        rig.publish(client, STEADY_RATE, 1.0)
        silent = client.ask("wait", 1)
        steady = rig.publish(client, STEADY_RATE, plan.steady_s)
        silent_us = silent["server_s"] / silent["wall_s"] / steady["events_per_s"] * 1e6
        event_us = max(1.0, steady["us_per_delivery"] * count - silent_us)
        one = client.ask("publish", STEADY_RATE, 5, 1)
        top = _highest(rig, plan, client, count, event_us)
    return {
        "us_per_event": event_us,
        "us_per_delivery": event_us / count,
        "p50_ms": steady["delay_ms"]["p50"],
        "p99_ms": steady["delay_ms"]["p99"],
        "bytes_per_delivery": one["bytes"] / max(1, one["events"]),
        "top_per_s": top.get("deliveries_per_s"),
        "top_us_per_delivery": top.get("us_per_delivery"),
        "top_core": top.get("server_core"),
    }


def relayed(rig: EventsRig, plan: GrowthPlan, count: int) -> GrowthFigures:
    """Measures readers in another process than the one that takes the events: what each event costs that process."""
    taker = replace(rig, port=rig.port + 1)
    with (
        rig.serving() as pids,
        taker.serving() as taker_pids,
        rig.readers(pids, "relayed") as client,
        taker.readers(taker_pids, "relayed") as publisher,
    ):
        client.ask("open", count)
        publisher.ask("publish", RELAYED_RATE, RELAYED_RATE, 1)
        client.ask("wait", 0.5)
        silent = client.ask("wait", 1)
        client.send("wait", plan.steady_s + 0.5)
        before_s = machine.cpu_ns(pids) / 1e9
        publisher.ask("publish", RELAYED_RATE, round(RELAYED_RATE * plan.steady_s), 1)
        relay = client.answer()
        used_s = machine.cpu_ns(pids) / 1e9 - before_s
    events = relay["events"] / count
    if events < RELAYED_RATE * plan.steady_s:
        raise ClientFailed(f"{events:,.0f} of {RELAYED_RATE * plan.steady_s:,.0f} events arrived at every reader")
    silent_s = silent["server_s"] / silent["wall_s"] * relay["seconds"]
    return {
        "us_per_event": (used_s - silent_s) * 1e6 / events,
        "p50_ms": relay["delay_ms"]["p50"],
        "p99_ms": relay["delay_ms"]["p99"],
    }


def _highest(rig: EventsRig, plan: GrowthPlan, client: Fan, count: int, event_us: float) -> GrowthFigures:
    """Returns the figures of the highest rate at which 99 % of the deliveries were in time; nothing if none were."""
    in_time: list[GrowthFigures] = []

    def step(rate: float) -> bool:
        figures = rig.publish(client, rate, plan.step_s)
        client.ask("wait", 0.2)
        if keeps_up(figures):
            in_time.append(figures)
        return keeps_up(figures)

    burst = client.ask("publish", 0, max(20, min(1000, MOST_AT_ONCE // count)), 1)  # as fast as they are taken
    most_per_s = burst["accepted"] / max(burst["publish_s"], 1e-9)
    highest(step, min(0.9 * most_per_s, 1.2e6 / event_us), within=WITHIN, steps=plan.steps)
    return max(in_time, key=lambda figures: figures["deliveries_per_s"] or 0, default={})


def _kernel_kib() -> float:
    """Returns KiB that this machine's kernel holds in small objects (sockets, descriptors) and in socket buffers."""
    slab = re.search(r"\nSlab:\s+(\d+)", Path("/proc/meminfo").read_text())
    pages = re.search(r"TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text())
    return (float(slab.group(1)) if slab else 0.0) + (float(pages.group(1)) * 4 if pages else 0.0)


SERIES = (
    GrowthSeries("events", "idle", "idle streams", (1, 10, 100, 1000, 10_000, 18_000), (100, 1000, 10_000), idle),
    GrowthSeries("events", "readers", "readers of a topic", (1, 10, 100, 1000, 5000), (10, 1000), readers),
    GrowthSeries("events", "relayed", "readers in another process", (1, 10, 100), (1,), relayed),
)
