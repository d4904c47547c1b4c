"""The text of a benchmark's figures: one row per figure, one column per target, the goal and the verdict beside it.

A cell is the median over the rounds, with the smallest and largest in brackets.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
Round = dict[str, Record]
"""What one round found: by target, the figures of each case."""
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
    rival: str = ""
    """Instead of a goal: the target that `judged` must not be above, in most rounds."""


def at(case: str, *path: str) -> Figure:
    """A figure of one case, where the target has it."""

    def figure(turn: Round, target: str) -> float | None:
        value: Any = turn[target].get(case)
        for name in path:
            value = value.get(name) if value else None
        return value

    return figure


def ratio(plain: Figure, rival: str) -> Figure:
    """A figure as a part of the rival's in the same round."""

    def figure(turn: Round, target: str) -> float | None:
        if rival not in turn or target == rival:
            return None
        ours, theirs = plain(turn, target), plain(turn, rival)
        return None if ours is None or not theirs else ours / theirs

    return figure


def beyond(plain: Figure, bare: str) -> Figure:
    """What a target has more than `bare` in the same round."""

    def figure(turn: Round, target: str) -> float | None:
        if bare not in turn or target == bare:
            return None
        ours, theirs = plain(turn, target), plain(turn, bare)
        return None if ours is None or theirs is None else ours - theirs

    return figure


def percent(plain: Figure) -> Figure:
    """A share as per cent."""

    def figure(turn: Round, target: str) -> float | None:
        value = plain(turn, target)
        return None if value is None else 100 * value

    return figure


def only(name: str, plain: Figure) -> Figure:
    """A figure that is of interest for one target."""
    return lambda turn, target: plain(turn, target) if target == name else None


def values(figure: Figure, rounds: Sequence[Round], name: str) -> list[float]:
    """A target's figure in each round that has it."""
    found = (figure(turn, name) for turn in rounds if name in turn)
    return [value for value in found if value is not None]


def line(row: Row, names: list[str], absent: dict[str, str], rounds: list[Round]) -> list[str]:
    """The cells of one row: its label, one per target, the goal, the verdict."""
    cells = {name: values(row.figure, rounds, name) for name in names}
    goal, verdict = _rivalry(row, rounds) if row.rival else _judged(row, cells.get(row.judged))
    return [row.label, *(_cell(row.form, found) for found in cells.values()), *("-" for _ in absent), goal, verdict]


def aligned(lines: list[list[str]]) -> str:
    """Columns of equal width."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _judged(row: Row, ours: list[float] | None) -> tuple[str, str]:
    if row.goal is None:
        return "", ""
    goal = f"{'≤' if row.at_most else '≥'} {_plain(row.goal)}"
    if not ours:
        return goal, ""
    return goal, "met" if (statistics.median(ours) <= row.goal) == row.at_most else "MISSED"


def _rivalry(row: Row, rounds: list[Round]) -> tuple[str, str]:
    both = [turn for turn in rounds if row.judged in turn and row.rival in turn]
    pairs = [(row.figure(turn, row.judged), row.figure(turn, row.rival)) for turn in both]
    known = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    if not known:
        return "", ""
    better = sum(ours <= theirs for ours, theirs in known) * 2 > len(known)
    return f"≤ {row.rival}", "met" if better else "MISSED"


def _plain(goal: float) -> str:
    return f"{goal:,.0f}" if goal >= 1000 else f"{goal:g}"


def _cell(form: str, found: list[float]) -> str:
    if not found:
        return "-"
    middle = form.format(statistics.median(found))
    return middle if len(found) == 1 else f"{middle} ({form.format(min(found))}-{form.format(max(found))})"
