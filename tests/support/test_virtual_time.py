"""Tests in virtual time: an hour takes no time, and nothing that goes wrong on the event loop is lost."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.contract.engines import scenario
from tests.support.virtual_time import simulated

Decorator = Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]
on_both_clocks = pytest.mark.parametrize("decorate", [simulated, scenario], ids=["virtual", "real"])


def fail() -> None:
    raise ZeroDivisionError("lost")


async def failing() -> None:
    fail()


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0)


async def in_a_callback_of_a_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.add_done_callback(lambda _: fail())
    future.set_result(None)
    await asyncio.sleep(0)


async def in_a_task_that_nobody_awaits() -> None:
    unobserved.append(asyncio.get_running_loop().create_task(failing()))
    await asyncio.sleep(0)


async def in_a_task_that_is_cancelled_at_the_end() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            fail()

    unobserved.append(asyncio.get_running_loop().create_task(stubborn()))
    await asyncio.sleep(0)


unobserved: list[asyncio.Task[None]] = []
"""Holds the tasks beyond their loop: what the garbage collector would report comes too late."""
LOST = (in_a_callback, in_a_callback_of_a_future, in_a_task_that_nobody_awaits, in_a_task_that_is_cancelled_at_the_end)


@pytest.mark.parametrize("test", LOST)
@on_both_clocks
def test_an_exception_that_nobody_notices_fails_the_test(
    decorate: Decorator, test: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(AssertionError) as failure:
        decorate(test)()
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


@on_both_clocks
def test_an_exception_that_somebody_notices_fails_nothing(decorate: Decorator) -> None:
    async def noticed() -> None:
        outcomes = await asyncio.gather(failing(), return_exceptions=True)
        assert isinstance(outcomes[0], ZeroDivisionError)

    decorate(noticed)()


@on_both_clocks
def test_a_test_that_provokes_an_exception_handles_it_itself(decorate: Decorator) -> None:
    async def provoked() -> None:
        reports: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(str(report["exception"])))
        await in_a_callback()
        assert reports == ["lost"]

    decorate(provoked)()


def test_an_hour_takes_no_time() -> None:
    async def patient() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(3600)
        assert loop.time() - began == 3600

    began = time.monotonic()
    simulated(patient)()
    assert time.monotonic() - began < 5


def test_a_test_that_hangs_fails() -> None:
    async def hanging() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        simulated(hanging)()


def test_a_task_that_goes_on_after_it_was_cancelled_fails_the_test() -> None:
    async def unending() -> None:
        async def stubborn() -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(1)

        unobserved.append(asyncio.get_running_loop().create_task(stubborn()))
        await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="goes on"):
        simulated(unending)()
    unobserved.clear()


@on_both_clocks
def test_a_timeout_that_strikes_inside_a_callback_ends_the_test(decorate: Decorator) -> None:
    async def slow() -> None:
        asyncio.get_running_loop().call_soon(pytest.fail, "took too long")
        await asyncio.Event().wait()

    with pytest.raises(pytest.fail.Exception, match="took too long"):
        decorate(slow)()
