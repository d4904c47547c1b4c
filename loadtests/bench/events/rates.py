"""The highest rate of deliveries that a server keeps up with is searched for. Pure: the caller measures.

A step that fails is tried once more, because the machine is noisy: only two failures in a row are a limit.
"""

from collections.abc import Callable
from typing import Any

GROWTH = 1.15
LIMIT_MS = 100.0
"""Latency in ms within which 99 % of the deliveries must arrive for a rate to count."""


def keeps_up(figures: dict[str, Any]) -> bool:
    """Returns whether everything arrived, and in time."""
    p99 = figures["delay_ms"]["p99"]
    return not figures["missing"] and not figures["publish_errors"] and p99 is not None and p99 < LIMIT_MS


def highest(step: Callable[[float], bool], start: float, *, within: float, steps: int) -> float:
    """Returns the highest rate for which `step` is True, with a failure at most `within` times higher; 0 if none.

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
