"""Runs one timer for all that waits for about the same time: pings, ages, expiries.

A timer of its own for each of many streams would cost memory and a heap; here a stream is an entry of a set, and the
process wakes once per slot, however many are due.
"""

import asyncio
from math import ceil
from typing import Protocol

SLOT_S = 0.1
"""Seconds of one slot: a call may come that much late."""


class Timed(Protocol):
    """A stream that waits on a wheel."""

    slot: int
    """The slot in which it waits, 0 while it does not; only the wheel sets it."""

    def on_time(self, now: float) -> None:
        """Does what is due: its time has come, at most one slot late; it may ask for another time."""
        ...


class Wheel:
    """Calls streams back, each at about the time that it asked for."""

    def __init__(self, slot_s: float = SLOT_S) -> None:
        self._slot_s = slot_s
        self._slots: dict[int, set[Timed]] = {}
        self._next = 0
        """The next slot to call."""
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float, who: Timed) -> None:
        """Calls `who.on_time` when the event loop's clock shows `when`, or up to one slot later."""
        self.drop(who)
        slot = max(ceil(when / self._slot_s), self._next)
        who.slot = slot
        self._slots.setdefault(slot, set()).add(who)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._next = min(slot, ceil(loop.time() / self._slot_s))
            self._timer = loop.call_at(self._next * self._slot_s, self._turn)

    def drop(self, who: Timed) -> None:
        """Forgets a stream. Idempotent."""
        if who.slot:
            waiting = self._slots.get(who.slot)
            if waiting is not None:
                waiting.discard(who)
                if not waiting:
                    del self._slots[who.slot]
            who.slot = 0

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._slots and self._next * self._slot_s <= now:
            slot, self._next = self._next, self._next + 1
            waiting = self._slots.get(slot, set())
            while waiting:  # those it calls may drop one another
                who = waiting.pop()
                who.slot = 0
                self._call(who, now)
            self._slots.pop(slot, None)
        self._timer = loop.call_at(self._next * self._slot_s, self._turn) if self._slots else None

    def _call(self, who: Timed, now: float) -> None:
        """Calls one stream; one that fails keeps no other from its time."""
        try:
            who.on_time(now)
        except Exception as err:
            context = {"message": "a timed stream failed", "exception": err}
            asyncio.get_running_loop().call_exception_handler(context)
