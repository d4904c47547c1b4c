"""Keeps the figures of one process for Prometheus, named `trilane_<lane>_<what>_<unit>`. Nothing here runs per token.

What belongs to no lane has `gateway` or `log` in its place. The values of every label are bounded: they are words of
ours, or names from the operator's own settings, never anything that a client sent.
"""

import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest, start_http_server
from prometheus_client.registry import Collector

from gateway.core.sums import Family, families
from gateway.errors import ConfigurationError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHORT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 5, 30)
"""Buckets, in seconds, of what ought to take milliseconds."""
LONG_S = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 30, 60)
"""Buckets, in seconds, of what somebody waits for."""
COUNTS = (0, 1, 10, 100, 1000, 10_000, 100_000)
"""Buckets of numbers of events."""

Readings = Callable[[], Mapping[tuple[str, ...], float]]
"""A function that returns values by those of their labels."""


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._largest: set[str] = set()
        self.sums: Callable[[], Awaitable[bytes]] | None = None
        """Returns the figures of all processes that serve as one, where this is one of several."""

    def gauge(self, name: str, help_text: str, value: Callable[[], float], *, is_largest: bool = False) -> None:
        """Adds a metric whose value is looked up at each scrape.

        `is_largest`: it counts nothing, so of several processes the largest value is told and not the sum.
        """
        if is_largest:
            self._largest.add(f"trilane_{name}")
        Gauge(f"trilane_{name}", help_text, registry=self.registry).set_function(value)

    def gauges(
        self, name: str, help_text: str, labels: Sequence[str], read: Readings, *, is_largest: bool = False
    ) -> None:
        """Adds a metric with labels, all of whose values are looked up at each scrape; `is_largest` as of `gauge`."""
        if is_largest:
            self._largest.add(f"trilane_{name}")
        self.registry.register(_Lookup("gauge", f"trilane_{name}", help_text, labels, read))

    def total(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """Adds a counter that somebody else counts; it is looked up at each scrape."""
        self.totals(name, help_text, (), lambda: {(): value()})

    def totals(self, name: str, help_text: str, labels: Sequence[str], read: Readings) -> None:
        """Adds a counter with labels that somebody else counts; it is looked up at each scrape."""
        self.registry.register(_Lookup("counter", f"trilane_{name}", help_text, labels, read))

    def counter(self, name: str, help_text: str, label: str, values: Iterable[str] = ()) -> Counter:
        """Adds and returns a counter with one label, which begins at 0 for each of `values`."""
        counter = Counter(f"trilane_{name}", help_text, [label], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def histogram(self, name: str, help_text: str, buckets: Sequence[float]) -> Histogram:
        """Adds and returns a histogram."""
        return Histogram(f"trilane_{name}", help_text, buckets=buckets, registry=self.registry)

    def families(self) -> list[Family]:
        return families(self.registry, self._largest)

    async def text(self) -> bytes:
        """Returns the figures as Prometheus reads them: of this process, or of all that serve as one with it."""
        return await self.sums() if self.sums is not None else generate_latest(self.registry)


class _Lookup(Collector):
    """A metric whose values are looked up at each scrape."""

    def __init__(
        self, kind: Literal["gauge", "counter"], name: str, help_text: str, labels: Sequence[str], read: Readings
    ) -> None:
        self._kind = kind
        self._name = name
        self._help_text = help_text
        self._labels = labels
        self._read = read

    def describe(self) -> list[Metric]:
        return [Metric(self._name, self._help_text, self._kind)]

    def collect(self) -> list[Metric]:
        [metric] = self.describe()
        name = f"{self._name}_total" if self._kind == "counter" else self._name
        for values, value in self._read().items():
            metric.add_sample(name, dict(zip(self._labels, values, strict=True)), value)
        return [metric]


def serve_metrics(host: str, port: int, collector: Collector) -> None:
    """Serves figures on a port of their own, from a thread. Raises ConfigurationError when it cannot be listened on."""
    try:
        start_http_server(port, host, collector)
    except OSError as err:
        raise ConfigurationError(
            f"TRILANE_METRICS_PORT={port} of TRILANE_METRICS_HOST={host} cannot be listened on: {err.strerror}"
        ) from err


class Pauses:
    """Measures how long full garbage collections have stopped this process."""

    def __init__(self) -> None:
        self.total_s = self.longest_s = 0.0
        self._start = 0.0

    def watch(self) -> None:
        gc.callbacks.append(self._on_collection)

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self._start = time.perf_counter()
        else:
            took_s = time.perf_counter() - self._start
            self.total_s += took_s
            self.longest_s = max(self.longest_s, took_s)
