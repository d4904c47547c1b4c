"""`loadtests/GROWTH.md` and its plots are made from the points: no measured number is written there by hand.

Its blocks are one for each lane, `growth-needs`, `growth-store` (from the results of the engines) and
`growth-constants`; `python -m loadtests.bench figures` fills them.
"""

from importlib import import_module
from pathlib import Path

from loadtests.bench.growth import scenarios
from loadtests.bench.growth.cases import GrowthSeries
from loadtests.bench.growth.checks import constants, errors, lanes, wrong
from loadtests.bench.growth.constants import LANES
from loadtests.bench.growth.figures import figures_of
from loadtests.bench.growth.model import ERROR
from loadtests.bench.growth.plots import PLOTS
from loadtests.bench.growth.points import POINTS, Points, read
from loadtests.bench.growth.scenarios import MACHINES, STORE
from loadtests.bench.growth.store import STORES, store_columns, store_model
from loadtests.bench.growth.table import cells, noise, words
from loadtests.bench.harness import records as recorded
from loadtests.bench.report.blocks import provenance
from loadtests.bench.report.pages import block_names, filled
from loadtests.bench.report.text import aligned, markdown

PAGE = POINTS.parents[1] / "GROWTH.md"
ENGINES = "engines.jsonl"
"""The results of the engines benchmark, which has measured the stores."""
UNKNOWN = "Not measured yet."


def files(page: Path, results: Path) -> dict[Path, str]:
    """Returns what the page and its plots must hold. Raises ValueError where a marker names no block."""
    points = read(results)
    blocks = {f"growth-{name}": _lane(name, points) for name in LANES}
    blocks |= {"growth-needs": _needs(points), "growth-constants": _constants(points)}
    blocks["growth-store"] = _store(points, results.parent / ENGINES)
    block_names(page, blocks)
    plots = {results.parent / one.file: svg for one in PLOTS if (svg := one.svg(points))}
    return {page: filled(page.read_text(), blocks), **plots}


def summary(points: Points) -> str:
    """Returns the model beside the points, and what large loads would need, for the terminal."""
    models, lacking = lanes(points)
    tables = [aligned(table) for lane in models.values() for table in errors(lane, points)]
    remarks = [f"no model of {why}" for why in lacking]
    remarks += [f"off by more than {ERROR:.0%}: {sentence}" for sentence in wrong(points)]
    return "\n\n".join([*tables, *(["\n".join(remarks)] if remarks else []), scenarios.table(points)])


def _lane(name: str, points: Points) -> str:
    """Returns the text of each series: its plots, its table, its figures in words, the model beside it."""
    module = import_module(f"loadtests.bench.growth.{name}")
    series: list[GrowthSeries] = [one for one in module.SERIES if points.of(one.key)]
    if not series:
        return UNKNOWN
    models, _ = lanes(points)
    checks = errors(models[name], points) if name in models else []
    parts = [part for one in series for part in _series(one, points)]
    parts += [_markdown(table) for table in checks]
    records = [point.record for one in series for point in points.of(one.key)]
    command = f'make bench PART=growth ARGS="--parts {name} --again"'
    return "\n\n".join([*parts, *_warnings(points, series), provenance(records, f"results/{POINTS.name}", command)])


def _series(series: GrowthSeries, points: Points) -> list[str]:
    plots = [plot for plot in PLOTS if plot.series == series.key and plot.svg(points)]
    images = [f"![{plot.title}](results/{plot.file})" for plot in plots]
    figures = [one for one in figures_of(series) if points.figure(series.key, one.name)]
    sentences = [f"- {one.label} {words(one, series, points)}" for one in figures]
    return [f"**More {series.counts}**", *images, _markdown(cells(series, points)), "\n".join(sentences)]


def _warnings(points: Points, series: list[GrowthSeries]) -> list[str]:
    quick = [point for one in series for point in points.of(one.key) if point.is_quick]
    warnings = [f"{len(quick)} of these points are of quick runs: indications, no measurements."] if quick else []
    warnings += noise([point for one in series for point in points.of(one.key)])
    return [" ".join(warnings)] if warnings else []


def _needs(points: Points) -> str:
    if not len(points):
        return UNKNOWN
    tables = [_markdown(scenarios.cells(points, columns)) for columns in (MACHINES, STORE)]
    return "\n\nWhat a store between the processes would carry:\n\n".join(tables)


def _store(points: Points, results: Path) -> str:
    """Returns what each engine's server needs for the loads, where it was measured."""
    records = recorded.read(results) if results.exists() else []
    models = {title: model for name, title in STORES.items() if (model := store_model(records, name))}
    if not models:
        return UNKNOWN
    table = _markdown(scenarios.cells(points, store_columns(models)))
    return f"{table}\n\n{provenance(records, f'results/{ENGINES}', 'make bench PART=engines')}"


def _constants(points: Points) -> str:
    if not len(points):
        return UNKNOWN
    models, lacking = lanes(points)
    rows = [[name, *row] for name, lane in models.items() for row in constants(lane)]
    off = wrong(points)
    verdict = f"Where it claims to be right, the model is within {ERROR:.0%} of every point."
    if off:
        title = f"Off by more than {ERROR:.0%} where it claims to be right:"
        verdict = "\n".join([title, "", *(f"- {sentence}" for sentence in off)])
    table = [_markdown([["lane", "one", "takes", "read off"], *rows]), verdict] if rows else []
    return "\n\n".join([*table, *lacking])


def _markdown(table: list[list[str]]) -> str:
    return markdown(table[0], table[1:])
