"""The table at the end of a run, the line of each measurement, and below the table what a reader must know of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtests.bench import records as recorded
from loadtests.bench.layout import NOISY_CORES, Record, Row, aligned, line


def _no_notes(_: list[Record]) -> list[str]:
    return []


@dataclass(frozen=True)
class Table:
    """How the records of one part look."""

    rows: Sequence[Row]
    faults: str
    """What its faults are, for the last line."""
    titles: dict[str, str] = field(default_factory=dict[str, str])
    """Of columns that are not called as their target is."""
    notes: Callable[[list[Record]], list[str]] = _no_notes
    """More sentences about these records."""

    def progress(self, record: Record) -> str:
        """One line while the benchmark runs."""
        start = f"round {record['round'] + 1} {record['case']:9} {record['target']:11} {record['took_s']:5.1f} s | "
        if "figures" not in record:
            return start + (record.get("error") or f"cannot {record['cannot']}")
        one = {record["target"]: {record["case"]: record["figures"]}}
        said = [
            f"{row.label.strip()} {row.form.format(value)}"
            for row in self.rows
            if (value := row.figure(one, record["target"])) is not None
        ]
        faults = "".join(f" | {name}: {count:,}" for name, count in record["faults"].items())
        return f"{start}{' | '.join(said)}{faults} | other work {record['foreign_cores']:.2f} cores"

    def render(self, records: list[Record], absent: dict[str, str]) -> str:
        """The whole table, and what must be said about it."""
        used = recorded.calmest(records)
        names = recorded.targets([record for record in records if "error" not in record])
        rounds = recorded.rounds(used)
        body = [line(row, names, absent, rounds) for row in self.rows]
        body = [cells for cells in body if any(cell != "-" for cell in cells[1 : len(names) + 1])]
        head = ["", *(self.titles.get(name, name) for name in (*names, *absent)), "goal", ""]
        faults = [self.faults, *(str(_faults(used, name)) for name in names), *("-" for _ in absent), "0", ""]
        return "\n".join([aligned([head, *body, faults]), *self._told(records, used, absent)])

    def _told(self, records: list[Record], used: list[Record], absent: dict[str, str]) -> list[str]:
        told = [f"{name}: {why}" for name, why in absent.items()]
        told += [f"{_which(r)}: {r['error']}" for r in records if "error" in r]
        cannot = (f"{r['case']}, {r['target']}: cannot {r['cannot']}" for r in records if "cannot" in r)
        told += list(dict.fromkeys(cannot))
        told += [f"{_which(r)}: {name}: {count}" for r in used for name, count in r["faults"].items()]
        told += self.notes(used)
        if noisy := [record for record in used if record["foreign_cores"] > NOISY_CORES]:
            told.append(
                f"{len(noisy)} of {len(used)} measurements shared the machine with other work of more than "
                f"{NOISY_CORES} cores: repeat on a quiet one before believing the tails."
            )
        return told


def _faults(records: list[Record], name: str) -> int:
    return sum(sum(record["faults"].values()) for record in records if record["target"] == name)


def _which(record: Record) -> str:
    return f"{record['case']}, {record['target']}, round {record['round'] + 1}"
