"""Bounds what the log keeps of one user, and in all: `topics` and `stored_bytes` (contract §9).

Nothing is counted along with events. The log is asked what there is, whatever has been deleted, trimmed or has expired
since, and remembered for a moment, in which this process adds what it admits itself. So a limit is exact in one
process, but for what an answer adds while it is being written; several may together exceed it by what they admit within
FRESH_S. Where no limit is set, the log is not asked.
"""

import time
from asyncio import Lock
from collections.abc import Mapping
from hashlib import sha256
from weakref import WeakValueDictionary

import msgspec

from events.log.port import EventLog
from events.log.topics import SESSION, STORED
from gateway.errors import RateLimited

KEYS = ("topics", "stored_bytes")
FRESH_S = 5.0
"""Seconds for which what was seen is good enough to admit something."""
SURE_S = 0.5
"""Seconds for which it is good enough to refuse."""
SHARE = 50
"""Least ratio of the time for which something is good to the time that it took to look."""
MAX_USERS = 10_000
"""Maximum users of whom something is remembered; past that the oldest is looked at again."""
CHATS, RUNS, RESPONSES = "chat/", "run/", "response/"


class HeldByUser(msgspec.Struct):
    """What the log keeps of a user, or of everyone, as of a moment."""

    topics: int
    stored_bytes: int
    looked_at: float
    took_s: float

    def take_back(self, topics: int, stored_bytes: int) -> None:
        """Counts what was admitted no more: something else has refused it."""
        self.topics -= topics
        self.stored_bytes -= stored_bytes


def maker_of(sub: str) -> str:
    """Returns the owner in the log of topics that a user was the first to publish to, and that others may write to.

    It is no user's name, and does not tell whose it is, so whoever forgets a user need not look for it.
    """
    return "\x1f" + sha256(sub.encode(errors="surrogatepass")).hexdigest()[:32]


class Holdings:
    """What users have in the log, as one process knows it."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._users: dict[str | None, HeldByUser] = {}
        self._looks = WeakValueDictionary[str | None, Lock]()

    async def keep(self, sub: str | None, bounds: Mapping[str, int], topics: int, stored_bytes: int) -> HeldByUser:
        """Admits so many new topics and bytes of a user, or with None in all; returns what is held with them.

        Raises RateLimited with extra `limit`, and LogError.
        """
        held = self._remembered(sub, FRESH_S)
        if held is None or _excess(held, bounds, topics, stored_bytes):
            held = await self._look(sub, bounds, topics, stored_bytes)
        held.topics += topics
        held.stored_bytes += stored_bytes
        return held

    async def _look(self, sub: str | None, bounds: Mapping[str, int], topics: int, stored_bytes: int) -> HeldByUser:
        """Returns what the log keeps of a user; of several who ask at once, one looks. Raises as `keep` does."""
        look = self._looks.setdefault(sub, Lock())
        async with look:
            held = await self._held(sub, FRESH_S)
            if _excess(held, bounds, topics, stored_bytes):
                held = await self._held(sub, SURE_S)
            if key := _excess(held, bounds, topics, stored_bytes):
                raise _refusal(key, sub, held, bounds[key], topics if key == "topics" else stored_bytes)
            return held

    def _remembered(self, sub: str | None, fresh_s: float) -> HeldByUser | None:
        held = self._users.get(sub)
        if held is not None and time.monotonic() - held.looked_at < max(fresh_s, SHARE * held.took_s):
            return held
        return None

    async def _held(self, sub: str | None, fresh_s: float) -> HeldByUser:
        if (held := self._remembered(sub, fresh_s)) is not None:
            return held
        now = time.monotonic()
        own = {held.family: held for held in await self._log.holdings(sub)}
        if sub is None:
            topics, stored = [own[family] for family in (CHATS, STORED) if family in own], [*own.values()]
        else:
            made = await self._log.holdings(maker_of(sub))
            topics = [*([own[CHATS]] if CHATS in own else []), *made]
            stored = [*[own[family] for family in (CHATS, RUNS, RESPONSES, STORED, SESSION) if family in own], *made]
        held = HeldByUser(
            sum(holding.topics for holding in topics),
            sum(holding.stored_bytes for holding in stored),
            now,
            time.monotonic() - now,
        )
        self._users.pop(sub, None)
        self._users[sub] = held
        if len(self._users) > MAX_USERS:
            del self._users[next(iter(self._users))]
        return held


def _excess(held: HeldByUser, bounds: Mapping[str, int], topics: int, stored_bytes: int) -> str:
    """Returns the limit that would be passed; nothing where none would. What adds no topic needs no room for one."""
    if topics and "topics" in bounds and held.topics + topics > bounds["topics"]:
        return "topics"
    if "stored_bytes" in bounds and held.stored_bytes + max(stored_bytes, 1) > bounds["stored_bytes"]:
        return "stored_bytes"
    return ""


def _refusal(key: str, sub: str | None, held: HeldByUser, bound: int, wanted: int) -> RateLimited:
    used = held.topics if key == "topics" else held.stored_bytes
    if sub is None:
        return RateLimited(
            f"the limit {key} of everyone together is {bound} (TRILANE_LIMIT_{key.upper()}), {used} are used, and "
            f"{wanted} more were asked for: delete chats, or wait until what is old has gone",
            retryable=False,
            extra={"limit": key, "max": bound, "used": used},
        )
    return RateLimited(
        f"the limit {key} of yours is {bound}, {used} are used, and {wanted} more were asked for: delete chats, or "
        "wait until what is old has gone",
        retryable=False,
        extra={"limit": key, "max": bound, "used": used},
    )
