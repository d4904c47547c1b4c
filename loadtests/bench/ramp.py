"""Finds the highest rate that a server still keeps up with. Pure: the measuring is the caller's.

A step that fails is tried once more, because the machine is noisy: only two failures in a row are a limit.
"""

from collections.abc import Callable

GROWTH = 1.15


def highest(step: Callable[[float], bool], start: float, *, within: float, steps: int) -> float:
    """The highest rate for which `step` said True, with a failure at most `within` times higher; 0 when none passed.

    Goes up from `start` until it fails (down until it passes), then halves the distance. At most `steps` rates.
    """
    passed, failed = 0.0, 0.0
    rate = start
    for _ in range(steps):
        if step(rate) or step(rate):
            passed = max(passed, rate)
        else:
            failed = rate
        if passed and failed and failed / passed <= within:
            break
        rate = _next(passed, failed)
    return passed


def _next(passed: float, failed: float) -> float:
    if not failed:
        return passed * GROWTH
    return (passed * failed) ** 0.5 if passed else failed / GROWTH**2
