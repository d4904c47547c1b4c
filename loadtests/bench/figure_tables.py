"""Tables of figures in Markdown, made from records: which run counts, how numbers are rounded, what an empty cell says.

Of each case of each target the last run counts; a cell is the median over its rounds. Numbers have two significant
digits, three where the first is a 1. `cannot`: the target has no way to do it. `failed`: it did not start or did not
answer. What went wrong in a figure stands behind it.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from loadtests.bench import records as recorded
from loadtests.bench.layout import Figure, Record, Round, values
from loadtests.bench.rounding import rounded

Remark = Callable[[Sequence[Round], str], str]


@dataclass(frozen=True)
class Line:
    """One row: figures of one case, joined by slashes. `lacking`: said where the case has no such figure."""

    label: str
    case: str
    figures: Sequence[Figure]
    lacking: str = ""
    remark: Remark = lambda _rounds, _target: ""


@dataclass(frozen=True)
class Block:
    """What stands between the markers; and the plot, if there is one."""

    text: str
    svg: str = ""


def median(figure: Figure, records: Sequence[Record], case: str, target: str) -> float | None:
    """Over the rounds of the last run; None where there is none."""
    found = values(figure, _rounds(records, case, target), target)
    return statistics.median(found) if found else None


def cell(line: Line, records: Sequence[Record], target: str) -> str:
    """What one target has of one row."""
    asked = (line.case, target)
    found = [r for r in recorded.last_run(records, *asked) if (r["case"], r["target"]) == asked]
    if not any("figures" in record for record in found):
        return next(
            (word for key, word in (("cannot", "cannot"), ("error", "failed")) if any(key in r for r in found)), ""
        )
    rounds = _rounds(records, *asked)
    middles = [median(figure, records, *asked) for figure in line.figures]
    known = [rounded(value) for value in middles if value is not None]
    if not known:
        return line.lacking
    return " / ".join(known) + line.remark(rounds, target) + _faults(found)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers stand at the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|" for cells in [head, rule, *rows])


def by_target(lines: Sequence[Line], records: Sequence[Record], titles: Mapping[str, str]) -> str:
    """A column for each target that was measured, in the order of the titles."""
    known = recorded.targets(records)
    names = [name for name in titles if name in known and any(cell(line, records, name) for line in lines)]
    rows = [[line.label, *(cell(line, records, name) for name in names)] for line in lines]
    return markdown(["", *(titles[name] for name in names)], rows)


def provenance(records: Sequence[Record], file: str, command: str) -> str:
    """How often, on what, when, from which code; and the command that measures it again."""
    rounds = max(len({r["round"] for r in records if r["run"] == run}) for run in {r["run"] for r in records})
    days = list(dict.fromkeys(_day(record["time"]) for record in sorted(records, key=lambda r: r["time"])))
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    machines = {(r["machine"]["cpu"], r["machine"]["cores"]) for r in records}
    where = ", ".join(f"{cpu}, {cores} cores" for cpu, cores in sorted(machines))
    commits = ", ".join(dict.fromkeys(record["versions"]["commit"] for record in records))
    often = f"Medians of {rounds} rounds" if rounds > 1 else "One round"
    raw = f"[raw results](loadtests/results/{file})"
    return f"`{command}` measures it again. {often} on {where}; {when}, {commits} ({raw})."


def _rounds(records: Sequence[Record], case: str, target: str) -> list[Round]:
    return recorded.rounds(recorded.calmest(recorded.last_run(records, case, target)))


def _faults(found: Sequence[Record]) -> str:
    counts: dict[str, int] = {}
    for record in recorded.calmest(found):
        for name, count in record["faults"].items():
            counts[name] = counts.get(name, 0) + count
    return "".join(f" ({count:,} {name})" for name, count in counts.items())


def _day(time_s: float) -> str:
    day = datetime.fromtimestamp(time_s, UTC)
    return f"{day.day} {day:%B %Y}"
