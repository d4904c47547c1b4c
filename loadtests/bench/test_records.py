"""Result files of any age, read as if they had been written today; of attempts and runs, those that count."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench import records
from loadtests.bench.layout import at, values

RESULTS = Path(__file__).resolve().parents[1] / "results"


def record(target: str = "trilane", case: str = "idle", turn: int = 0, **more: Any) -> dict[str, Any]:
    found = {"run": "1", "time": 1.0, "round": turn, "case": case, "target": target, "faults": {}, "foreign_cores": 0.0}
    return {**found, "figures": {"n": 1}, **more}


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_every_committed_result_is_read(path: Path) -> None:
    for one in records.read(path):
        assert {"run", "round", "case", "target", "faults", "time"} <= set(one)
        assert "figures" in one or "error" in one or "cannot" in one


def test_a_line_of_all_loads_becomes_a_record_for_each(tmp_path: Path) -> None:
    cases = {name: {"bad": bad, "foreign_cores": 0.1} for name, bad in (("one", 0), ("paced", 2))}
    old = {"time": 1.0, "round": 0, "target": "nginx", "rss_idle_mb": 15.0, "rss_after_mb": 20.0, "cases": cases}
    (tmp_path / "chat.jsonl").write_text(json.dumps(old))
    first, second = records.read(tmp_path / "chat.jsonl")
    assert (first["case"], first["faults"], first["figures"]["rss_idle_mb"]) == ("one", {}, 15.0)
    assert (second["case"], second["faults"]) == ("paced", {"bad streams": 2})


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text("{}\nnonsense\n")
    with pytest.raises(ValueError, match=r"chat\.jsonl:2"):
        records.read(tmp_path / "chat.jsonl")


def test_of_several_attempts_the_calmest_counts() -> None:
    attempts = [record(figures={"n": n}, foreign_cores=other) for n, other in ((3, 0.4), (4, 0.01), (9, 0.3))]
    assert [one["figures"]["n"] for one in records.calmest(attempts)] == [4]


def test_what_failed_does_not_count() -> None:
    failed = record(error="did not start")
    del failed["figures"]
    assert records.calmest([failed, record()]) == [record()]


def test_the_last_run_that_has_a_case_of_a_target_counts_with_all_that_it_was_compared_with() -> None:
    old = [record(target) for target in ("trilane", "nginx")]
    new = [record(target, run="2", time=2.0) for target in ("trilane", "direct")]
    assert records.last_run([*new, *old], "idle", "trilane") == new
    assert records.last_run([*new, *old], "idle", "nginx") == old
    assert records.last_run(old, "storm", "nginx") == []


def test_rounds_of_different_runs_stay_apart() -> None:
    found = [record(figures={"n": 1}), record(run="2", figures={"n": 5}), record("nginx", run="2", figures={"n": 7})]
    rounds = records.rounds(found)
    assert values(at("idle", "n"), rounds, "trilane") == [1, 5]
    assert [set(turn) for turn in rounds] == [{"trilane"}, {"trilane", "nginx"}]
