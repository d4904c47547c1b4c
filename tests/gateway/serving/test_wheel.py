"""One timer serves many: each is called once, at its time or up to a slot later; time is virtual."""

import asyncio
import random
from collections.abc import Callable

import pytest

from gateway.serving.wheel import SLOT_S, Wheel
from tests.support.virtual_time import simulated

SEED = random.randrange(1 << 32)


class Waiter:
    """Waits on the wheel, and remembers when it was called."""

    def __init__(self, then: Callable[["Waiter"], object] = lambda _: None) -> None:
        self.slot = 0
        self.calls: list[float] = []
        self.then = then

    def on_time(self, now: float) -> None:
        assert now == asyncio.get_running_loop().time()
        self.calls.append(now)
        self.then(self)


def now() -> float:
    return asyncio.get_running_loop().time()


def timers() -> int:
    """Returns the timers of this hour; the test's own deadline is a day away."""
    scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(timer.when() < now() + 3600 and not timer.cancelled() for timer in scheduled)


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 0.1, 0.15, 1.0, 13.5, 600.0, 7200.0])
@simulated
async def test_a_waiter_is_called_at_its_time_or_up_to_a_slot_later(wait_s: float) -> None:
    await asyncio.sleep(1.2345)
    wheel, who, due = Wheel(), Waiter(), now() + wait_s
    wheel.at(due, who)
    await asyncio.sleep(wait_s + SLOT_S + 0.001)
    [call] = who.calls
    assert due <= call <= due + SLOT_S + 1e-6
    assert who.slot == 0


@simulated
async def test_many_are_called_once_each_and_in_their_slots() -> None:
    print(f"seed {SEED}")
    rng, wheel = random.Random(SEED), Wheel()
    await asyncio.sleep(5)
    waiting = [(Waiter(), now() + rng.uniform(0, 60)) for _ in range(5000)]
    for who, due in waiting:
        wheel.at(due, who)
    await asyncio.sleep(61)
    for who, due in waiting:
        [call] = who.calls
        assert due <= call <= due + SLOT_S + 1e-6


@simulated
async def test_a_time_that_has_passed_is_due_with_the_next_slot() -> None:
    await asyncio.sleep(100)
    wheel, late, other = Wheel(), Waiter(), Waiter()
    wheel.at(now() + 5, other)
    await asyncio.sleep(2)
    wheel.at(3.0, late)
    await asyncio.sleep(2 * SLOT_S)
    assert len(late.calls) == 1
    await asyncio.sleep(5)
    assert (len(late.calls), len(other.calls)) == (1, 1)


@simulated
async def test_a_waiter_that_asks_for_another_time_is_called_then() -> None:
    await asyncio.sleep(1)
    wheel = Wheel()
    who = Waiter(lambda who: wheel.at(now() + 10, who) if len(who.calls) < 5 else None)
    wheel.at(now() + 10, who)
    await asyncio.sleep(200)
    assert len(who.calls) == 5
    assert all(10 <= later - one <= 10 + SLOT_S + 1e-6 for one, later in zip(who.calls, who.calls[1:], strict=False))


@pytest.mark.parametrize("first_s", [1, 5])
@simulated
async def test_only_the_last_time_asked_for_counts(first_s: float) -> None:
    await asyncio.sleep(1)
    wheel, who = Wheel(), Waiter()
    wheel.at(now() + first_s, who)
    wheel.at(now() + 3, who)
    await asyncio.sleep(10)
    [call] = who.calls
    assert 4 <= call <= 4 + SLOT_S + 1e-6


@simulated
async def test_a_waiter_that_is_dropped_is_not_called() -> None:
    await asyncio.sleep(1)
    wheel, absent, other = Wheel(), Waiter(), Waiter()
    wheel.drop(absent)
    for who in (absent, other):
        wheel.at(now() + 1, who)
    wheel.drop(absent)
    wheel.drop(absent)
    await asyncio.sleep(3)
    assert (absent.calls, len(other.calls)) == ([], 1)


@simulated
async def test_only_one_of_two_that_drop_each_other_is_called() -> None:
    await asyncio.sleep(1)
    wheel = Wheel()
    pair: list[Waiter] = []
    pair += [Waiter(lambda who: [wheel.drop(other) for other in pair if other is not who]) for _ in range(2)]
    for who in pair:
        wheel.at(now() + 1, who)
    await asyncio.sleep(3)
    assert sorted(len(who.calls) for who in pair) == [0, 1]


@simulated
async def test_a_waiter_put_off_by_another_of_its_slot_is_called_later_and_can_be_dropped() -> None:
    await asyncio.sleep(1)
    wheel = Wheel()
    pair: list[Waiter] = []
    pair += [Waiter(lambda who: [wheel.at(now() + 5, other) for other in pair if not other.calls]) for _ in range(2)]
    for who in pair:
        wheel.at(now() + 1, who)
    await asyncio.sleep(3)
    assert sorted(len(who.calls) for who in pair) == [0, 1]
    for who in pair:
        wheel.drop(who)
    await asyncio.sleep(10)
    assert sorted(len(who.calls) for who in pair) == [0, 1]


@simulated
async def test_a_waiter_that_fails_delays_no_other() -> None:
    reported: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    await asyncio.sleep(1)
    wheel = Wheel()
    waiting = [Waiter(lambda _: 1 / 0) for _ in range(3)]
    for who in waiting:
        wheel.at(now() + 1, who)
    last = Waiter()
    wheel.at(now() + 2, last)
    await asyncio.sleep(3)
    assert [len(who.calls) for who in (*waiting, last)] == [1, 1, 1, 1]
    assert reported == ["a timed stream failed"] * 3


@simulated
async def test_nobody_waiting_costs_nothing() -> None:
    await asyncio.sleep(1)
    wheel, who = Wheel(), Waiter()
    wheel.at(now() + 1, who)
    wheel.drop(who)
    await asyncio.sleep(1)
    assert timers() == 0
    wheel.at(now() + 1, who)
    await asyncio.sleep(2)
    assert len(who.calls) == 1
    assert timers() == 0


@simulated
async def test_a_loop_that_was_busy_for_long_calls_all_who_are_due() -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(1)
    wheel, waiting = Wheel(), [Waiter() for _ in range(50)]
    for number, who in enumerate(waiting):
        wheel.at(now() + number, who)
    loop.now_s += 20  # type: ignore[attr-defined] - as if a callback had taken so long
    await asyncio.sleep(SLOT_S)
    assert [len(who.calls) for who in waiting] == [1] * 21 + [0] * 29
    await asyncio.sleep(31)
    assert [len(who.calls) for who in waiting] == [1] * 50
