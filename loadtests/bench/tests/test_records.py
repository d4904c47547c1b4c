"""Committed results can be read; of attempts and runs, those count that should."""

from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.harness import records
from loadtests.bench.report.rows import at, values


def record(target: str = "trilane", case: str = "idle", turn: int = 0, **more: Any) -> dict[str, Any]:
    plain = {"run": "1", "time": 1.0, "round": turn, "case": case, "target": target, "faults": {}, "foreign_cores": 0.0}
    return {**plain, "figures": {"n": 1}, **more}


@pytest.mark.parametrize("path", sorted(records.RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_every_committed_result_is_read(path: Path) -> None:
    for one in records.read(path):
        assert {"run", "round", "case", "target", "faults", "time"} <= set(one)
        assert "figures" in one or "error" in one or "cannot" in one


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "chat.jsonl").write_text("{}\nnonsense\n")
    with pytest.raises(ValueError, match=r"chat\.jsonl:2"):
        records.read(tmp_path / "chat.jsonl")


def test_of_several_attempts_the_calmest_counts() -> None:
    attempts = [record(figures={"n": n}, foreign_cores=other) for n, other in ((3, 0.4), (4, 0.01), (9, 0.3))]
    assert [one["figures"]["n"] for one in records.calmest(attempts)] == [4]


def test_what_failed_does_not_count() -> None:
    failure = record(error="did not start")
    del failure["figures"]
    assert records.calmest([failure, record()]) == [record()]


def test_the_last_run_that_has_a_case_of_a_target_counts_with_all_that_it_was_compared_with() -> None:
    old = [record(target) for target in ("trilane", "nginx")]
    new = [record(target, run="2", time=2.0) for target in ("trilane", "direct")]
    assert records.last_run([*new, *old], "idle", "trilane") == new
    assert records.last_run([*new, *old], "idle", "nginx") == old
    assert records.last_run(old, "storm", "nginx") == []


def test_rounds_of_different_runs_stay_apart() -> None:
    both = [record(figures={"n": 1}), record(run="2", figures={"n": 5}), record("nginx", run="2", figures={"n": 7})]
    rounds = records.rounds(both)
    assert values(at("idle", "n"), rounds, "trilane") == [1, 5]
    assert [set(turn) for turn in rounds] == [{"trilane"}, {"trilane", "nginx"}]
