"""`loadtests/GROWTH.md` and its plots, made from the points: no number is written there by hand.

    python -m loadtests.bench.growth_page            # fills the blocks of the page, writes the plots
    python -m loadtests.bench.growth_page --check    # writes nothing; 1 and a diff when they differ from the points

A block stands between `<!-- figures: growth-NAME -->` and `<!-- /figures -->`: one for each lane, `growth-needs`,
`growth-constants`.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from loadtests.bench.figure_tables import markdown, provenance
from loadtests.bench.figures import BLOCK, check, filled
from loadtests.bench.growth_bill import Prices
from loadtests.bench.growth_cases import Series
from loadtests.bench.growth_checks import constants, errors, lanes, wrong
from loadtests.bench.growth_constants import LANES
from loadtests.bench.growth_figures import of
from loadtests.bench.growth_model import ERROR
from loadtests.bench.growth_plots import PLOTS
from loadtests.bench.growth_points import RESULTS, Points, read
from loadtests.bench.growth_scenarios import MACHINES, SCENARIOS, STORE, cells, table
from loadtests.bench.growth_table import cells as series_cells
from loadtests.bench.growth_table import noise, words
from loadtests.bench.layout import aligned

PAGE = RESULTS.parents[1] / "GROWTH.md"


def main(argv: list[str]) -> int:
    """Write the page, or with `--check` say what is not as the points have it."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.growth_page", description="The page of growth.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 and a diff when something differs")
    wanted = files(PAGE, RESULTS)
    if parser.parse_args(argv).check:
        return check(wanted)
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.name}")
    return 0


def files(page: Path, results: Path) -> dict[Path, str]:
    """What each file must hold. Raises ValueError where a marker of the page names no block."""
    points = read(results)
    text = page.read_text()
    blocks = {f"growth-{name}": _lane(name, points) for name in LANES}
    blocks |= {"growth-needs": _needs(points), "growth-constants": _constants(points)}
    if unknown := [found["name"] for found in BLOCK.finditer(text) if found["name"] not in blocks]:
        raise ValueError(f"{page.name}: no figures are called {unknown[0]!r}; there are {', '.join(blocks)}")
    plots = {results.parent / one.file: svg for one in PLOTS if (svg := one.svg(points))}
    return {page: filled(text, blocks), **plots}


def summary(points: Points) -> str:
    """For the terminal: the model beside the points, and what large loads would need."""
    known, lacking = lanes(points)
    tables = [aligned(table) for lane in known.values() for table in errors(lane, points)]
    told = [f"no model of {said}" for said in lacking] + [f"off by more than {ERROR:.0%}: {s}" for s in wrong(points)]
    return "\n\n".join([*tables, *(["\n".join(told)] if told else []), table(SCENARIOS, points, Prices())])


def _lane(name: str, points: Points) -> str:
    """Each series: its plots, its table, its figures in words, the model beside it."""
    series: list[Series] = [one for one in import_module(f"loadtests.bench.growth_{name}").SERIES if points.of(one.key)]
    if not series:
        return "Not measured yet."
    known, _ = lanes(points)
    checked = errors(known[name], points) if name in known else []
    parts = [part for one in series for part in _series(one, points)]
    parts += [_markdown(table) for table in checked]
    found = [point.record for one in series for point in points.of(one.key)]
    command = f'make bench PART=growth ARGS="--parts {name} --again"'
    origin = provenance(found, RESULTS.name, command).replace("loadtests/results/", "results/")
    return "\n\n".join([*parts, *_warnings(points, series), origin])


def _series(series: Series, points: Points) -> list[str]:
    plots = [plot for plot in PLOTS if plot.series == series.key and plot.svg(points)]
    images = [f"![{plot.title}](results/{plot.file})" for plot in plots]
    said = [f"- {one.label} {words(one, series, points)}" for one in of(series) if points.figure(series.key, one.name)]
    return [f"**More {series.counts}**", *images, _markdown(series_cells(series, points)), "\n".join(said)]


def _warnings(points: Points, series: list[Series]) -> list[str]:
    quick = [point for one in series for point in points.of(one.key) if point.is_quick]
    said = [f"{len(quick)} of these points are of quick runs: indications, no measurements."] if quick else []
    warnings = said + noise([point for one in series for point in points.of(one.key)])
    return [" ".join(warnings)] if warnings else []


def _needs(points: Points) -> str:
    if not len(points):
        return "Not measured yet."
    tables = [cells(SCENARIOS, points, Prices(), columns) for columns in (MACHINES, STORE)]
    return "\n\nWhat a store between the processes would carry:\n\n".join(_markdown(one) for one in tables)


def _constants(points: Points) -> str:
    if not len(points):
        return "Not measured yet."
    known, lacking = lanes(points)
    rows = [[name, *row] for name, lane in known.items() for row in constants(lane)]
    off = wrong(points)
    verdict = f"Where it claims to be right, the model is within {ERROR:.0%} of every point."
    if off:
        title = f"Off by more than {ERROR:.0%} where it claims to be right:"
        verdict = "\n".join([title, "", *(f"- {said}" for said in off)])
    said = [_markdown([["lane", "one", "takes", "read off"], *rows]), verdict] if rows else []
    return "\n\n".join([*said, *lacking])


def _markdown(table: list[list[str]]) -> str:
    return markdown(table[0], table[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
