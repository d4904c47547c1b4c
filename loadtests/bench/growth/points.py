"""Points are what was measured at each load, out of the records of any number of runs.

A *series* is a figure's way along a load (`events/idle` over 1, 10, 100, ... streams). Of several runs at one load the
newest counts, of its rounds the median; a quick measurement counts only while there is no full one.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.growth.cases import GrowthFigures
from loadtests.bench.harness import records
from loadtests.bench.harness.records import Record

POINTS = records.RESULTS / "growth.jsonl"
"""The committed records that points are made of."""
PREFIX = "growth-"
"""Begins the names of the parts, so that their records are not taken for those of the other benchmarks."""


class LoadValue(NamedTuple):
    """One figure of a series at one load."""

    load: int
    value: float


@dataclass(frozen=True)
class GrowthPoint:
    """The figures of a series at one load, and the newest record that has them."""

    series: str
    load: int
    figures: GrowthFigures
    record: Record

    @property
    def is_quick(self) -> bool:
        return bool(self.record["plan"].get("quick"))


class Points:
    """The points that count, by series and load."""

    def __init__(self, rows: Sequence[Record]) -> None:
        by_place: dict[tuple[str, int], list[Record]] = {}
        for record in sorted(records.calmest(rows), key=lambda record: record["time"]):
            by_place.setdefault(_place(record), []).append(record)
        self._all = [_point(place, which) for place, which in sorted(by_place.items())]

    def __iter__(self) -> Iterator[GrowthPoint]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, series: str) -> list[GrowthPoint]:
        return [point for point in self._all if point.series == series]

    def figure(self, series: str, name: str) -> list[LoadValue]:
        """Returns one figure, without the loads where it is unknown."""
        values = [(point.load, point.figures.get(name)) for point in self.of(series)]
        return [LoadValue(load, value) for load, value in values if value is not None]

    def at(self, series: str, name: str, load: int) -> float | None:
        """Returns one figure at one load, None when that was not measured."""
        return next((one.value for one in self.figure(series, name) if one.load == load), None)


def read(path: Path) -> Points:
    """Reads the points of a file, none when there is no file. Raises ValueError where a line is no record."""
    return Points(records.read(path) if path.exists() else [])


def _place(record: Record) -> tuple[str, int]:
    """Returns the series and load of a record: `events/idle`, 1000 of case `idle-1000` of part `growth-events`."""
    name, _, load = record["case"].rpartition("-")
    return f"{record['bench'].removeprefix(PREFIX)}/{name}", int(load)


def _point(place: tuple[str, int], attempts: list[Record]) -> GrowthPoint:
    full = [record for record in attempts if not record["plan"].get("quick")] or attempts
    last = [record for record in full if record["run"] == full[-1]["run"]]
    names = dict.fromkeys(name for record in last for name in record["figures"])
    figures = {name: _median([record["figures"].get(name) for record in last]) for name in names}
    return GrowthPoint(*place, figures, last[-1])


def _median(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.median(numbers) if numbers else None
