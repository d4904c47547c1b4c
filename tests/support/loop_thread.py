"""Keeps a server open on an event loop in a thread of its own, so that tests without a loop can talk to it."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

START_S = 5.0


class LoopThread:
    """Holds what `open_server` returns open, from `start` to `stop`; that is called on the thread's event loop."""

    def __init__(self, open_server: Callable[[], AbstractAsyncContextManager[object]]) -> None:
        self._open_server = open_server
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Returns once the server is open."""
        self._thread.start()
        assert self._started.wait(START_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_S)

    def _run(self) -> None:
        async def serve() -> None:
            async with self._open_server():
                self._started.set()
                await self._stop.wait()

        self._loop.run_until_complete(serve())
        self._loop.close()
