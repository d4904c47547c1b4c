"""A growth in the terminal: a line for each point while it is measured, then a table for each series."""

from collections.abc import Sequence

from loadtests.bench.growth_cases import Series
from loadtests.bench.growth_figures import Shown, of
from loadtests.bench.growth_points import Point, Points
from loadtests.bench.growth_slopes import in_words
from loadtests.bench.layout import NOISY_CORES, Record, aligned


class GrowthTable:
    """How the records of one part look."""

    def __init__(self, series: Sequence[Series]) -> None:
        self._series = {one.name: one for one in series}

    def progress(self, record: Record) -> str:
        """One line while the benchmark runs."""
        name, _, load = record["case"].rpartition("-")
        series = self._series[name]
        start = f"  {int(load):>10,} {series.counts:21} {record['took_s']:5.1f} s | "
        if "figures" not in record:
            return start + (record.get("error") or f"cannot {record['cannot']}")
        known = [(one, value) for one in of(series) if (value := record["figures"].get(one.name)) is not None]
        said = " | ".join(f"{one.label} {one.text(value)} {one.unit}".rstrip() for one, value in known)
        faults = "".join(f" | {name}: {count:,}" for name, count in record["faults"].items())
        return f"{start}{said}{faults} | other work {record['foreign_cores']:.2f} cores"

    def render(self, records: list[Record], absent: dict[str, str]) -> str:
        """A table for each series, what each figure does, and what must be said about the measurement."""
        points = Points(records)
        tables = [table(one, points) for one in self._series.values() if points.of(one.key)]
        told = [f"{r['case']}: {r.get('error') or 'cannot ' + r['cannot']}" for r in records if "figures" not in r]
        told += [f"{r['case']}: {name}: {count}" for r in records for name, count in r["faults"].items()]
        told += noise(list(points))
        return "\n\n".join([*tables, *(["\n".join(told)] if told else [])])


def table(series: Series, points: Points) -> str:
    """One row for each load; below, each figure in words."""
    body = cells(series, points)
    said = [f"{one.label} {words(one, series, points)}" for one in of(series)]
    return "\n".join([aligned(body), *said])


def cells(series: Series, points: Points) -> list[list[str]]:
    """The header, and a row for each load; figures that are not there have no column."""
    shown = [one for one in of(series) if points.figure(series.key, one.name)]
    rows = [
        [f"{point.load:,}", *(one.text(point.figures.get(one.name)) for one in shown)]
        for point in points.of(series.key)
    ]
    return [[series.counts, *(one.title for one in shown)], *rows]


def words(shown: Shown, series: Series, points: Points) -> str:
    """What a figure does along the load."""
    return in_words(points.figure(series.key, shown.name), lambda value: f"{shown.text(value)} {shown.unit}".rstrip())


def noise(points: Sequence[Point]) -> list[str]:
    """A warning when other work took part."""
    noisy = [point for point in points if point.record["foreign_cores"] > NOISY_CORES]
    if not noisy:
        return []
    return [
        f"{len(noisy)} of {len(points)} points were measured beside other work of more than {NOISY_CORES} cores: "
        "repeat on a quiet machine before believing them."
    ]
