"""The loads of the chat benchmark are so many streams of so many tokens, run by the load client `load.c`."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.bench.chat.servers import TARGETS, ChatTarget, Ports, server
from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, on_core
from loadtests.bench.harness.records import Figures
from loadtests.bench.native.build import tool

SETTLE_S = 0.2


@dataclass(frozen=True)
class ChatPlan:
    """A plan says how much is measured: `share` of the seconds of each load."""

    share: float = 1.0


@dataclass
class RequestNumbers:
    """The numbers that requests carry, so that no chat of a run comes twice."""

    next_id: int = 0


@dataclass
class ChatRig:
    """One target, fresh for each load, and the upstream behind it."""

    target: ChatTarget
    ports: Ports
    settings: dict[str, str]
    plan: ChatPlan
    upstream_pid: int
    requests: RequestNumbers
    faults: dict[str, int] = field(default_factory=dict[str, int])
    foreign_cores: float = 0.0
    is_pinned: bool = True
    """Whether the target has one core, and nothing else that core."""

    def load(self, case: "ChatCase", pids: list[int], drain_s: float) -> Figures:
        """Runs the load client once, and reads the server's CPU clock at both ends of what it measures."""
        command = [str(tool("load")), *self._options(case, self.ports.server if pids else self.ports.upstream, drain_s)]
        with subprocess.Popen(on_core(CLIENT_CORE, command), stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            client.stdout.readline()
            before = self._clocks(pids)
            client.stdout.readline()
            after = self._clocks(pids)
            result = json.loads(client.stdout.readline())
        self.requests.next_id = result["next_id"]
        if drain_s:  # what has not ended long after its last token never will
            result["bad"] += result["running"]
        return {**result, **_costs(result, before, after)}

    def _options(self, case: "ChatCase", port: int, drain_s: float) -> list[str]:
        text = self.target.body.replace("@T", str(case.tokens)).replace("@I", str(case.interval_us))
        options = {
            "port": port,
            "path": self.target.path,
            "body": text,
            "streams": case.streams,
            "tokens": case.tokens,
            "warm": case.warm_s * self.plan.share,
            "dur": case.dur_s * self.plan.share,
            "drain": drain_s,
            "first-id": self.requests.next_id,
            "repeats": int(self.target.repeats),
        }
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    def _clocks(self, pids: list[int]) -> tuple[float, float, float, float]:
        """Seconds of the wall clock, of CPU of the server, of the fake upstream with ourselves, and of everything."""
        ours = machine.cpu_ns([self.upstream_pid, os.getpid()]) / 1e9
        return time.monotonic(), machine.cpu_ns(pids) / 1e9, ours, machine.busy_s()


def _costs(result: Figures, before: Sequence[float], after: Sequence[float]) -> Figures:
    wall, server_s, ours, busy = (b - a for a, b in zip(before, after, strict=True))
    return {
        "server_core": server_s / wall,
        "server_us_per_token": server_s * 1e6 / max(1, result["tokens"]),
        "foreign_cores": max(0.0, (busy - server_s - ours - result["client_cpu_s"]) / wall),
    }


@dataclass(frozen=True)
class ChatCase:
    """One load: so many streams, of so many tokens, one every `interval_us` (0: unpaced)."""

    name: str
    streams: int
    tokens: int
    interval_us: int
    warm_s: float
    dur_s: float

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(TARGETS)

    def measure(self, rig: ChatRig) -> Figures:
        """Loads a fresh server, warmed up, with its memory before and after. Raises NotStarted."""
        with server(rig.target, rig.ports, rig.settings, is_pinned=rig.is_pinned) as pids:
            rig.load(WARM_UP, pids, drain_s=1)
            time.sleep(SETTLE_S)
            idle_mb = machine.rss_mb(pids)
            figures = rig.load(self, pids, rig.target.drain_s)
            after_mb = machine.rss_mb(pids)
        rig.foreign_cores = figures["foreign_cores"]
        if figures["bad"]:
            rig.faults["bad streams"] = figures["bad"]
        return {**figures, "rss_idle_mb": idle_mb, "rss_after_mb": after_mb}


WARM_UP = ChatCase("warm-up", 4, 20, 1000, 0.2, 1.0)
CASES = (
    ChatCase("one", 1, 2, 20_000, 0.2, 2.0),
    ChatCase("hundred", 100, 100, 20_000, 2.0, 3.0),
    ChatCase("burst", 20, 500, 0, 0.7, 1.5),
    ChatCase("paced", 300, 100, 20_000, 2.0, 2.5),
)
