"""Axes place values on a plot: linear and logarithmic ones, with round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

STEPS = (1, 2, 5, 10)
MOST_TICKS = 6
NEAR_PX = 30
"""Pixels from the tick before below which a tick is left out."""


@dataclass(frozen=True)
class Axis:
    """An axis by its label and its kind. A logarithmic one takes only values above 0."""

    label: str = ""
    log: bool = False
    exact: bool = False
    """Whether it ends at its values, instead of at round ones."""


class Scale:
    """Values of one axis in pixels, from `first` to `last`."""

    def __init__(self, axis: Axis, values: Sequence[float], first: float, last: float) -> None:
        if not values:
            raise ValueError(f"nothing to show on the axis {axis.label!r}")
        if axis.log and min(values) <= 0:
            raise ValueError(f"a logarithmic axis has no place for {min(values)}: {axis.label!r}")
        self.axis, self.first, self.last = axis, first, last
        self.low, self.high = min(values), max(values)
        if not axis.exact:
            self.low, self.high = (_round_log if axis.log else _round_linear)(self.low, self.high)

    def at(self, value: float) -> float:
        """Returns the pixel of a value."""
        low, high, value = (math.log10(v) if self.axis.log else v for v in (self.low, self.high, value))
        return round(self.first + (value - low) / (high - low) * (self.last - self.first), 1)

    def ticks(self) -> list[float]:
        """Ticks at round values; on a logarithmic axis each 1, 2, 5, or where there are many, each power of ten."""
        if not self.axis.log:
            step = _step(self.high - self.low)
            return [self.low + step * n for n in range(round((self.high - self.low) / step) + 1)]
        powers = range(math.floor(math.log10(self.low) + 1e-9), math.ceil(math.log10(self.high) - 1e-9) + 1)
        parts = STEPS[:3] if len(powers) <= 3 else STEPS[:1]
        every = 1 if len(powers) <= MOST_TICKS + 1 else 2
        round_values = [part * 10.0**power for power in powers[::every] for part in parts]
        return [value for value in round_values if self.low * 0.999 <= value <= self.high * 1.001]

    def spaced(self, values: Sequence[float]) -> list[float]:
        """Returns the values that have room for a label."""
        apart: list[float] = []
        for value in sorted(set(values)):
            if not apart or abs(self.at(value) - self.at(apart[-1])) >= NEAR_PX:
                apart.append(value)
        return apart


def _step(span: float) -> float:
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    return next(step * power for step in STEPS if span / (step * power) <= MOST_TICKS + 1e-9)


def _round_linear(low: float, high: float) -> tuple[float, float]:
    """Bounds from 0, so that lengths can be compared, to the next round value."""
    low, high = min(0.0, low), max(high, 1e-9)
    step = _step(high - low)
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def _round_log(low: float, high: float) -> tuple[float, float]:
    """Bounds at the next 1, 2 or 5 on each side."""
    below, above = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.floor(math.log10(high))
    first = max(part * below for part in STEPS if part * below <= low * 1.001)
    last = min(part * above for part in STEPS if part * above >= high * 0.999)
    return (first, last) if first < last else (first / 2, last * 2)
