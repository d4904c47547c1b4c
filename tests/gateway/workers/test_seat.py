"""A place is filled anew after a crash, later each time, and by one start at a time."""

import asyncio
from typing import Any, cast

import pytest

from gateway.workers.process import WorkerProcess
from gateway.workers.seat import FIRST_S, LONGEST_S, STEADY_S, BackOff, Seat

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def waits_s(*lives_s: float) -> list[float]:
    """Returns the longest waits after lives of these seconds."""
    back_off = BackOff(lambda low, high: high)
    return [back_off.next_s(lived_s) for lived_s in lives_s]


def test_waits_double_up_to_a_bound() -> None:
    waits = waits_s(*[0.0] * 12)
    assert waits[:4] == pytest.approx([FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S])
    assert waits[-1] == LONGEST_S
    assert waits_s(*[0.0] * 5000)[-1] == LONGEST_S


def test_a_worker_that_has_lived_a_while_begins_anew() -> None:
    assert waits_s(0, 0, 0, STEADY_S, 0) == pytest.approx([FIRST_S, 2 * FIRST_S, 4 * FIRST_S, FIRST_S, 2 * FIRST_S])
    assert waits_s(0, 0, STEADY_S - 0.1)[-1] == pytest.approx(4 * FIRST_S)


def test_no_two_workers_wait_equally_long() -> None:
    bounds: list[tuple[float, float]] = []
    BackOff(lambda low, high: bounds.append((low, high)) or low).next_s(0)
    assert bounds == [(FIRST_S / 2, FIRST_S)]
    assert len({BackOff().next_s(0) for _ in range(20)}) > 10


class FakeWorker:
    """A worker without a process."""

    def __init__(self, *, is_ready: bool = True, leaves_late: bool = False) -> None:
        self.is_ready = is_ready
        self.left, self.ended = asyncio.Event(), asyncio.Event()
        self.pid, self.lived_s, self.reason = 1, 0.0, "broken"
        self.leaves_late = leaves_late
        self.was_asked = False

    def end(self) -> dict[str, object]:
        return {"worker": self.pid, "status": 1}

    def leave(self, *, is_alone: bool) -> None:
        self.was_asked = is_alone
        self.left.set()
        if not self.leaves_late:
            self.ended.set()

    async def ended_within(self, timeout_s: float) -> bool:
        await self.ended.wait()
        return True

    def crash(self) -> None:
        self.ended.set()
        self.left.set()


class Stage:
    """A place whose workers are handed out by a test."""

    def __init__(self, *next_workers: FakeWorker) -> None:
        self.first = FakeWorker()
        self._next = list(next_workers)
        self._all_started = asyncio.Event()
        self.crashes = 0
        self.seat = Seat(cast(WorkerProcess, self.first), self._start, 10.0, self._count)

    def _count(self) -> None:
        self.crashes += 1

    async def _start(self) -> Any:
        await asyncio.sleep(0)
        worker = self._next.pop(0)
        if not self._next:
            self._all_started.set()
        return worker

    async def until_filled_by(self, worker: FakeWorker) -> None:
        async with asyncio.timeout(10):
            await self._all_started.wait()
        await asyncio.sleep(0)
        assert cast(Any, self.seat.worker) is worker


async def test_a_crashed_worker_is_followed_by_the_next_that_can_start() -> None:
    broken, well = FakeWorker(is_ready=False), FakeWorker()
    stage = Stage(broken, well)
    keeping = asyncio.ensure_future(stage.seat.keep())
    stage.first.crash()
    await stage.until_filled_by(well)
    keeping.cancel()
    assert stage.crashes == 1


async def test_a_worker_that_leaves_in_order_is_replaced_while_it_drains() -> None:
    well = FakeWorker()
    stage = Stage(well)
    keeping = asyncio.ensure_future(stage.seat.keep())
    stage.first.left.set()
    await stage.until_filled_by(well)
    keeping.cancel()
    assert not stage.first.ended.is_set()
    assert stage.crashes == 0


async def test_a_roll_puts_the_new_one_there_before_the_old_one_leaves() -> None:
    well = FakeWorker()
    stage = Stage(well)
    assert await stage.seat.roll()
    assert cast(Any, stage.seat.worker) is well
    assert stage.first.was_asked


async def test_a_roll_that_cannot_start_leaves_the_old_one_alone() -> None:
    stage = Stage(FakeWorker(is_ready=False))
    assert not await stage.seat.roll()
    assert cast(Any, stage.seat.worker) is stage.first
    assert not stage.first.left.is_set()


async def test_a_worker_that_crashes_during_its_roll_is_replaced_once() -> None:
    well = FakeWorker()
    stage = Stage(well)
    keeping = asyncio.ensure_future(stage.seat.keep())
    rolling = asyncio.ensure_future(stage.seat.roll())
    await asyncio.sleep(0)
    stage.first.crash()
    assert await rolling
    await stage.until_filled_by(well)
    await asyncio.sleep(2 * FIRST_S)  # the wait after its crash passes, and nothing is left to start
    assert not keeping.done()
    keeping.cancel()
