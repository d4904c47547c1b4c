"""Small plots over the time of a run, as SVG inside the page: its style sheet gives them their colours."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from loadtests.progress import clock

WIDTH, HEIGHT = 320, 130
LEFT, RIGHT, TOP, BOTTOM = 38, 6, 10, 18
STEPS = (1, 2, 2.5, 5, 10)
CLASSES = ("one", "two")
"""Of the style sheet: one for each series."""

Point = tuple[float, float]


class Series(NamedTuple):
    """A line, in the order of time: seconds, and values. A pause of more than `gap_s` is not bridged."""

    name: str
    points: Sequence[Point]
    gap_s: float = 10.0


def plot(title: str, series: Sequence[Series], seconds: float) -> str:
    """A figure of up to two series from 0 to `seconds`."""
    top = _round_up(max((value for one in series for _, value in one.points), default=0.0))
    legend = "".join(
        f'<span class="{name}">{escape(one.name)}</span>'
        for name, one in zip(CLASSES, series, strict=False)
        if one.name
    )
    lines = "".join(
        f'<path class="{name}" d="{_path(one, seconds, top)}"/>'
        for name, one in zip(CLASSES, series, strict=False)
        if one.points
    )
    nothing = f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT / 2 - 8}" text-anchor="middle">nothing came</text>'
    return (
        f"<figure><figcaption><span>{escape(title)}</span><span>{legend}</span></figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over time">'
        f"{_scale(top)}{_times(seconds)}{lines or nothing}</svg></figure>"
    )


def _round_up(value: float) -> float:
    """The next round number, so that half of it is round too."""
    if value <= 0:
        return 1.0
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    return next(power * step for step in STEPS if power * step >= value)


def _x(at_s: float, seconds: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, at_s / seconds)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _path(series: Series, seconds: float, top: float) -> str:
    parts: list[str] = []
    before = -series.gap_s - 1
    for at_s, value in series.points:
        verb = "M" if at_s - before > series.gap_s else "L"
        parts.append(f"{verb}{_x(at_s, seconds):.1f} {_y(value, top):.1f}")
        before = at_s
    return "".join(parts)


def _scale(top: float) -> str:
    made: list[str] = []
    for value in (0.0, top / 2, top):
        y = _y(value, top)
        made.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        made.append(f'<text x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{value:,.4g}</text>')
    return "".join(made)


def _times(seconds: float) -> str:
    marks = ((0.0, "start"), (seconds / 2, "middle"), (seconds, "end"))
    y = HEIGHT - 4
    return "".join(
        f'<text x="{_x(at_s, seconds):.1f}" y="{y}" text-anchor="{side}">{clock(at_s)}</text>' for at_s, side in marks
    )
