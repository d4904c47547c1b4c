"""`fan` is the load client of the events lane, driven command by command, with the server's CPU clock beside its
answers.

What a command may ask for, and what its answer says, stands at the top of `fan.c`.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Generator
from typing import Any

from loadtests.bench.harness import machine
from loadtests.bench.harness.processes import CLIENT_CORE, ClientFailed, on_core
from loadtests.bench.native.build import tool

FanAnswer = dict[str, Any]
_STREAM_FAULTS = ("lost", "doubled", "no_id", "id_differs", "malformed", "told", "gaps", "unrecovered")
FAULTS = (*_STREAM_FAULTS, "sent_away", "ended", "cut", "refused", "failed")
"""Counters of what must not happen in a measurement; a `gap` that is told is honest, and still no measurement."""
SHORT_S = 0.5
"""Seconds below which a measurement tells nothing about other work on the machine."""


class Fan:
    """A running client, which records what went wrong, and how much others used the machine meanwhile."""

    def __init__(self, process: subprocess.Popen[str], pids: list[int]) -> None:
        self._process = process
        self.pids = pids
        """Processes of the server."""
        self.faults: dict[str, int] = {}
        self.foreign_cores = 0.0

    def ask(self, *words: object) -> FanAnswer:
        """Sends one command, and returns its answer with `server_s`, `client_s` (CPU) and `wall_s` of the time
        between.
        """
        before = self._clocks()
        self.send(*words)
        answer = self.answer()
        wall, server, client, ours, busy = (b - a for a, b in zip(before, self._clocks(), strict=True))
        if wall >= SHORT_S:
            self.foreign_cores = max(self.foreign_cores, (busy - server - client - ours) / wall)
        return {**answer, "server_s": server, "client_s": client, "wall_s": wall}

    def send(self, *words: object) -> None:
        """Sends a command alone; its answer must be taken before the next."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(" ".join(map(str, words)) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as err:
            raise ClientFailed(f"the load client has ended before {words}") from err

    def answer(self) -> FanAnswer:
        """Returns what the client says next. Raises ClientFailed."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ClientFailed(f"the load client has ended with {self._process.wait()}")
        answer: FanAnswer = json.loads(line)
        for name in FAULTS:
            if answer[name]:
                self.faults[name] = self.faults.get(name, 0) + answer[name]
        return answer

    def _clocks(self) -> tuple[float, float, float, float, float]:
        """Returns wall, server, client, own and total time, in seconds."""
        server, client, ours = (machine.cpu_ns(p) / 1e9 for p in (self.pids, [self._process.pid], [os.getpid()]))
        return time.monotonic(), server, client, ours, machine.busy_s()


@contextlib.contextmanager
def fan(options: dict[str, object], pids: list[int]) -> Generator[Fan]:
    """Runs a client on its core; `options` are its own, a flag is True."""
    words = [part for name, value in options.items() for part in _option(name, value)]
    command = on_core(CLIENT_CORE, [str(tool("fan")), *words])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Fan(process, pids)
        finally:
            process.kill()


def _option(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    return [] if value in (False, None) else [f"--{name}", str(value)]
