"""Rates of deliveries: which one a server keeps up with, and the search for the highest. Pure: the caller measures.

A step that fails is tried once more, because the machine is noisy: only two failures in a row are a limit.
"""

from collections.abc import Callable
from typing import Any

GROWTH = 1.15
LIMIT_MS = 100.0
"""A delivery rate counts while 99 % of the deliveries arrive within this."""


def keeps_up(figures: dict[str, Any]) -> bool:
    """Everything arrived, and in time."""
    p99 = figures["delay_ms"]["p99"]
    return not figures["missing"] and not figures["publish_errors"] and p99 is not None and p99 < LIMIT_MS


def highest(step: Callable[[float], bool], start: float, *, within: float, steps: int) -> float:
    """The highest rate for which `step` is True, with a failure at most `within` times higher; 0 when none passes.

    Goes up from `start` until it fails (down until it passes), then halves the distance. At most `steps` rates.
    """
    best, limit = 0.0, 0.0
    rate = start
    for _ in range(steps):
        if step(rate) or step(rate):
            best = max(best, rate)
        else:
            limit = rate
        if best and limit and limit / best <= within:
            break
        rate = _next(best, limit)
    return best


def _next(best: float, limit: float) -> float:
    if not limit:
        return best * GROWTH
    return (best * limit) ** 0.5 if best else limit / GROWTH**2
