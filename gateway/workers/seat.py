"""One of the places that workers fill: who sits there, who comes after a crash and when, and how it is rolled."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog

from gateway.workers.process import WorkerProcess

FIRST_S = 0.1
"""Longest wait before the first new start after a crash; it doubles with every crash that follows."""
LONGEST_S = 30.0
"""Longest wait before any new start."""
STEADY_S = 60.0
"""Seconds after which a worker counts as steady: when it crashes then, that is a first crash."""

log = structlog.get_logger("supervisor")

StartWorker = Callable[[], Awaitable[WorkerProcess]]
"""A function that starts a worker and returns it once it is ready, or never will be."""


class BackOff:
    """Waits between starts of a worker that crashes: twice as long each time, up to LONGEST_S, and never the same."""

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._crashes = 0

    def next_s(self, lived_s: float) -> float:
        """Returns the seconds to wait after a worker that lived for `lived_s`."""
        if lived_s >= STEADY_S:
            self._crashes = 0
        longest_s = min(LONGEST_S, FIRST_S * 2 ** min(self._crashes, 16))
        self._crashes += 1
        return self._uniform(longest_s / 2, longest_s)


class Seat:
    """A place of one worker. Only one start is under way at a time, be it after a crash or for a roll."""

    def __init__(
        self, worker: WorkerProcess, start: StartWorker, retire_s: float, on_crash: Callable[[], object]
    ) -> None:
        """Takes the worker that sits here, and the seconds that one has to end in a roll, until it is killed."""
        self.worker = worker
        self._start = start
        self._retire_s = retire_s
        self._starting = asyncio.Lock()
        self._back_off = BackOff()
        self._on_crash = on_crash

    async def keep(self) -> None:
        """Starts a new worker whenever the one that sits here leaves by itself. Runs until it is cancelled."""
        while True:
            worker = self.worker
            await worker.left.wait()
            if worker is self.worker:
                await self._replace(worker)

    async def _replace(self, gone: WorkerProcess) -> None:
        """Starts workers, after a while each, until one is ready; or a roll has put one here meanwhile."""
        wait_s = self._wait_after(gone)
        while gone is self.worker:
            await asyncio.sleep(wait_s)
            async with self._starting:
                failure = await self._fill() if gone is self.worker else None
            if failure is not None:
                wait_s = self._back_off.next_s(0)
                log.error("a worker cannot start", **failure.end(), reason=failure.reason, again_in_s=round(wait_s, 2))

    def _wait_after(self, gone: WorkerProcess) -> float:
        """Returns the seconds until the next start: none after a worker that leaves in order and is still draining."""
        if not gone.ended.is_set():
            log.info("a worker leaves: another takes its place", worker=gone.pid)
            return 0.0
        wait_s = self._back_off.next_s(gone.lived_s)
        self._on_crash()
        log.error("a worker has ended: another takes its place", **gone.end(), again_in_s=round(wait_s, 2))
        return wait_s

    async def roll(self) -> bool:
        """Puts a new worker here, then has the old one leave and waits for its end.

        Returns False, with the old one still here, when the new one cannot start.
        """
        async with self._starting:
            old = self.worker
            failure = await self._fill()
        if failure is not None:
            log.error("a worker cannot start: the old ones stay", **failure.end(), reason=failure.reason)
            return False
        if not old.left.is_set():
            old.leave(is_alone=True)
        if not await old.ended_within(self._retire_s):
            log.warning("a worker did not end in time", **old.end())
        return True

    async def _fill(self) -> WorkerProcess | None:
        """Starts a worker, which then sits here; returns it when it failed instead."""
        worker = await self._start()
        if not worker.is_ready:
            return worker
        self.worker = worker
        return None
