"""Records of measurements: read from result files, of any age, and put together into rounds.

The first chat results have one line for all loads of a target, the first of many idle streams kept their looks beside
the figures; they are read as if they had been written today.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench.layout import Record, Round


def read(path: Path) -> list[Record]:
    """All records of a file, oldest first. Raises ValueError where a line is none."""
    records: list[Record] = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            records += unfolded(json.loads(text))
        except (ValueError, KeyError) as err:
            raise ValueError(f"{path.name}:{number} is no record of the benchmark: {err!r}") from err
    return records


def unfolded(record: Record) -> list[Record]:
    """One record for each load, each with `run`, `faults` and `figures`."""
    plain = {"round": 0, "run": "", "faults": {}, **record}
    if "rows" in plain:
        plain["figures"]["rows"] = plain.pop("rows")
        plain["faults"] = dict.fromkeys(plain["faults"], 1)
    if "cases" not in plain:
        return [plain]
    cases = plain.pop("cases")
    memory = {name: plain.pop(name) for name in ("rss_idle_mb", "rss_after_mb")}
    return [
        {
            **plain,
            "case": name,
            "figures": {**found, **memory},
            "faults": {"bad streams": found["bad"]} if found["bad"] else {},
            "foreign_cores": found["foreign_cores"],
        }
        for name, found in cases.items()
    ]


def calmest(records: Sequence[Record]) -> list[Record]:
    """Of the attempts at one measurement the one that other work disturbed least; nothing that failed."""
    found: dict[tuple[str, int, str, str], Record] = {}
    good = [record for record in records if "figures" in record]
    for record in sorted(good, key=lambda record: record.get("foreign_cores", 0), reverse=True):
        found[record["run"], record["round"], record["case"], record["target"]] = record
    chosen = {id(record) for record in found.values()}
    return [record for record in good if id(record) in chosen]


def last_run(records: Sequence[Record], case: str, target: str) -> list[Record]:
    """All records of the last run that has this case of this target: what it is compared with was measured with it."""
    runs = [
        (record["time"], record["run"]) for record in records if (record["case"], record["target"]) == (case, target)
    ]
    return [record for record in records if runs and record["run"] == max(runs)[1]]


def rounds(records: Sequence[Record]) -> list[Round]:
    """The figures of each round of each run, by target and case."""
    found: dict[tuple[str, int], Round] = {}
    for record in records:
        turn = found.setdefault((record["run"], record["round"]), {})
        turn.setdefault(record["target"], {})[record["case"]] = record["figures"]
    return list(found.values())


def targets(records: Sequence[Record]) -> list[str]:
    """The targets, in the order in which they were first measured."""
    return list(dict.fromkeys(record["target"] for record in records))
