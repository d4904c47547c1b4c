"""Long work leaves others their turn, and its order is kept."""

import asyncio
import time

import pytest

from gateway.core import slices
from gateway.core.slices import each


def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, turns, done = 0.0, 0, list[int]()
    monkeypatch.setattr(time, "perf_counter", lambda: now_s)

    def step(number: int) -> None:
        nonlocal now_s
        now_s += slices.SLICE_S / 4
        done.append(number)

    async def work() -> None:
        nonlocal turns
        working = asyncio.ensure_future(each(range(21), step))
        while not working.done():
            turns += 1
            await asyncio.sleep(0)
        await working

    asyncio.run(work())
    assert done == list(range(21))
    assert turns >= 4, "a slice is five steps long: the fifth ends behind it"


def test_short_work_is_done_in_one_turn() -> None:
    done: list[int] = []

    async def work() -> None:
        working = each([1, 2], done.append)
        with pytest.raises(StopIteration):
            working.send(None)

    asyncio.run(work())
    assert done == [1, 2]
