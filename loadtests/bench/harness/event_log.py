"""The SQLite log is opened as a unit opens it, for measurements that need the log alone, without a server."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

from events.log.port import EventLog, Retention
from events.log.sqlite.engine import SqliteLog

TOKEN = b'{"type":"text-delta","id":"0","delta":" hello"}'
"""An event: a token as a chat run appends it."""


@contextlib.asynccontextmanager
async def event_log(path: Path) -> AsyncGenerator[EventLog]:
    """Yields a log in that file with the retention of a unit, and closes it at the end."""
    log = SqliteLog(path, _retention)
    await log.open()
    try:
        yield log
    finally:
        await log.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Returns what makes the event loop that the units run on; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _retention(topic: str) -> Retention:
    return Retention(events=10_000, max_bytes=16 << 20, age_s=7 * 86_400)
