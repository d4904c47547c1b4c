"""Figures are written with as many digits as a measurement has, and laid out as columns or as a table in Markdown."""

import math
from collections.abc import Sequence


def rounded(value: float) -> str:
    """Returns two significant digits, three where the first is a 1 (from 1 on): none is off by more than 5 %.

    A count below 100 is written as it is.
    """
    if value == round(value) and abs(value) < 100:
        return f"{value:.0f}"
    size = math.floor(math.log10(abs(value)))
    places = (2 if size >= 0 and abs(value) < 2 * 10**size else 1) - size
    return f"{round(value, places):,.{max(0, places)}f}"


def short(value: float) -> str:
    """Returns `rounded` without zeros at its end; from 10,000 on as `10k`, from a million on as `1 M`."""
    for size, unit in ((1e6, " M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{short(value / (1e3 if unit == 'k' else size))}{unit}"
    text = rounded(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, for a terminal."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; numbers stand at the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|" for cells in [head, rule, *rows])
