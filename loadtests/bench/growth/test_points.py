"""Points are made of the newest run, as the median of its rounds, and never of a quick run beside a full one."""

from pathlib import Path
from typing import Any

from loadtests.bench.growth.points import LoadValue, Points, read


def record(series: str, load: int, *, run: str = "1", turn: int = 0, quick: bool = False, **figures: Any) -> Any:
    """Returns a record as the harness keeps it."""
    part, _, name = series.partition("/")
    return {
        "bench": f"growth-{part}",
        "case": f"{name}-{load}",
        "target": "trilane",
        "run": run,
        "time": float(run),
        "round": turn,
        "plan": {"quick": quick},
        "machine": {"cpu": "made up", "cores": 2},
        "versions": {"commit": "abc"},
        "figures": figures,
        "faults": {},
        "foreign_cores": 0.0,
        "took_s": 1.0,
    }


def test_points_are_in_the_order_of_their_loads() -> None:
    points = Points([record("events/idle", load, kib=load / 10) for load in (1000, 1, 10)])
    assert points.figure("events/idle", "kib") == [LoadValue(1, 0.1), LoadValue(10, 1.0), LoadValue(1000, 100.0)]
    assert points.at("events/idle", "kib", 10) == 1.0
    assert points.at("events/idle", "kib", 11) is None
    assert points.of("events/readers") == []


def test_of_two_runs_the_newer_counts_and_of_its_rounds_the_median() -> None:
    old = record("chat/runs", 10, run="1", core=9.0)
    rounds = [record("chat/runs", 10, run="2", turn=n, core=core) for n, core in enumerate((0.3, 0.1, 0.2))]
    assert Points([*rounds, old]).at("chat/runs", "core", 10) == 0.2


def test_a_quick_point_never_replaces_a_full_one_and_fills_its_place_until_then() -> None:
    full, quick = record("chat/runs", 10, run="1", core=0.5), record("chat/runs", 10, run="2", quick=True, core=0.9)
    assert Points([full, quick]).at("chat/runs", "core", 10) == 0.5
    (alone,) = Points([quick])
    assert alone.figures["core"] == 0.9
    assert alone.is_quick


def test_a_figure_that_is_not_known_has_no_point() -> None:
    points = Points([record("events/idle", 1, kib=None), record("events/idle", 1000, kib=2.4)])
    assert points.figure("events/idle", "kib") == [LoadValue(1000, 2.4)]


def test_what_failed_is_no_point() -> None:
    failure = record("events/idle", 1)
    del failure["figures"]
    assert len(Points([{**failure, "error": "did not start"}])) == 0


def test_without_a_file_there_are_no_points(tmp_path: Path) -> None:
    assert len(read(tmp_path / "growth.jsonl")) == 0
