"""Says what a count means to a caller: when to try again, and OpenAI's headers `x-ratelimit-*`. Pure."""

from collections.abc import Iterable
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from events.log.quotas import Take, Tally

SLOT_RETRY_S = 2
"""Seconds after which to try again for a slot: nobody knows when one will be free."""


class Charge(NamedTuple):
    """One take, and the limit that asks for it."""

    key: str
    take: Take
    is_of_all: bool = False
    """Whether it counts what everyone together uses."""


class Counted(NamedTuple):
    """A charge, and its counter as the engine found it before."""

    charge: Charge
    tally: Tally


def retry_after_s(count: Counted, now_s: float) -> int | None:
    """Returns the whole seconds after which a take that was refused may fit; None when it never will."""
    take, tally = count.charge.take, count.tally
    amount = max(take.amount, 1)
    if not take.window.bucket_s:
        return SLOT_RETRY_S
    if amount > take.limit:
        return None
    excess = tally.used + amount - take.limit
    for bucket, used in tally.buckets:
        excess -= used
        if excess <= 0:
            return max(1, ceil(take.window.leaves_s(bucket) - now_s))
    return SLOT_RETRY_S


def reset_s(count: Counted, now_s: float, *, is_taken: bool) -> float:
    """Returns the seconds after which nothing of what was counted counts any more."""
    take, tally = count.charge.take, count.tally
    newest = take.window.current(now_s) if is_taken and take.amount else tally.buckets[-1][0] if tally.buckets else None
    return max(0.0, take.window.leaves_s(newest) - now_s) if newest is not None else 0.0


def shown_duration(seconds: float) -> str:
    """Returns a duration as OpenAI writes it: `6m0s`, `1s`, `20ms`."""
    if 0 < seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    return _shown(ceil(seconds))


@lru_cache(128)
def _shown(whole: int) -> str:
    minutes, hours = whole // 60 % 60, whole // 3600
    shown = f"{hours}h" if hours else ""
    shown += f"{minutes}m" if minutes or hours else ""
    return f"{shown}{whole % 60}s"


NAMES = {"requests_per_minute": b"requests", "tokens_per_minute": b"tokens"}
"""OpenAI's names for the limits that the headers tell of."""
HEADERS = {
    key: [b"x-ratelimit-%b-%b" % (part, name) for part in (b"limit", b"remaining", b"reset")]
    for key, name in NAMES.items()
}


def headers(counts: Iterable[tuple[Charge, Tally]], now_s: float, *, is_taken: bool) -> list[tuple[bytes, bytes]]:
    """Returns `x-ratelimit-*` for each limit that has some; of a user's and everyone's, that of which less is left."""
    least: dict[str, tuple[int, Charge, Tally]] = {}
    for charge, tally in counts:
        key, take, _ = charge
        if key in HEADERS:
            remaining = take.limit - tally.used - (take.amount if is_taken else 0)
            if key not in least or remaining < least[key][0]:
                least[key] = remaining, charge, tally
    fields: list[tuple[bytes, bytes]] = []
    for key, (remaining, charge, tally) in least.items():
        limit, left, reset = HEADERS[key]
        shown = shown_duration(reset_s(Counted(charge, tally), now_s, is_taken=is_taken))
        fields += (limit, b"%d" % charge.take.limit), (left, b"%d" % max(0, remaining)), (reset, shown.encode())
    return fields
