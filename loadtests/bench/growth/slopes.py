"""A figure grows with its load: as a slope in log-log, and as a sentence. Pure.

A slope of 1 is "twice the load, twice the figure", 0 is "the same whatever the load", -0.3 is "each costs less the more
there are". A fit over fewer than three points, or one that misses its points, is not called a slope.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.bench.growth.points import LoadValue

FLAT = 1.25
"""Largest ratio of figures that are called flat: the same point measured twice varies as much."""
FEWEST = 3
STRAIGHT = 0.95
"""Share of the variation that the line must explain before its slope is named."""
PROPORTIONAL = 0.1
"""Largest distance from 1 of a slope that is called proportional."""


@dataclass(frozen=True)
class PowerLaw:
    """The law `figure = scale * load ** slope`; `explains` is R² of the logarithms."""

    slope: float
    scale: float
    explains: float

    def at(self, load: float) -> float:
        return self.scale * load**self.slope


def fit(points: Sequence[LoadValue]) -> PowerLaw | None:
    """Returns the straight line through log(figure) against log(load) with the least squares.

    None with fewer than two loads, or where a figure is not above zero.
    """
    if len({point.load for point in points}) < 2 or any(point.value <= 0 or point.load <= 0 for point in points):
        return None
    xs, ys = [math.log(point.load) for point in points], [math.log(point.value) for point in points]
    x_mean, y_mean = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    across = math.fsum((x - x_mean) ** 2 for x in xs)
    slope = math.fsum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / across
    residual = math.fsum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    spread = math.fsum((y - y_mean) ** 2 for y in ys)
    return PowerLaw(slope, math.exp(y_mean - slope * x_mean), 1 - residual / spread if spread > 0 else 1.0)


def flat_from(points: Sequence[LoadValue]) -> int | None:
    """Returns the smallest load from which on a figure stays about the same; None when its last three do not."""
    for first in range(len(points) - FEWEST + 1):
        values = [point.value for point in points[first:]]
        if min(values) > 0 and max(values) / min(values) <= FLAT:
            return points[first].load
    return None


def in_words(points: Sequence[LoadValue], text: Callable[[float], str]) -> str:
    """Returns what a figure does along the load, as the end of a sentence. `text` writes a value with its unit."""
    if not points:
        return "was not measured"
    first, last = points[0], points[-1]
    if len(points) < FEWEST:
        return "; ".join(f"{text(point.value)} at {point.load:,}" for point in points)
    if (load := flat_from(points)) is not None:
        middle = sorted(point.value for point in points if point.load >= load)
        since = "" if load == first.load else f" from {load:,} on"
        return f"is flat{since}: {text(middle[len(middle) // 2])}"
    ends = f"{text(first.value)} at {first.load:,}, {text(last.value)} at {last.load:,}"
    line = fit(points)
    if line is None or line.explains < STRAIGHT:
        return f"has no single slope: {ends}{_at_the_end(points[-2:])}"
    if abs(line.slope - 1) <= PROPORTIONAL:
        return f"grows in proportion (slope {line.slope:.2f}): {ends}"
    verb = "grows" if line.slope > 0 else "falls"
    return f"{verb} with slope {line.slope:.2f}, {10**line.slope:.2g} times as much for ten times the load: {ends}"


def _at_the_end(points: Sequence[LoadValue]) -> str:
    """Sums of a constant and a share of each bend upwards: how steep they are where the load is largest."""
    line = fit(points)
    return "" if line is None else f"; from {points[0].load:,} on {line.slope:.2f}"
