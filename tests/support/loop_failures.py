"""An event loop that loses no exception: what a callback raises, or a task that nobody waits for, fails the test.

asyncio only logs both, so a test whose subject died in a callback would pass whenever it asserts nothing about that.
Departs from `asyncio.run` in a second way: a task that goes on after it was cancelled is a failure, not a hang.
A test that provokes such an exception on purpose sets an exception handler of its own on its loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

CLOSE_S = 10.0
"""Seconds, by the loop's own clock, that tasks have to end once they are cancelled."""


class LoopFailures:
    """Collects what an event loop reports, and the exceptions of tasks that were never retrieved."""

    def __init__(self) -> None:
        self.interruption: BaseException | None = None
        """The exception that pytest raised into a callback because the test takes too long; the loop is stopped."""
        self._failures: list[tuple[str, BaseException | None]] = []
        self._failed_tasks: list[asyncio.Task[Any]] = []

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Notes from now on what goes wrong on this loop."""
        loop.set_exception_handler(self._report)
        loop.set_task_factory(self._make_task)

    def _report(self, loop: asyncio.AbstractEventLoop, report: dict[str, Any]) -> None:
        error = report.get("exception")
        self._failures.append((report["message"], error))
        if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
            self.interruption = error
            loop.stop()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **how: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **how)
        task.add_done_callback(self._note)
        return task

    def _note(self, task: asyncio.Task[Any]) -> None:
        if task._exception is not None:  # type: ignore[attr-defined] - `exception()` would count as retrieving it
            self._failed_tasks.append(task)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends what still runs, then the loop."""
        try:
            if tasks := asyncio.all_tasks(loop):
                for task in tasks:
                    task.cancel()
                _, stubborn = loop.run_until_complete(asyncio.wait(tasks, timeout=CLOSE_S))
                self._failures += [(f"{task!r} goes on after it was cancelled", None) for task in stubborn]
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def check(self) -> None:
        """Raises AssertionError from the first failure, if there is one. Call it after the loop is closed."""
        failures = self._failures
        for task in self._failed_tasks:
            if task._log_traceback:  # type: ignore[attr-defined]
                failures.append((f"nobody retrieved the exception of {task.get_name()}", task.exception()))
        if failures:
            raise AssertionError("; ".join(message for message, _ in failures)) from failures[0][1]


def run_watched(make_loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine on a new loop, closes the loop, and fails when anything went wrong on it unnoticed."""
    failures, loop = LoopFailures(), make_loop()
    failures.watch(loop)
    try:
        loop.run_until_complete(test)
    except RuntimeError as err:  # the loop was stopped before the test was over
        raise failures.interruption or err from None
    finally:
        failures.close(loop)
    failures.check()
