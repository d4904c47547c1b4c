"""A lease is what an admitted request holds of its limits until it ends."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from events.log.quotas import Settlement, Take

TOKENS = ("tokens_per_minute", "daily_tokens")
COST = "monthly_cost"
AUDIO_SECONDS = "audio_seconds_per_day"
COST_UNIT = 1_000_000
"""Costs are counted in millionths."""


class Reservation(NamedTuple):
    """What was taken of a rate, and in which bucket."""

    take: Take
    bucket: int


Reserved = Mapping[str, list[Reservation]]
"""What was taken of rates, by limit."""


class Lessor(Protocol):
    """Takes back what leases give back."""

    def release(self, key: str, sub: str, counters: Sequence[str]) -> None: ...
    def settle(self, settlements: Sequence[Settlement]) -> None: ...


class Lease:
    """What an admitted request holds. Every part is given back once, however often it is told to end."""

    __slots__ = ("_lessor", "_reserved", "_slots", "_sub", "headers")

    def __init__(
        self,
        lessor: Lessor | None = None,
        sub: str = "",
        slots: dict[str, Sequence[str]] | None = None,
        reserved: Reserved | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """`slots`: the counters of which it holds one, by limit; none where it holds a share of this process alone."""
        self._lessor = lessor
        self._sub = sub
        self._slots = slots or {}
        self._reserved = reserved or {}
        self.headers = headers
        """`x-ratelimit-*`, for the answer."""

    @property
    def reserved(self) -> Reserved:
        """Returns what it has taken of rates and not settled, by limit."""
        return self._reserved

    @property
    def has_counters(self) -> bool:
        """Returns whether the engine counts any part of it."""
        return bool(self._reserved) or any(self._slots.values())

    def leave(self, key: str) -> None:
        """Gives the slots of one limit back."""
        counters = self._slots.pop(key, None)
        if counters is not None and self._lessor is not None:
            self._lessor.release(key, self._sub, counters)

    def leave_stream(self) -> None:
        self.leave("streams")

    def end_of_stream(self, detach: Callable[[], None]) -> Callable[[], None]:
        """Returns what to call at the end of a stream: `detach`, after which its slot is given back."""
        return partial(self._end_stream, detach) if "streams" in self._slots else detach

    def _end_stream(self, detach: Callable[[], None]) -> None:
        detach()
        self.leave_stream()

    def end(self) -> None:
        """Gives all slots back. What was taken of rates stays taken."""
        for key in list(self._slots):
            self.leave(key)

    def cancel(self) -> None:
        """Ends it, because nothing was begun: gives back what was taken of rates, too."""
        self.end()
        self._put(dict.fromkeys(self._reserved, 0))

    def settle(self, *, tokens: int | None = None, audio_seconds: int | None = None, cost: float | None = None) -> None:
        """Puts what was really used in place of what was reserved, once for each kind."""
        if not self._reserved:
            return
        used = {AUDIO_SECONDS: audio_seconds, **dict.fromkeys(TOKENS, tokens)}
        used[COST] = None if cost is None else round(cost * COST_UNIT)
        self._put({key: amount for key, amount in used.items() if amount is not None and key in self._reserved})

    def _put(self, settled: Mapping[str, int]) -> None:
        if not settled or self._lessor is None:
            return
        self._lessor.settle(
            [
                Settlement(take.counter, bucket, amount - take.amount, take.window)
                for key, amount in settled.items()
                for take, bucket in self._reserved[key]
                if amount != take.amount
            ]
        )
        self._reserved = {key: taken for key, taken in self._reserved.items() if key not in settled}


NO_LEASE = Lease()
"""The lease of work that no limit counts."""
