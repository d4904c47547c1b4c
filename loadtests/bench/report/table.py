"""A table ends a run: rows of figures, a line for each measurement before it, remarks on the measurements below."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtests.bench.harness import records as recorded
from loadtests.bench.harness.records import NOISY_CORES, Record
from loadtests.bench.report.rows import Row, line
from loadtests.bench.report.text import aligned


def _no_notes(_: list[Record]) -> list[str]:
    return []


@dataclass(frozen=True)
class Table:
    """The look of one part's records in the terminal."""

    rows: Sequence[Row]
    faults: str
    """The part's faults in words, for the last line."""
    titles: dict[str, str] = field(default_factory=dict[str, str])
    """Titles of columns that are not called as their target is."""
    notes: Callable[[list[Record]], list[str]] = _no_notes
    """A function that returns more sentences about these records."""

    def progress(self, record: Record) -> str:
        """Returns one line while the benchmark runs."""
        start = f"round {record['round'] + 1} {record['case']:9} {record['target']:11} {record['took_s']:5.1f} s | "
        if "figures" not in record:
            return start + (record.get("error") or f"cannot {record['cannot']}")
        one = {record["target"]: {record["case"]: record["figures"]}}
        cells = [
            f"{row.label.strip()} {row.form.format(value)}"
            for row in self.rows
            if (value := row.figure(one, record["target"])) is not None
        ]
        faults = "".join(f" | {name}: {count:,}" for name, count in record["faults"].items())
        return f"{start}{' | '.join(cells)}{faults} | other work {record['foreign_cores']:.2f} cores"

    def render(self, records: list[Record], absent: dict[str, str]) -> str:
        """Returns the whole table, with remarks on its measurements below."""
        calm = recorded.calmest(records)
        names = recorded.targets([record for record in records if "error" not in record])
        rounds = recorded.rounds(calm)
        body = [line(row, names, absent, rounds) for row in self.rows]
        body = [cells for cells in body if any(cell != "-" for cell in cells[1 : len(names) + 1])]
        head = ["", *(self.titles.get(name, name) for name in (*names, *absent)), "goal", ""]
        faults = [self.faults, *(str(_faults(calm, name)) for name in names), *("-" for _ in absent), "0", ""]
        return "\n".join([aligned([head, *body, faults]), *self._remarks(records, calm, absent)])

    def _remarks(self, records: list[Record], calm: list[Record], absent: dict[str, str]) -> list[str]:
        remarks = [f"{name}: {why}" for name, why in absent.items()]
        remarks += [f"{_which(one)}: {one['error']}" for one in records if "error" in one]
        cannot = (f"{one['case']}, {one['target']}: cannot {one['cannot']}" for one in records if "cannot" in one)
        remarks += list(dict.fromkeys(cannot))
        remarks += [f"{_which(one)}: {name}: {count}" for one in calm for name, count in one["faults"].items()]
        remarks += self.notes(calm)
        if noisy := [record for record in calm if record["foreign_cores"] > NOISY_CORES]:
            remarks.append(
                f"{len(noisy)} of {len(calm)} measurements shared the machine with other work of more than "
                f"{NOISY_CORES} cores: repeat on a quiet one before believing the tails."
            )
        return remarks


def _faults(records: list[Record], name: str) -> int:
    return sum(sum(record["faults"].values()) for record in records if record["target"] == name)


def _which(record: Record) -> str:
    return f"{record['case']}, {record['target']}, round {record['round'] + 1}"
