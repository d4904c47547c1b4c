"""The model beside the points: what each law says at each load, and how far off it is. Pure."""

from collections.abc import Sequence

from loadtests.bench.growth_constants import LANES
from loadtests.bench.growth_figures import SHOWN
from loadtests.bench.growth_model import Checked, Lane, NotMeasured, check
from loadtests.bench.growth_points import Points
from loadtests.bench.rounding import rounded


def lanes(points: Points) -> tuple[dict[str, Lane], list[str]]:
    """The lanes whose constants are known, and what the others lack."""
    known: dict[str, Lane] = {}
    lacking: list[str] = []
    for name, constants in LANES.items():
        try:
            known[name] = constants(points)
        except NotMeasured as err:
            lacking.append(f"{name}: {err}")
    return known, lacking


def errors(lane: Lane, points: Points) -> list[list[list[str]]]:
    """For each series a table: a row for each law, a column for each load."""
    found = check(lane, points)
    return [_table([one for one in found if one.law.series == series]) for series in _series(found)]


def constants(lane: Lane) -> list[list[str]]:
    """A row for each constant: what it is, how much, where it comes from."""
    return [[one.says, f"{rounded(one.value)} {one.unit}".rstrip(), one.source] for one in lane.constants()]


def wrong(points: Points) -> list[str]:
    """A sentence for each point where a law claims to be right and is not."""
    known, _ = lanes(points)
    return [
        f"{one.law.series} at {one.load:,}: {_label(one)} is {rounded(one.measured)}, the model says "
        f"{rounded(one.predicted)} ({_percent(one.error)})"
        for lane in known.values()
        for one in check(lane, points)
        if one.is_wrong
    ]


def cell(one: Checked) -> str:
    """What a law says at one load, and how far off that is; whether it claims anything there."""
    if one.is_fixed:
        return f"{rounded(one.predicted)} (read off)" if one.is_claimed else rounded(one.predicted)
    note = "" if one.is_claimed else ", no claim"
    return f"{rounded(one.predicted)} ({_percent(one.error)}{note})"


def _table(found: Sequence[Checked]) -> list[list[str]]:
    loads = sorted({one.load for one in found})
    laws = list(dict.fromkeys((one.law.figure, _label(one), one.law.says) for one in found))
    at = {(one.law.figure, one.load): cell(one) for one in found}
    rows = [[f"{label} = {says}", *(at.get((figure, load), "") for load in loads)] for figure, label, says in laws]
    return [["the model", *(f"{load:,}" for load in loads)], *rows]


def _series(found: Sequence[Checked]) -> list[str]:
    return list(dict.fromkeys(one.law.series for one in found))


def _label(one: Checked) -> str:
    shown = next(shown for shown in SHOWN[one.law.series] if shown.name == one.law.figure)
    return shown.title


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"
