"""Checks put the model beside the points: what each law says at each load, and how far off it is. Pure."""

from collections.abc import Sequence

from loadtests.bench.growth.constants import LANES
from loadtests.bench.growth.figures import FIGURES
from loadtests.bench.growth.model import CheckedLaw, LaneModel, NotMeasured, check
from loadtests.bench.growth.points import Points
from loadtests.bench.report.text import rounded


def lanes(points: Points) -> tuple[dict[str, LaneModel], list[str]]:
    """Returns the lanes whose constants are known, and what the others lack."""
    models: dict[str, LaneModel] = {}
    lacking: list[str] = []
    for name, constants in LANES.items():
        try:
            models[name] = constants(points)
        except NotMeasured as err:
            lacking.append(f"{name}: {err}")
    return models, lacking


def errors(lane: LaneModel, points: Points) -> list[list[list[str]]]:
    """Returns a table for each series, with a row for each law and a column for each load."""
    checks = check(lane, points)
    return [_table([one for one in checks if one.law.series == series]) for series in _series(checks)]


def constants(lane: LaneModel) -> list[list[str]]:
    """Returns a row for each constant: what it is, how much, where it comes from."""
    return [[one.says, f"{rounded(one.value)} {one.unit}".rstrip(), one.source] for one in lane.constants()]


def wrong(points: Points) -> list[str]:
    """Returns a sentence for each point where a law claims to be right and is not."""
    models, _ = lanes(points)
    return [
        f"{one.law.series} at {one.load:,}: {_label(one)} is {rounded(one.measured)}, the model says "
        f"{rounded(one.predicted)} ({_percent(one.error)})"
        for lane in models.values()
        for one in check(lane, points)
        if one.is_wrong
    ]


def cell(one: CheckedLaw) -> str:
    """Returns what a law says at one load, and how far off that is; whether it claims anything there."""
    if one.is_fixed:
        return f"{rounded(one.predicted)} (read off)" if one.is_claimed else rounded(one.predicted)
    note = "" if one.is_claimed else ", no claim"
    return f"{rounded(one.predicted)} ({_percent(one.error)}{note})"


def _table(checks: Sequence[CheckedLaw]) -> list[list[str]]:
    loads = sorted({one.load for one in checks})
    laws = list(dict.fromkeys((one.law.figure, _label(one), one.law.says) for one in checks))
    at = {(one.law.figure, one.load): cell(one) for one in checks}
    rows = [[f"{label} = {says}", *(at.get((figure, load), "") for load in loads)] for figure, label, says in laws]
    return [["the model", *(f"{load:,}" for load in loads)], *rows]


def _series(checks: Sequence[CheckedLaw]) -> list[str]:
    return list(dict.fromkeys(one.law.series for one in checks))


def _label(one: CheckedLaw) -> str:
    return next(figure.title for figure in FIGURES[one.law.series] if figure.name == one.law.figure)


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"
