import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from tests.support.embedded_model import Run


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    return runner(uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop)


def runner(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Returns what runs a test on an event loop that `factory` makes."""

    def run(test: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=factory) as loops:
            loops.run(test())  # type: ignore[arg-type]

    return run
