"""A series is one way of growing, and each of its loads is a case of the benchmark.

Every point has a fresh server, so that points can be measured in any order, again, or not at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

GrowthFigures = dict[str, float | None]
"""The figures of one load, by name. A figure is None when it could not be measured."""


@dataclass(frozen=True)
class GrowthPlan:
    """A plan says how much is measured at each point."""

    quick: bool = False
    ping_s: float = 15.0
    steady_s: float = 4.0
    """Seconds of events at a steady rate."""
    step_s: float = 1.8
    """Seconds of each rate that is tried."""
    steps: int = 6
    """Number of rates that are tried."""
    share: float = 1.0
    """Share of the seconds that a chat load takes."""
    speak_s: float = 20.0
    log_s: float = 2.0
    """Seconds of each kind of call to the log."""


QUICK = GrowthPlan(quick=True, ping_s=2.0, steady_s=2.0, step_s=0.8, steps=3, share=0.5, speak_s=8.0, log_s=0.5)


@dataclass(frozen=True)
class GrowthCase:
    """One load of one series."""

    name: str
    measure: Callable[[Any], GrowthFigures]
    targets: tuple[str, ...] = ("trilane",)


@dataclass(frozen=True)
class GrowthSeries:
    """A way of growing. `counts` says what a load is a number of."""

    part: str
    name: str
    counts: str
    loads: tuple[int, ...]
    quick_loads: tuple[int, ...]
    measure: Callable[[Any, GrowthPlan, int], GrowthFigures]
    """Measures with the part's rig. Raises Cannot, NotStarted, ClientFailed."""

    @property
    def key(self) -> str:
        """Returns its name among all series."""
        return f"{self.part}/{self.name}"

    def cases(self, plan: GrowthPlan) -> list[GrowthCase]:
        """Returns its loads, smallest first."""
        loads = self.quick_loads if plan.quick else self.loads
        return [GrowthCase(f"{self.name}-{load}", partial(_measured, self, plan, load)) for load in loads]


def _measured(series: GrowthSeries, plan: GrowthPlan, load: int, rig: Any) -> GrowthFigures:
    return series.measure(rig, plan, load)
