"""Adds up the metrics of several processes that serve as one, so that whichever of them is asked answers for all.

Counters and histograms are summed, and what an ended process counted stays in the sum: it never goes down. Gauges are
summed over the processes that live, because most count things (open streams, runs, sessions); those that do not, such
as the longest pause, say so where they are declared, and the largest of any process is told. Of `_created`, the time
since which something is counted, the earliest is.

prometheus_client's own mode for several processes keeps each value in a mapped file of each process that ever was,
cannot call a function for a gauge, and is chosen by the environment before its import. Here a process hands its
figures over when they are asked for, and nothing is added to what it costs to count.
"""

from collections.abc import Callable, Collection, Iterable

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

CUMULATIVE = {"counter", "histogram"}
"""Kinds of metrics that count from a start on, and so outlive the process that counted."""
RESTLESS = {"trilane_gateway_cpu_seconds"}
"""Counters that change while nothing happens."""
CREATED = "_created"
"""The end of the name of a sample that holds the time of a start."""

SampleKey = tuple[str, tuple[tuple[str, str], ...]]
"""A sample's name and its labels, sorted."""


class Family(Struct, frozen=True, array_like=True):
    """One metric of one process, with the values of all its labels."""

    name: str
    help_text: str
    kind: str
    is_largest: bool
    """Whether of several processes the largest value is told instead of the sum."""
    samples: list[tuple[str, dict[str, str], float]]


def counted(figures: Iterable[Family]) -> list[Family]:
    """Returns what outlives its process, less RESTLESS: when this has not changed, nothing has happened."""
    return [family for family in figures if family.kind in CUMULATIVE and family.name not in RESTLESS]


def families(registry: CollectorRegistry, largest: Collection[str] = ()) -> list[Family]:
    """Returns the metrics of a registry as they are now; those named in `largest` are no sums."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            metric.name in largest,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in registry.collect()
    ]


class Sums:
    """The metrics of all processes: of those that live, and what those that have ended had counted."""

    def __init__(self) -> None:
        self._ended: list[Family] = []

    def keep(self, figures: Iterable[Family]) -> None:
        """Keeps what a process that has ended had counted."""
        self._ended = merged([self._ended, [family for family in figures if family.kind in CUMULATIVE]])

    def of(self, living: Iterable[Iterable[Family]]) -> list[Metric]:
        """Returns all of it, as prometheus_client has it."""
        return [_metric(family) for family in merged([*living, self._ended])]


def merged(processes: Iterable[Iterable[Family]]) -> list[Family]:
    """Returns one family for each name, in the order in which names come first."""
    metrics: dict[str, Family] = {}
    values: dict[str, dict[SampleKey, float]] = {}
    for family in (family for process in processes for family in process):
        metrics.setdefault(family.name, family)
        totals = values.setdefault(family.name, {})
        for name, labels, value in family.samples:
            key = name, tuple(sorted(labels.items()))
            totals[key] = _together(family, name, totals[key], value) if key in totals else value
    return [
        Family(
            metric.name,
            metric.help_text,
            metric.kind,
            metric.is_largest,
            [(name, dict(labels), value) for (name, labels), value in values[metric.name].items()],
        )
        for metric in metrics.values()
    ]


def _together(family: Family, name: str, total: float, value: float) -> float:
    if name.endswith(CREATED):
        return min(total, value)
    return max(total, value) if family.is_largest else total + value


def _metric(family: Family) -> Metric:
    metric = Metric(family.name, family.help_text, family.kind)
    for name, labels, value in family.samples:
        metric.add_sample(name, labels, value)
    return metric


class Figures(Collector):
    """Metrics that somebody else collects."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect
