"""An event loop that loses no exception: what a callback raises, or a task that nobody waits for, fails the test.

asyncio only logs both, so a test whose subject died in a callback would pass whenever it asserts nothing about that.
A test that provokes such an exception on purpose sets an exception handler of its own on its loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class LoopFailures:
    """Collects what an event loop reports, and the exceptions of tasks that were never retrieved."""

    def __init__(self) -> None:
        self._reports: list[dict[str, Any]] = []
        self._failed_tasks: list[asyncio.Task[Any]] = []

    def watch(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Notes from now on what goes wrong on this loop."""
        loop.set_exception_handler(lambda _, report: self._reports.append(report))
        loop.set_task_factory(self._make_task)
        return loop

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **how: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coroutine, loop=loop, **how)
        task.add_done_callback(self._note)
        return task

    def _note(self, task: asyncio.Task[Any]) -> None:
        if task._exception is not None:  # type: ignore[attr-defined] - `exception()` would count as retrieving it
            self._failed_tasks.append(task)

    def check(self) -> None:
        """Raises AssertionError from the first of them, when there is one. Call it after the loop is closed."""
        failures = [(report["message"], report.get("exception")) for report in self._reports]
        for task in self._failed_tasks:
            if task._log_traceback:  # type: ignore[attr-defined]
                failures.append((f"nobody retrieved the exception of {task.get_name()}", task.exception()))
        if failures:
            raise AssertionError("; ".join(message for message, _ in failures)) from failures[0][1]


def run_watched(make_loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine on a new loop, closes the loop, and fails when anything went wrong on it unnoticed."""
    failures = LoopFailures()
    with asyncio.Runner(loop_factory=lambda: failures.watch(make_loop())) as runner:
        runner.run(test)
    failures.check()
