"""Records of measurements: read from result files, and put together into rounds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""One measurement; `rounds.py` says what it has."""
Figures = dict[str, Any]
"""The values of one measurement, by name."""
Round = dict[str, Record]
"""The figures of one round, by target and case."""
NOISY_CORES = 0.1
"""Cores of other work above which the tails of a measurement are doubtful."""
RESULTS = Path(__file__).resolve().parents[2] / "results"
"""The folder of the committed results, and of the plots that are made from them."""


def read(path: Path) -> list[Record]:
    """Reads all records of a file, oldest first. Raises ValueError where a line is none."""
    records: list[Record] = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            records.append(json.loads(text))
        except ValueError as err:
            raise ValueError(f"{path.name}:{number} is no record of the benchmark: {err!r}") from err
    return records


def calmest(records: Sequence[Record]) -> list[Record]:
    """Returns the attempt at each measurement that other work disturbed least; nothing that failed."""
    calm: dict[tuple[str, int, str, str], Record] = {}
    good = [record for record in records if "figures" in record]
    for record in sorted(good, key=lambda record: record.get("foreign_cores", 0), reverse=True):
        calm[record["run"], record["round"], record["case"], record["target"]] = record
    ids = {id(record) for record in calm.values()}
    return [record for record in good if id(record) in ids]


def last_run(records: Sequence[Record], case: str, target: str) -> list[Record]:
    """Returns all records of the last run of this case and target: what it is compared with was measured with it."""
    runs = [
        (record["time"], record["run"]) for record in records if (record["case"], record["target"]) == (case, target)
    ]
    return [record for record in records if runs and record["run"] == max(runs)[1]]


def rounds(records: Sequence[Record]) -> list[Round]:
    """Returns the figures of each round of each run, by target and case."""
    by_round: dict[tuple[str, int], Round] = {}
    for record in records:
        figures = by_round.setdefault((record["run"], record["round"]), {})
        figures.setdefault(record["target"], {})[record["case"]] = record["figures"]
    return list(by_round.values())


def targets(records: Sequence[Record]) -> list[str]:
    """Returns the targets, in the order in which they were first measured."""
    return list(dict.fromkeys(record["target"] for record in records))
