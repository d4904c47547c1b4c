"""Plots are SVG of a few kB, for the pages of the benchmark and for the report of a load test.

    lines("Memory", [Line("Trilane", [(1, 2.0), (10, 2.1)])], Axis("streams", log=True), Axis("KiB each", log=True))

`lines`, `bars` and `ranges` make files. Their colours follow `prefers-color-scheme`, also where a page shows the file
as an image; the background is part of the file, because a page may be dark on a light system. Every line, bar and point
is labelled where it is: there is no legend. `over_time` makes a small figure inside a page, whose style sheet colours
it. Two calls with the same values give the same bytes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from loadtests.bench.report.axes import Axis, Scale
from loadtests.bench.report.text import short

__all__ = ["Axis", "Bar", "Line", "Range", "bars", "lines", "over_time", "ranges"]

WIDTH = 760
PAD, TEXT, SMALL = 20, 13, 12
LETTER = 0.54
"""Width of a letter as a share of its height: an estimate for sans-serif fonts, a little on the large side."""
TITLE_PX, AXIS_PX = 44, 44
LINE_PX = 16
"""Pixels between the baselines of two labels."""
ROW_PX, GROUP_PX = 28, 34
INSET_WIDTH, INSET_HEIGHT = 320, 130
"""Size of a plot inside a page, which stretches it."""

LIGHT = ("#ffffff", "#1f2328", "#656d76", "#d8dee4", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#6e7781")
DARK = ("#0d1117", "#e6edf3", "#8d96a0", "#30363d", "#58a6ff", "#f0883e", "#3fb950", "#bc8cff", "#ff7b72", "#848d97")
COLOURS = 5
OTHERS = COLOURS
"""The grey of what is only there to be compared with."""


@dataclass(frozen=True)
class Line:
    """A line joins its points in the order of x. `colour` is 0 to 4, or OTHERS."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    dashed: bool = False
    gap: float = math.inf
    """Distance along x above which two points are not joined."""


@dataclass(frozen=True)
class Bar:
    """A bar has a length; where that is None, `note` says why. Bars with the same `group` stand together."""

    name: str
    value: float | None
    group: str = ""
    note: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Range:
    """A range goes from a median to a tail; Nones as in Bar."""

    name: str
    middle: float | None
    tail: float | None
    group: str = ""
    note: str = ""
    ours: bool = False


def lines(
    title: str, series: Sequence[Line], x: Axis, y: Axis, *, limit: tuple[float, str] | None = None, height: int = 380
) -> str:
    """Returns a plot of lines, each with its name at its end and its values at the points where there is room."""
    right = WIDTH - PAD - max(_width(one.name) for one in series) - 14
    bottom = height - AXIS_PX
    points = [point for one in series for point in one.points]
    ys = Scale(y, [v for _, v in points] + ([limit[0]] if limit else []), bottom, TITLE_PX + 34)
    left = PAD + max(_width(short(tick), SMALL) for tick in ys.ticks()) + 10
    xs = Scale(x, [v for v, _ in points], left + 8, right - 8)
    parts = [_text(PAD, TITLE_PX + 14, y.label, "soft small")]
    parts += [_gridline(left, right, ys.at(tick)) for tick in ys.ticks()]
    parts += [_text(left - 8, ys.at(tick) + 4, short(tick), "soft small end") for tick in ys.ticks()]
    marks = [v for v, _ in points] if len({v for v, _ in points}) <= 9 else xs.ticks()
    parts += [_text(xs.at(mark), bottom + 20, short(mark), "soft small middle") for mark in xs.spaced(marks)]
    parts.append(_text((left + right) / 2, bottom + 38, x.label, "soft small middle"))
    if limit:
        parts.append(_rule(left, right, ys.at(limit[0])))
        parts.append(_text(left + 4, ys.at(limit[0]) - 6, limit[1], "soft small"))
    for one in series:
        parts += _line(one, xs, ys)
    parts += _names(series, xs, ys)
    parts += _values(series, xs, ys)
    return _svg(title, parts, height)


def bars(title: str, rows: Sequence[Bar], unit: str) -> str:
    """Returns a plot of lengths from 0, each with its value at its end."""
    left = PAD + max(_width(row.name) for row in rows) + 12
    values = [row.value for row in rows if row.value is not None]
    scale = Scale(Axis(unit), values, left, WIDTH - PAD - 64)
    parts, y = [_text(PAD, TITLE_PX + 10, unit, "soft small")], TITLE_PX + 16.0
    group = ""
    for row in rows:
        y, group = _heading(parts, y, group, row.group)
        parts.append(_text(left - 10, y + 17, row.name, "end strong" if row.ours else "end"))
        if row.value is None:
            parts.append(_text(left, y + 17, row.note or "not measured", "soft"))
        else:
            length = max(1.0, scale.at(row.value) - left)
            parts.append(
                f'<rect class="f{_colour(row.ours)}" x="{left:g}" y="{y + 4:g}" width="{length:g}" height="18" rx="2"/>'
            )
            parts.append(_text(left + length + 6, y + 17, short(row.value), "strong" if row.ours else ""))
        y += ROW_PX
    return _svg(title, parts, round(y + PAD))


def ranges(title: str, rows: Sequence[Range], unit: str) -> str:
    """Returns a plot of ranges from the median (a full dot) to the tail (an open one), on a logarithmic axis."""
    left = PAD + max(_width(row.name) for row in rows) + 16
    values = [value for row in rows for value in (row.middle, row.tail) if value is not None]
    scale = Scale(Axis(unit, log=True), values, left + 46, WIDTH - PAD - 60)
    top, parts = TITLE_PX + 16.0, [_text(PAD, TITLE_PX + 10, unit, "soft small")]
    y, group = top, ""
    body: list[str] = []
    for row in rows:
        y, group = _heading(body, y, group, row.group)
        body.append(_text(left - 10, y + 17, row.name, "end strong" if row.ours else "end"))
        if row.middle is None or row.tail is None:
            body.append(_text(left, y + 17, row.note or "not measured", "soft halo"))
        else:
            body += _range(scale.at(row.middle), scale.at(row.tail), y + 13, row)
        y += ROW_PX
    ticks = scale.spaced(scale.ticks())
    parts += [f'<path class="grid" d="M{scale.at(tick):g} {top:g}V{y:g}"/>' for tick in ticks]
    parts += [_text(scale.at(tick), y + 18, short(tick), "soft small middle") for tick in ticks]
    return _svg(title, parts + body, round(y + PAD + 12))


def over_time(title: str, series: Sequence[Line], seconds: float, clock: Callable[[float], str]) -> str:
    """Returns a figure of lines from 0 to `seconds`, with a legend; `clock` writes a time."""
    left, right, top, bottom = 38.0, INSET_WIDTH - 6.0, 10.0, INSET_HEIGHT - 18.0
    highest = max((value for one in series for _, value in one.points), default=0.0)
    xs = Scale(Axis(exact=True), [0.0, seconds], left, right)
    ys = Scale(Axis(), [0.0, highest or 1.0], bottom, top)
    ticks = ys.spaced(ys.ticks())
    parts = [_gridline(left, right, ys.at(tick)) for tick in ticks]
    parts += [_text(left - 5, ys.at(tick) + 3, short(tick), "end") for tick in ticks]
    marks = ((0.0, ""), (seconds / 2, "middle"), (seconds, "end"))
    parts += [_text(xs.at(at_s), INSET_HEIGHT - 4, clock(at_s), kind) for at_s, kind in marks]
    paths = [f'<path class="l{one.colour}" d="{_path(one, xs, ys)}"/>' for one in series if one.points]
    nothing = _text((left + right) / 2, INSET_HEIGHT / 2 - 8, "nothing came", "middle")
    legend = "".join(f'<span class="f{one.colour}">{escape(one.name)}</span>' for one in series if one.name)
    return (
        f"<figure><figcaption><span>{escape(title)}</span><span>{legend}</span></figcaption>"
        f'<svg viewBox="0 0 {INSET_WIDTH} {INSET_HEIGHT}" role="img" aria-label="{escape(title)} over time">'
        f"{''.join([*parts, *(paths or [nothing])])}</svg></figure>"
    )


def _heading(parts: list[str], y: float, before: str, group: str) -> tuple[float, str]:
    if group == before:
        return y, group
    parts.append(_text(PAD, y + 22, group, "soft"))
    return y + GROUP_PX, group


def _range(middle: float, tail: float, y: float, row: Range) -> list[str]:
    colour, weight = _colour(row.ours), "small strong" if row.ours else "small"
    assert row.middle is not None
    assert row.tail is not None
    return [
        f'<path class="l{colour}" d="M{middle:g} {y:g}H{tail:g}"/>',
        f'<circle class="f{colour}" cx="{middle:g}" cy="{y:g}" r="5"/>',
        f'<circle class="l{colour} open" cx="{tail:g}" cy="{y:g}" r="4.5"/>',
        _text(middle - 10, y + 4, short(row.middle), f"end halo {weight}"),
        _text(tail + 10, y + 4, short(row.tail), f"halo {weight}"),
    ]


def _line(one: Line, xs: Scale, ys: Scale) -> list[str]:
    places = [(xs.at(x), ys.at(y)) for x, y in sorted(one.points)]
    dots = [f'<circle class="f{one.colour}" cx="{x:g}" cy="{y:g}" r="3.5"/>' for x, y in places]
    dashes = ' stroke-dasharray="5 4"' if one.dashed else ""
    return [f'<path class="l{one.colour}" d="{_path(one, xs, ys)}"{dashes}/>', *([] if one.dashed else dots)]


def _path(one: Line, xs: Scale, ys: Scale) -> str:
    parts: list[str] = []
    before = -math.inf
    for x, y in sorted(one.points):
        verb = "L" if parts and x - before <= one.gap else "M"
        parts.append(f"{verb}{xs.at(x):g} {ys.at(y):g}")
        before = x
    return "".join(parts)


def _names(series: Sequence[Line], xs: Scale, ys: Scale) -> list[str]:
    """Names at the ends of the lines, pushed apart where they would overlap."""
    ends = sorted((ys.at(max(one.points)[1]), place, one) for place, one in enumerate(series))
    parts: list[str] = []
    free = 0.0
    for y, _, one in ends:
        y = max(y, free)
        free = y + LINE_PX
        parts.append(_text(xs.last + 16, y + 4, one.name, f"f{one.colour} strong"))
    return parts


def _values(series: Sequence[Line], xs: Scale, ys: Scale) -> list[str]:
    """Values above the points; below where that is taken; none where both are."""
    occupied = [(xs.at(x), ys.at(y), 6.0) for one in series if not one.dashed for x, y in one.points]
    parts: list[str] = []
    for one in series:
        for x, y in sorted(one.points, reverse=True) if not one.dashed else ():
            text = short(y)
            half = _width(text, SMALL) / 2
            for shift in (-14, 14):
                place = (xs.at(x), ys.at(y) + shift, half)
                if not any(abs(place[0] - a) < half + c and abs(place[1] - b) < 12 for a, b, c in occupied):
                    occupied.append(place)
                    parts.append(_text(place[0], place[1] + 4, text, f"f{one.colour} small middle halo"))
                    break
    return parts


def _colour(ours: bool) -> int:
    return 0 if ours else OTHERS


def _width(text: str, size: int = TEXT) -> float:
    return round(len(text) * size * LETTER, 1)


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    names = f' class="{kind}"' if kind else ""
    return f'<text{names} x="{round(x, 1):g}" y="{round(y, 1):g}">{escape(text)}</text>' if text else ""


def _gridline(left: float, right: float, y: float) -> str:
    return f'<path class="grid" d="M{left:g} {y:g}H{right:g}"/>'


def _rule(left: float, right: float, y: float) -> str:
    return f'<path class="rule" d="M{left:g} {y:g}H{right:g}"/>'


def _svg(title: str, parts: Sequence[str], height: int) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        _text(PAD, 28, title, "title strong"),
    ]
    return "\n".join([*head, *filter(None, parts), "</svg>", ""])


def _style() -> str:
    rules = (
        f"text{{font:{TEXT}px -apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:var(--ink)}}"
        f".title{{font-size:15px}}.small{{font-size:{SMALL}px}}.strong{{font-weight:600}}.soft{{fill:var(--soft)}}"
        ".end{text-anchor:end}.middle{text-anchor:middle}.page{fill:var(--page)}"
        "path{fill:none;stroke-width:2}.grid{stroke:var(--grid);stroke-width:1}"
        ".rule{stroke:var(--soft);stroke-width:1;stroke-dasharray:3 3}"
        ".halo{paint-order:stroke;stroke:var(--page);stroke-width:4px}.open{fill:var(--page);stroke-width:2}"
    )
    series = "".join(f".f{n}{{fill:var(--c{n})}}.l{n}{{stroke:var(--c{n})}}" for n in range(COLOURS + 1))
    dark = f"@media (prefers-color-scheme:dark){{svg{{{_variables(DARK)}}}}}"
    return f"svg{{{_variables(LIGHT)}}}{dark}{rules}{series}"


def _variables(colours: Sequence[str]) -> str:
    names = ("page", "ink", "soft", "grid", *(f"c{n}" for n in range(COLOURS + 1)))
    return ";".join(f"--{name}:{colour}" for name, colour in zip(names, colours, strict=True))
