"""Whether a process is steady: its memory and its descriptors do not grow, by samples taken under an even load. Pure.

The window is cut into BLOCKS, each of which stands with its median, because what an allocator keeps comes and goes in
steps. The straight line through them with the least squares has a slope, and the blocks' distances from it say how sure
that is. A figure grows when three things hold: its slope is more than MARGIN standard errors above zero; the line rises
by more than `loose` over the window; and the second half of the window is higher than the first by half of that.
`loose` is what caches and allocators may still take.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

BLOCKS = 12
MARGIN = 3.0
"""Standard errors that a slope must be away from zero."""


class ProcessSample(NamedTuple):
    """One process at one moment."""

    at_s: float
    memory_kib: float
    descriptors: int


class Trend(NamedTuple):
    """The straight line through a figure against time."""

    per_s: float
    error_per_s: float
    """The standard error of `per_s`."""
    spread: float
    """The standard deviation of the figure around the line."""


@dataclass(frozen=True)
class Course:
    """The course of one figure of one process over a window."""

    name: str
    seconds: float
    trend: Trend
    halves: tuple[float, float]
    """Means of the blocks of the first and of the second half."""
    loose: float
    """Growth over the window that is allowed whatever the doubt."""

    @property
    def growth(self) -> float:
        """Returns what the line rises over the window."""
        return self.trend.per_s * self.seconds

    @property
    def is_steady(self) -> bool:
        is_sure = self.trend.per_s > MARGIN * self.trend.error_per_s
        between = self.halves[1] - self.halves[0]
        return not (is_sure and self.growth > self.loose and between > self.loose / 2)

    def __str__(self) -> str:
        word = "steady" if self.is_steady else "GROWS"
        slope, error = self.trend.per_s * 60, self.trend.error_per_s * 60
        return (
            f"{self.name:<20} {word}: {slope:+.2f} ± {error:.2f} a minute, {self.growth:+.1f} in {self.seconds:.0f} s "
            f"({self.loose:.1f} allowed); halves {self.halves[0]:.1f}, {self.halves[1]:.1f}"
        )


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """Returns the line through (time in s, figure) with the least squares. Needs three points or more."""
    at_mean, mean = fmean(at for at, _ in points), fmean(value for _, value in points)
    across = math.fsum((at - at_mean) ** 2 for at, _ in points)
    per_s = math.fsum((at - at_mean) * (value - mean) for at, value in points) / across
    rest = math.fsum((value - mean - per_s * (at - at_mean)) ** 2 for at, value in points)
    variance = rest / (len(points) - 2)
    return Trend(per_s, math.sqrt(variance / across), math.sqrt(variance))


def blocks(points: Sequence[tuple[float, float]], count: int = BLOCKS) -> list[tuple[float, float]]:
    """Returns the middle time and the median of each of `count` equal parts of the time; those without a point lack."""
    first, last = points[0][0], points[-1][0]
    parts: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for at, value in points:
        parts[min(count - 1, int((at - first) / (last - first) * count))].append((at, value))
    return [(fmean(at for at, _ in part), median(value for _, value in part)) for part in parts if part]


def course(name: str, points: Sequence[tuple[float, float]], loose: float) -> Course:
    """Returns the course of a figure, of which there are points enough for three blocks."""
    middles = blocks(points)
    half = len(middles) // 2
    halves = fmean(value for _, value in middles[:half]), fmean(value for _, value in middles[half:])
    return Course(name, points[-1][0] - points[0][0], trend(middles), halves, loose)
