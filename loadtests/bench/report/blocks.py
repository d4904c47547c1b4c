"""Blocks of figures are made from records: which run counts, and what a cell says when it has no figure.

Of each case of each target the last run counts; a cell is the median over its rounds. `cannot`: the target has no way
to do it. `failed`: it did not start or did not answer. What went wrong in a figure stands behind it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from loadtests.bench.harness import records as recorded
from loadtests.bench.harness.records import Record, Round
from loadtests.bench.report.rows import Figure, values
from loadtests.bench.report.text import markdown, rounded

Remark = Callable[[Sequence[Round], str], str]


@dataclass(frozen=True)
class BlockRow:
    """One row: figures of one case, joined by slashes. `lacking` stands where the case has no such figure."""

    label: str
    case: str
    figures: Sequence[Figure]
    lacking: str = ""
    remark: Remark = lambda _rounds, _target: ""


@dataclass(frozen=True)
class Block:
    """The text between two markers of a page, and its plot if there is one."""

    text: str
    svg: str = ""


def median(figure: Figure, records: Sequence[Record], case: str, target: str) -> float | None:
    """Returns the median over the rounds of the last run; None where there is none."""
    by_round = values(figure, _rounds(records, case, target), target)
    return statistics.median(by_round) if by_round else None


def cell(row: BlockRow, records: Sequence[Record], target: str) -> str:
    """Returns the text of one target in one row."""
    place = (row.case, target)
    own = [one for one in recorded.last_run(records, *place) if (one["case"], one["target"]) == place]
    if not any("figures" in record for record in own):
        words = (("cannot", "cannot"), ("error", "failed"))
        return next((word for key, word in words if any(key in record for record in own)), "")
    medians = [median(figure, records, *place) for figure in row.figures]
    texts = [rounded(value) for value in medians if value is not None]
    if not texts:
        return row.lacking
    return " / ".join(texts) + row.remark(_rounds(records, *place), target) + _faults(own)


def by_target(rows: Sequence[BlockRow], records: Sequence[Record], titles: Mapping[str, str]) -> str:
    """Returns a column for each target that was measured, in the order of the titles."""
    names_measured = recorded.targets(records)
    names = [name for name in titles if name in names_measured and any(cell(row, records, name) for row in rows)]
    lines = [[row.label, *(cell(row, records, name) for name in names)] for row in rows]
    return markdown(["", *(titles[name] for name in names)], lines)


def provenance(records: Sequence[Record], raw: str, command: str) -> str:
    """Returns the line below a block: the command that repeats it; how often, on what, when and from which code."""
    rounds = max(len({one["round"] for one in records if one["run"] == run}) for run in {one["run"] for one in records})
    days = list(dict.fromkeys(_day(record["time"]) for record in sorted(records, key=lambda one: one["time"])))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    machines = {(one["machine"]["cpu"], one["machine"]["cores"]) for one in records}
    where = ", ".join(f"{cpu}, {cores} cores" for cpu, cores in sorted(machines))
    commits = ", ".join(dict.fromkeys(record["versions"]["commit"] for record in records))
    often = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    return f"`{command}` measures it again. {often} on {where}; {when}, {commits} ([raw results]({raw}))."


def _rounds(records: Sequence[Record], case: str, target: str) -> list[Round]:
    return recorded.rounds(recorded.calmest(recorded.last_run(records, case, target)))


def _faults(records: Sequence[Record]) -> str:
    counts: dict[str, int] = {}
    for record in recorded.calmest(records):
        for name, count in record["faults"].items():
            counts[name] = counts.get(name, 0) + count
    return "".join(f" ({count:,} {name})" for name, count in counts.items())


def _day(time_s: float) -> str:
    day = datetime.fromtimestamp(time_s, UTC)
    return f"{day.day} {day:%B %Y}"
