"""The text of a benchmark's figures: one row per figure, one column per target, the goal and the verdict beside it.

A cell is the median over the rounds, with the smallest and largest in brackets.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Round = dict[str, Record]  # the records of one round, by target
Figure = Callable[[Round, str], float | None]
NOISY_CORES = 0.1


@dataclass(frozen=True)
class Row:
    """One figure; `goal` is what the target `judged` is held to, `at_most` says on which side of it."""

    label: str
    figure: Figure
    form: str = "{:.2f}"
    goal: float | None = None
    at_most: bool = True
    judged: str = "trilane"


def line(row: Row, names: list[str], absent: dict[str, str], rounds: list[Round]) -> list[str]:
    """The cells of one row: its label, one per target, the goal, the verdict."""
    cells = {name: _values(row.figure, rounds, name) for name in names}
    goal = "" if row.goal is None else f"{'≤' if row.at_most else '≥'} {_plain(row.goal)}"
    verdict = ""
    ours = cells.get(row.judged)
    if row.goal is not None and ours:
        middle = statistics.median(ours)
        verdict = "met" if (middle <= row.goal) == row.at_most else "MISSED"
    return [row.label, *(_cell(row.form, v) for v in cells.values()), *absent.values(), goal, verdict]


def aligned(lines: list[list[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _plain(goal: float) -> str:
    return f"{goal:,.0f}" if goal >= 1000 else f"{goal:g}"


def _values(figure: Figure, rounds: list[Round], name: str) -> list[float]:
    found = (figure(turn, name) for turn in rounds if name in turn)
    return [value for value in found if value is not None]


def _cell(form: str, values: list[float]) -> str:
    if not values:
        return "-"
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))}-{form.format(max(values))})"
