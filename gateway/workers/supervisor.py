"""The supervisor of several workers, each a process of its own: starts them, brings them back, rolls and drains them.

All workers accept from one listening socket, which the supervisor binds once and they inherit. With a socket for each
worker (SO_REUSEPORT) the system deals connections out by their hash, evenly but blindly: what it has dealt to a worker
that leaves, crashes or is stopped is reset or waits with that one, while others are idle. From one queue whoever is
free takes the next: a worker that closes its copy of the socket leaves nothing behind, and one that is stuck gets
nothing. The spread is uneven for it (of 1,400 connections two workers took 764 and 636), which is no harm: a worker
that takes more had time for more. Each connection wakes every worker that sleeps, some microseconds each.

The first worker starts alone, so that what keeps every worker from starting is told once, and a new log is made once.

On SIGTERM and SIGINT all drain, a second one cuts what is in flight; SIGHUP rolls. A worker whose supervisor is gone
drains, whatever ended it, so that none stays behind and holds the port.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest

from gateway.core.sums import Figures, Sums, families
from gateway.core.telemetry import serve_metrics
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.workers.process import WorkerProcess
from gateway.workers.seat import Seat

START_S = 300.0
"""Seconds that a worker has to become ready; those of large speech models take their time."""
GRACE_S = 5.0
"""Seconds beyond the deadline of its own drain that a worker has to end."""
COLLECT_S = 5.0
"""Seconds that the figures may take to be collected for their own port."""

log = structlog.get_logger("supervisor")


class Supervisor:
    """Keeps `count` workers serving on `listeners` until a signal ends it."""

    def __init__(
        self, arguments: Sequence[str], count: int, listeners: Sequence[socket.socket], settings: Settings
    ) -> None:
        """`arguments` are those with which the own command is a worker."""
        self._arguments = arguments
        self._count = count
        self._listeners = listeners
        self._metrics_host, self._metrics_port = settings.metrics_host, settings.metrics_port
        self._retire_s = settings.drain_deadline_s + GRACE_S
        self._environ = {**os.environ, "TRILANE_WORKERS": str(count)}
        self._living: set[WorkerProcess] = set()
        self._seats: list[Seat] = []
        self._failure: ConfigurationError | None = None
        self._drain_wanted = asyncio.Event()
        self._cut_wanted = asyncio.Event()
        self._roll_wanted = asyncio.Event()
        self._sums = Sums()
        self._registry = CollectorRegistry()
        ready = Gauge("trilane_gateway_workers", "Workers that are ready", registry=self._registry)
        ready.set_function(lambda: sum(worker.is_ready and not worker.left.is_set() for worker in self._living))
        self._crashes = Counter("trilane_gateway_worker_crashes", "Workers that crashed", registry=self._registry)

    async def run(self) -> int:
        """Returns the exit code: 0 when nothing was cut. Raises ConfigurationError when a first worker cannot start."""
        if self._metrics_port:
            self._serve_metrics()
        with self._signals():
            async with asyncio.TaskGroup() as self._processes:
                serving = self._processes.create_task(self._serve())
                await self._drain_wanted.wait()
                serving.cancel()
                await asyncio.wait([serving])
                exit_code = await self._drain()
        if self._failure is not None:
            raise self._failure
        return exit_code

    @contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        handlers = {signal.SIGTERM: self._end, signal.SIGINT: self._end, signal.SIGHUP: self._roll_wanted.set}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if self._drain_wanted.is_set():
            self._cut_wanted.set()
        self._drain_wanted.set()

    # Serving

    async def _serve(self) -> None:
        try:
            first = await self._start_first()
            others = [self._start_first() for _ in range(self._count - 1)]
            workers = [first, *await asyncio.gather(*others)]
        except ConfigurationError as err:
            self._failure = err
            self._drain_wanted.set()
            return
        self._seats = [Seat(worker, self._start, self._retire_s, self._crashes.inc) for worker in workers]
        log.info("all workers are ready", workers=[worker.pid for worker in workers])
        async with asyncio.TaskGroup() as keeping:
            for seat in self._seats:
                keeping.create_task(seat.keep())
            keeping.create_task(self._roll_on_request())

    async def _start(self) -> WorkerProcess:
        """Returns a new worker when it is ready, or has ended because it never will be."""
        worker = WorkerProcess(self._arguments, self._environ, self._listeners, self.figures)
        self._living.add(worker)
        self._processes.create_task(self._watch(worker))
        try:
            async with asyncio.timeout(START_S):
                await worker.settled.wait()
        except TimeoutError:
            worker.failure = f"a worker was not ready within {START_S:.0f} s"
            worker.leave(is_alone=True)
            await worker.ended_within(0)
        return worker

    async def _start_first(self) -> WorkerProcess:
        worker = await self._start()
        if not worker.is_ready:
            raise ConfigurationError(worker.reason)
        return worker

    async def _watch(self, worker: WorkerProcess) -> None:
        await worker.run()
        self._living.discard(worker)
        self._sums.keep(worker.figures)

    async def _roll_on_request(self) -> None:
        """Replaces the workers one by one; a request that comes meanwhile is one more roll after this one."""
        while True:
            await self._roll_wanted.wait()
            self._roll_wanted.clear()
            log.info("rolling the workers", count=len(self._seats))
            for seat in self._seats:
                if not await seat.roll():
                    break
            else:
                log.info("all workers are new", workers=[seat.worker.pid for seat in self._seats])

    # The end

    async def _drain(self) -> int:
        for sock in self._listeners:
            sock.close()
        workers = list(self._living)
        if self._failure is None:
            log.info("draining", count=len(workers))
        for worker in workers:
            worker.leave(is_alone=False)
        in_time = await asyncio.gather(*[self._farewell(worker) for worker in workers])
        codes = [worker.exit_code for worker in workers if worker.is_ready]
        return 0 if all(in_time) and not any(codes) else 1

    async def _farewell(self, worker: WorkerProcess) -> bool:
        """Waits for a worker's end; returns False when it had to be cut."""
        cut = asyncio.ensure_future(self._cut_wanted.wait())
        ended = asyncio.ensure_future(worker.ended.wait())
        await asyncio.wait((cut, ended), timeout=self._retire_s, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        ended.cancel()
        return await worker.ended_within(0)

    # Figures

    async def figures(self) -> bytes:
        """Returns the figures of all workers together, as Prometheus reads them."""
        metrics = await self._collected()
        return generate_latest(Figures(lambda: metrics))

    async def _collected(self) -> list[Metric]:
        await asyncio.gather(*[worker.count() for worker in self._living if worker.is_ready])
        return self._sums.of([families(self._registry), *[worker.figures for worker in self._living]])

    def _serve_metrics(self) -> None:
        """Serves the figures on a port of their own, from a thread. Raises ConfigurationError."""
        loop = asyncio.get_running_loop()

        def collected() -> list[Metric]:
            return asyncio.run_coroutine_threadsafe(self._collected(), loop).result(COLLECT_S)

        serve_metrics(self._metrics_host, self._metrics_port, Figures(collected))
