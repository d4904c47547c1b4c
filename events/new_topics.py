"""Admits the topics that a publisher makes, and the bytes it adds, where a limit on what the log keeps of it is set.

A topic belongs to nobody as far as rights go, and counts for whoever published to it first while they had such a limit.
"""

import time
from collections.abc import Collection, Sequence

from events.log.port import NO_EVENTS, EventLog
from events.log.topics import stored
from gateway.access.grants import Principal
from gateway.core.limits import Limiter

KNOWN_S = 600.0
"""Seconds after which all are looked for again: one that has gone meanwhile is new to whoever publishes to it next."""
MAX_KNOWN = 100_000
"""Maximum topics of which it is remembered that they exist; past that all are looked for again."""


class NewTopics:
    """The topics that this process knows to exist."""

    def __init__(self, log: EventLog, limiter: Limiter) -> None:
        self._log = log
        self._limiter = limiter
        self._known: set[str] = set()
        self._forget_at = 0.0

    async def admit(self, who: Principal, topics: Sequence[str], size: int) -> Collection[str]:
        """Admits a request that writes so many bytes to these topics; returns those that it makes.

        Raises RateLimited, LogError.
        """
        if not self._limiter.bounds_kept(who):
            return ()
        new_topics = [topic for topic in dict.fromkeys(topics) if not await self._exists(topic)]
        await self._limiter.keep(who, topics=len(new_topics), stored_bytes=size)
        return new_topics

    async def _exists(self, topic: str) -> bool:
        if topic in self._known and time.monotonic() < self._forget_at:
            return True
        name = stored(topic)
        if not self._log.may_exist(name) or not (await self._log.read(name, NO_EVENTS, max_events=1)).epoch:
            return False
        if len(self._known) >= MAX_KNOWN or time.monotonic() >= self._forget_at:
            self._known.clear()
            self._forget_at = time.monotonic() + KNOWN_S
        self._known.add(topic)
        return True
