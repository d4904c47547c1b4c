"""The terminal shows a growth: a line for each point while it is measured, then a table for each series."""

from collections.abc import Sequence

from loadtests.bench.growth.cases import GrowthSeries
from loadtests.bench.growth.figures import GrowthFigure, figures_of
from loadtests.bench.growth.points import GrowthPoint, Points
from loadtests.bench.growth.slopes import in_words
from loadtests.bench.harness.records import NOISY_CORES, Record
from loadtests.bench.report.text import aligned


class GrowthTable:
    """The look of one part's records."""

    def __init__(self, series: Sequence[GrowthSeries]) -> None:
        self._series = {one.name: one for one in series}

    def progress(self, record: Record) -> str:
        """Returns one line while the benchmark runs."""
        name, _, load = record["case"].rpartition("-")
        series = self._series[name]
        start = f"  {int(load):>10,} {series.counts:21} {record['took_s']:5.1f} s | "
        if "figures" not in record:
            return start + (record.get("error") or f"cannot {record['cannot']}")
        values = [(one, record["figures"].get(one.name)) for one in figures_of(series)]
        cells = " | ".join(f"{one.label} {one.with_unit(value)}" for one, value in values if value is not None)
        faults = "".join(f" | {name}: {count:,}" for name, count in record["faults"].items())
        return f"{start}{cells}{faults} | other work {record['foreign_cores']:.2f} cores"

    def render(self, records: list[Record], absent: dict[str, str]) -> str:
        """Returns a table for each series, what each figure does, and remarks on the measurement."""
        points = Points(records)
        tables = [table(one, points) for one in self._series.values() if points.of(one.key)]
        remarks = [f"{r['case']}: {r.get('error') or 'cannot ' + r['cannot']}" for r in records if "figures" not in r]
        remarks += [f"{r['case']}: {name}: {count}" for r in records for name, count in r["faults"].items()]
        remarks += noise(list(points))
        return "\n\n".join([*tables, *(["\n".join(remarks)] if remarks else [])])


def table(series: GrowthSeries, points: Points) -> str:
    """Returns one row for each load; below, each figure in words."""
    body = cells(series, points)
    sentences = [f"{one.label} {words(one, series, points)}" for one in figures_of(series)]
    return "\n".join([aligned(body), *sentences])


def cells(series: GrowthSeries, points: Points) -> list[list[str]]:
    """Returns the header, and a row for each load; figures that are not there have no column."""
    columns = [one for one in figures_of(series) if points.figure(series.key, one.name)]
    rows = [
        [f"{point.load:,}", *(one.text(point.figures.get(one.name)) for one in columns)]
        for point in points.of(series.key)
    ]
    return [[series.counts, *(one.title for one in columns)], *rows]


def words(figure: GrowthFigure, series: GrowthSeries, points: Points) -> str:
    """Returns what a figure does along the load."""
    return in_words(points.figure(series.key, figure.name), figure.with_unit)


def noise(points: Sequence[GrowthPoint]) -> list[str]:
    """Returns a warning when other work took part."""
    noisy = [point for point in points if point.record["foreign_cores"] > NOISY_CORES]
    if not noisy:
        return []
    return [
        f"{len(noisy)} of {len(points)} points were measured beside other work of more than {NOISY_CORES} cores: "
        "repeat on a quiet machine before believing them."
    ]
