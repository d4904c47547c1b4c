"""Rows of figures: one row per figure, one column per target, the goal and the verdict beside it.

A figure is a function of one round and a target; combinators make figures of figures. A cell is the median over the
rounds, with the smallest and largest in brackets.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.bench.harness.records import Round

Figure = Callable[[Round, str], float | None]


@dataclass(frozen=True)
class Row:
    """A row of one figure; `goal` is what the target `judged` is held to, `at_most` says on which side of it."""

    label: str
    figure: Figure
    form: str = "{:.2f}"
    goal: float | None = None
    at_most: bool = True
    judged: str = "trilane"
    rival: str = ""
    """The target that `judged` must not be above in most rounds, instead of a goal."""


def at(case: str, *path: str) -> Figure:
    """Returns a figure of one case, where the target has it."""

    def figure(turn: Round, target: str) -> float | None:
        value: Any = turn[target].get(case)
        for name in path:
            value = value.get(name) if value else None
        return value

    return figure


def ratio(plain: Figure, rival: str) -> Figure:
    """Returns a figure as a ratio to the rival's in the same round."""

    def figure(turn: Round, target: str) -> float | None:
        if rival not in turn or target == rival:
            return None
        ours, theirs = plain(turn, target), plain(turn, rival)
        return None if ours is None or not theirs else ours / theirs

    return figure


def beyond(plain: Figure, bare: str) -> Figure:
    """Returns a figure less that of `bare` in the same round."""

    def figure(turn: Round, target: str) -> float | None:
        if bare not in turn or target == bare:
            return None
        ours, theirs = plain(turn, target), plain(turn, bare)
        return None if ours is None or theirs is None else ours - theirs

    return figure


def percent(plain: Figure) -> Figure:
    """Returns a figure that is a share, in per cent."""

    def figure(turn: Round, target: str) -> float | None:
        value = plain(turn, target)
        return None if value is None else 100 * value

    return figure


def only(name: str, plain: Figure) -> Figure:
    """Returns a figure that is of interest for one target."""
    return lambda turn, target: plain(turn, target) if target == name else None


def values(figure: Figure, rounds: Sequence[Round], name: str) -> list[float]:
    """Returns a target's figure in each round that has it."""
    by_round = (figure(turn, name) for turn in rounds if name in turn)
    return [value for value in by_round if value is not None]


def line(row: Row, names: list[str], absent: dict[str, str], rounds: list[Round]) -> list[str]:
    """Returns the cells of one row: its label, one per target, the goal, the verdict."""
    cells = {name: values(row.figure, rounds, name) for name in names}
    goal, verdict = _rivalry(row, rounds) if row.rival else _judgement(row, cells.get(row.judged))
    texts = [_cell(row.form, by_round) for by_round in cells.values()]
    return [row.label, *texts, *("-" for _ in absent), goal, verdict]


def _judgement(row: Row, ours: list[float] | None) -> tuple[str, str]:
    if row.goal is None:
        return "", ""
    goal = f"{'≤' if row.at_most else '≥'} {_plain(row.goal)}"
    if not ours:
        return goal, ""
    return goal, "met" if (statistics.median(ours) <= row.goal) == row.at_most else "MISSED"


def _rivalry(row: Row, rounds: list[Round]) -> tuple[str, str]:
    both = [turn for turn in rounds if row.judged in turn and row.rival in turn]
    pairs = [(row.figure(turn, row.judged), row.figure(turn, row.rival)) for turn in both]
    complete = [(ours, theirs) for ours, theirs in pairs if ours is not None and theirs is not None]
    if not complete:
        return "", ""
    better = sum(ours <= theirs for ours, theirs in complete) * 2 > len(complete)
    return f"≤ {row.rival}", "met" if better else "MISSED"


def _plain(goal: float) -> str:
    return f"{goal:,.0f}" if goal >= 1000 else f"{goal:g}"


def _cell(form: str, by_round: list[float]) -> str:
    if not by_round:
        return "-"
    middle = form.format(statistics.median(by_round))
    return middle if len(by_round) == 1 else f"{middle} ({form.format(min(by_round))}-{form.format(max(by_round))})"
