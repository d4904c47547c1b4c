"""Defines the counters that limits stand on, what engines must decide alike about them, and the engine in memory.

A counter is a *rate* or a set of *slots*. A rate sums amounts in small buckets of time; every bucket counts from its
first moment until a whole window after its last one, so no window, wherever it begins, ever holds more than the limit.
Slots are held by processes: each says how many it holds now, and a process that has not been heard of for LIVE_S holds
none, so that what a killed one held is free again; one that was stopped and wakes counts again when it is heard of.

All takes of a call are made, or none. A call that is repeated because its answer was lost counts its slots once and its
rates twice: an outage of the engine may refuse too many for one window, never too few.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

LIVE_S = 15
"""Seconds after which a process that was not heard of holds no slots."""
HEARTBEAT_S = 4.0
"""Seconds after which a process that holds slots is heard of at the latest."""


class Window(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The time over which a rate is counted: `buckets` whole buckets of `bucket_s` seconds, and the current one."""

    bucket_s: int
    buckets: int

    def current(self, now_s: float) -> int:
        return int(now_s // self.bucket_s)

    def oldest(self, now_s: float) -> int:
        """Returns the oldest bucket of which a part may lie within the window that ends now."""
        return self.current(now_s) - self.buckets

    def leaves_s(self, bucket: int) -> int:
        """Returns when a bucket counts no more, in seconds since 1970."""
        return (bucket + self.buckets + 1) * self.bucket_s


MINUTE = Window(5, 12)
DAY = Window(3600, 24)
MONTH = Window(86_400, 30)
SLOTS = Window(0, 0)
"""Stands for a counter of slots, which counts what is held now."""


class Take(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A wish to add `amount` to a counter that may not pass `limit`; 0 only asks whether there is room for one."""

    counter: str
    limit: int
    amount: int
    window: Window


class Settlement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Corrects what was taken of a rate, in the bucket where it was taken; `amount` may be negative."""

    counter: str
    bucket: int
    amount: int
    window: Window


class TakeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The calls that a process makes in one step; slots first, then settlements, then calls in order."""

    holder: str
    """The process, by a name that no other ever had."""
    held: dict[str, int] = {}
    """The number of slots that it holds of each counter of this batch, before its calls."""
    settlements: Sequence[Settlement] = ()
    calls: Sequence[Sequence[Take]] = ()


class Tally(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A counter as a call found it, before its own takes."""

    used: int
    buckets: list[tuple[int, int]] = []
    """The amounts of a rate by bucket, oldest first; left out, perhaps, where something was taken."""


class TakeOutcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The result of one call."""

    refused: int
    """The first take that did not fit; -1 when all were made."""
    tallies: list[Tally]
    """One of each take, up to the refused one."""


class TakeReply(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a batch."""

    was_known: bool
    """Whether the slots that the process had reported before still counted; if not, it must report them all again."""
    now_s: float
    """The engine's clock, in seconds since 1970."""
    outcomes: list[TakeOutcome]


class CounterTable(Protocol):
    """The counters of an engine, as `decide` reads and writes them within one transaction."""

    def used(self, counter: str, oldest: int) -> int:
        """Returns what a rate has from bucket `oldest` on."""
        ...

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        """Returns the amounts of a rate from bucket `oldest` on, in order."""
        ...

    def held_by_all(self, counter: str) -> int:
        """Returns the slots that processes hold which were heard of within LIVE_S."""
        ...

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None: ...
    def hold(self, counter: str, holder: str, change: int) -> None: ...


def decide(batch: TakeBatch, table: CounterTable, now_s: float) -> list[TakeOutcome]:
    """Makes the settlements and the calls of a batch. The holder's slots are in the table already."""
    for settlement in batch.settlements:
        if settlement.bucket >= settlement.window.oldest(now_s):
            leaves_s = settlement.window.leaves_s(settlement.bucket)
            table.add(settlement.counter, settlement.bucket, settlement.amount, leaves_s)
    return [_decide(call, batch.holder, table, now_s) for call in batch.calls]


def _decide(call: Sequence[Take], holder: str, table: CounterTable, now_s: float) -> TakeOutcome:
    tallies: list[Tally] = []
    rate, oldest, bucket, leaves_s = SLOTS, 0, 0, 0
    for take in call:
        window = take.window
        if not window.bucket_s:
            used = table.held_by_all(take.counter)
        else:
            if window is not rate:
                rate, oldest = window, window.oldest(now_s)
            used = table.used(take.counter, oldest)
        tallies.append(Tally(used))
        if used + (take.amount or 1) > take.limit:
            shown = [_tally(take, tally.used, table, now_s) for take, tally in zip(call, tallies, strict=False)]
            return TakeOutcome(len(shown) - 1, shown)
    rate = SLOTS
    for place, take in enumerate(call):
        window = take.window
        if not take.amount:
            tallies[place] = _tally(take, tallies[place].used, table, now_s)
        elif not window.bucket_s:
            table.hold(take.counter, holder, take.amount)
        else:
            if window is not rate:
                rate, bucket = window, window.current(now_s)
                leaves_s = window.leaves_s(bucket)
            table.add(take.counter, bucket, take.amount, leaves_s)
    return TakeOutcome(-1, tallies)


def _tally(take: Take, used: int, table: CounterTable, now_s: float) -> Tally:
    window = take.window
    return Tally(used, table.buckets(take.counter, window.oldest(now_s)) if window.bucket_s else [])


class MemoryCounters:
    """The counters of one process in dicts; a CounterTable."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._rates: dict[str, dict[int, tuple[int, int]]] = {}
        """Amount and end of each bucket, by counter."""
        self._held: dict[str, dict[str, int]] = {}
        self._heard_s: dict[str, float] = {}
        self._next_sweep_s = 0.0

    def take(self, batch: TakeBatch) -> TakeReply:
        now_s = self._clock()
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + HEARTBEAT_S
            self._sweep(now_s)
        was_known = batch.holder in self._heard_s
        self._heard_s[batch.holder] = now_s
        for counter, count in batch.held.items():
            self._held.setdefault(counter, {})[batch.holder] = count
        return TakeReply(was_known, now_s, decide(batch, self, now_s))

    def used(self, counter: str, oldest: int) -> int:
        return sum([amount for _, amount in self.buckets(counter, oldest)])

    def buckets(self, counter: str, oldest: int) -> list[tuple[int, int]]:
        rate = self._rates.get(counter, {})
        return sorted((bucket, amount) for bucket, (amount, _) in rate.items() if bucket >= oldest)

    def held_by_all(self, counter: str) -> int:
        since_s = self._clock() - LIVE_S
        held = self._held.get(counter, {})
        return sum(count for holder, count in held.items() if self._heard_s.get(holder, 0) >= since_s)

    def add(self, counter: str, bucket: int, amount: int, leaves_s: int) -> None:
        rate = self._rates.setdefault(counter, {})
        rate[bucket] = rate.get(bucket, (0, 0))[0] + amount, leaves_s

    def hold(self, counter: str, holder: str, change: int) -> None:
        held = self._held.setdefault(counter, {})
        held[holder] = held.get(holder, 0) + change

    def _sweep(self, now_s: float) -> None:
        """Forgets what counts no more, so that the counters are as many as what they count."""
        self._heard_s = {holder: heard_s for holder, heard_s in self._heard_s.items() if heard_s >= now_s - LIVE_S}
        self._rates = {
            counter: rate
            for counter, buckets in self._rates.items()
            if (rate := {bucket: value for bucket, value in buckets.items() if value[1] > now_s})
        }
        self._held = {
            counter: held
            for counter, holders in self._held.items()
            if (held := {name: count for name, count in holders.items() if count and name in self._heard_s})
        }
