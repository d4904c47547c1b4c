"""Points: what was measured at each load, out of the records of any number of runs.

A *series* is a figure's way along a load (`events/idle` over 1, 10, 100, ... streams). Of several runs at one load the
newest counts, of its rounds the median; a quick measurement counts only while there is no full one.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loadtests.bench import records
from loadtests.bench.growth_cases import Figures
from loadtests.bench.layout import Record

RESULTS = Path(__file__).resolve().parents[1] / "results" / "growth.jsonl"
PREFIX = "growth-"
"""Of the parts' names, so that theirs are not taken for those of the other benchmarks."""


class Measured(NamedTuple):
    """One figure of a series at one load."""

    load: int
    value: float


@dataclass(frozen=True)
class Point:
    """The figures of a series at one load, and the newest record that has them."""

    series: str
    load: int
    figures: Figures
    record: Record

    @property
    def is_quick(self) -> bool:
        return bool(self.record["plan"].get("quick"))


class Points:
    """The points that count, by series and load."""

    def __init__(self, recorded: Sequence[Record]) -> None:
        found: dict[tuple[str, int], list[Record]] = {}
        for record in sorted(records.calmest(recorded), key=lambda record: record["time"]):
            found.setdefault(_place(record), []).append(record)
        self._all = [_point(place, which) for place, which in sorted(found.items())]

    def __iter__(self) -> Iterator[Point]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, series: str) -> list[Point]:
        return [point for point in self._all if point.series == series]

    def figure(self, series: str, name: str) -> list[Measured]:
        """One figure, without the loads where it is unknown."""
        known = [(point.load, point.figures.get(name)) for point in self.of(series)]
        return [Measured(load, value) for load, value in known if value is not None]

    def at(self, series: str, name: str, load: int) -> float | None:
        """One figure at one load, None when that was not measured."""
        return next((one.value for one in self.figure(series, name) if one.load == load), None)


def read(path: Path) -> Points:
    """The points of a file, none when there is no file. Raises ValueError where a line is no record."""
    return Points(records.read(path) if path.exists() else [])


def _place(record: Record) -> tuple[str, int]:
    """`events/idle`, 1000 of case `idle-1000` of part `growth-events`."""
    name, _, load = record["case"].rpartition("-")
    return f"{record['bench'].removeprefix(PREFIX)}/{name}", int(load)


def _point(place: tuple[str, int], found: list[Record]) -> Point:
    full = [record for record in found if not record["plan"].get("quick")] or found
    last = [record for record in full if record["run"] == full[-1]["run"]]
    names = dict.fromkeys(name for record in last for name in record["figures"])
    return Point(*place, {name: _median([record["figures"].get(name) for record in last]) for name in names}, last[-1])


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
