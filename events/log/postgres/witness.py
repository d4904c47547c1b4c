"""Sees whether the server that answers now is the one that acknowledged what this process knows.

A server that fails over to a copy which lacks the newest commits, or is restored from a back-up, would go on counting
from an older head, and other events would get offsets that clients have already. So the newest commit that was seen is
looked for on every new connection. When it is not there, the database gets a new generation, and with it every topic
another epoch: all readers are told that history changed, and none that it fits.
"""

import secrets
import time

import structlog

from events.log.postgres.address import DatabaseError
from events.log.postgres.session import Session
from gateway.errors import LogUnavailable

NEWS_S = 600
"""Seconds for which news are kept."""
TRUST_S = NEWS_S - 60
"""Age of the newest commit seen, in seconds, up to which it must still be there."""

CLOCK_SLACK_MS = 500
"""Milliseconds by which this machine's clock may differ from the server's without being corrected."""

IS_THERE = "(%s::bigint = 0 OR EXISTS (SELECT FROM trilane.news WHERE id = %s::bigint AND xid = %s::text::xid8))"
LOOK = f"""
SELECT generation, {IS_THERE}, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM trilane.state
"""
RENEW = "UPDATE trilane.state SET generation = %s::text WHERE generation = %s::text RETURNING generation"

log = structlog.get_logger("log")


class Witness:
    """What this process knows of the server: its generation, its newest commit, and why it cannot be reached."""

    def __init__(self) -> None:
        self.generation = ""
        self.failure: LogUnavailable | None = None
        self._news_id = 0
        self._xid = "0"
        self._seen_at = float("-inf")
        self._has_generation = False
        self.local_clock = time.time
        self._offset_ms = 0
        """Milliseconds to add to this machine's clock."""

    def server_ms(self) -> int:
        """Returns the server's time, by which all processes judge age and keys, whatever their clocks say."""
        return int(self.local_clock() * 1000) + self._offset_ms

    @property
    def values(self) -> tuple[int, int, str]:
        """Returns the values of IS_THERE."""
        return self._news_id, self._news_id, self._xid

    def note_commit(self, news_id: int, xid: str, generation: str) -> None:
        """Remembers a commit that the server has acknowledged, or shown."""
        self.generation = generation
        if news_id >= self._news_id:
            self._news_id, self._xid, self._seen_at = news_id, xid, time.monotonic()

    def note_answer(self) -> None:
        if self.failure is not None:
            log.info("the database can be reached again")
        self.failure = None

    def note_failure(self, err: DatabaseError) -> None:
        """Remembers why the server cannot be reached."""
        if self.failure is None:
            log.warning("the database cannot be reached", reason=str(err))
        self.failure = LogUnavailable(f"the database cannot be reached: {err}")
        self.failure.is_passing = True

    async def check(self, session: Session) -> None:
        """Looks for the newest commit known; gives the database another generation when it is gone."""
        ((generation, is_there, server_ms),) = await session.fetch(LOOK, self.values)
        offset_ms = server_ms - int(self.local_clock() * 1000)
        self._offset_ms = offset_ms if abs(offset_ms) > CLOCK_SLACK_MS else 0
        is_lost = not is_there and time.monotonic() - self._seen_at < TRUST_S
        if is_lost and self._has_generation and generation == self.generation:
            generation = await self._renew(session, generation)
        self.generation, self._has_generation = generation, True
        if not is_there:
            self._news_id, self._seen_at = 0, float("-inf")
        self.note_answer()

    async def _renew(self, session: Session, generation: str) -> str:
        log.error("the database lacks acknowledged events: it is an older copy. Every topic gets another epoch")
        new = secrets.token_hex(4)
        if not await session.fetch(RENEW, (new, generation)):  # another process saw it, too
            ((new, *_),) = await session.fetch(LOOK, self.values)
        return new
