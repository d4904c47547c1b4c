"""Knows since when Redis cannot be used, and why: told by whoever tries, asked by whoever must answer without trying.

An outage ends nothing at once: streams stay open, appends wait, reads are tried again. Only one that has lasted for
OUTAGE_S is a failure of the log, after which everything open is told so.
"""

import asyncio
import time

import structlog

from gateway.errors import LogUnavailable

log = structlog.get_logger("log")

OUTAGE_S = 60.0
"""Seconds after which an outage is a failure of the log."""
BLINK_S = 0.5
"""Seconds up to which an outage is not worth a line: a connection was lost and made anew."""


class Outage:
    """The outage of now, if there is one."""

    def __init__(self) -> None:
        self.since: float | None = None
        """The time by the monotonic clock at which it began; None while Redis can be used."""
        self._reason = ""
        self._is_logged = False
        self._is_over = asyncio.Event()
        self._is_over.set()

    def note_failure(self, error: Exception) -> None:
        self._reason = getattr(error, "detail", None) or str(error)
        now = time.monotonic()
        if self.since is None:
            self.since = now
            self._is_over.clear()
        elif not self._is_logged and now - self.since > BLINK_S:
            self._is_logged = True
            log.warning("Redis cannot be used", reason=self._reason)

    def note_success(self) -> None:
        if self._is_logged and self.since is not None:
            log.info("Redis can be used again", seconds=round(time.monotonic() - self.since, 1))
        self._is_logged = False
        self.since = None
        self._is_over.set()

    async def wait_until_over(self, patience_s: float, deadline: float) -> None:
        """Waits for the end of an outage, until a time by the monotonic clock.

        Raises LogUnavailable when it does not end, at once when it has lasted for `patience_s` seconds already.
        """
        if self.since is None:
            return
        now = time.monotonic()
        if now - self.since > patience_s:
            raise self.error()
        try:
            async with asyncio.timeout(max(0.0, deadline - now)):
                await self._is_over.wait()
        except TimeoutError:
            raise self.error() from None

    @property
    def failure(self) -> LogUnavailable | None:
        """Returns the error of an outage that has lasted for long."""
        if self.since is None or time.monotonic() - self.since < OUTAGE_S:
            return None
        return self.error()

    def error(self, *, is_in_doubt: bool = False) -> LogUnavailable:
        """Returns what a caller is told whose patience is over."""
        doubt = "; it may have been written all the same" if is_in_doubt else ""
        return LogUnavailable((self._reason or "Redis did not answer in time") + doubt)
