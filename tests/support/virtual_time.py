"""An event loop's clock jumps to the next timer when nothing is due: an hour of pings takes no time at all.

For tests without sockets, processes or threads: whoever waits for those would see time fly.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from tests.support.loop_failures import run_watched

HANGS_S = 86_400.0


class VirtualTime(asyncio.SelectorEventLoop):
    """The loop of asyncio itself, less the waiting."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        if not self._ready:  # type: ignore[attr-defined]
            due = min((timer.when() for timer in timers if not timer.cancelled()), default=self.now_s)
            self.now_s = max(self.now_s, due)
        super()._run_once()  # type: ignore[misc]


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a coroutine test in virtual time; what hangs for a day fails, and so does what a callback raises."""

    @functools.wraps(test)
    def run(*args: Any, **fixtures: Any) -> None:
        async def within_a_day() -> None:
            async with asyncio.timeout(HANGS_S):
                await test(*args, **fixtures)

        run_watched(VirtualTime, within_a_day())

    return run
