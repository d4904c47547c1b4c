"""The table of the engines benchmark judges each engine by its own goals, and compares rates of the same round."""

from typing import Any

from loadtests.bench.engines.figures import engines
from loadtests.bench.engines.producers import TOPICS, groups, summary
from loadtests.bench.engines.table import TABLE, of_bare


def record(target: str, case: str, figures: dict[str, Any]) -> dict[str, Any]:
    about = {"run": "1", "time": 1.0, "round": 0, "took_s": 1.0, "faults": {}, "foreign_cores": 0.0}
    return {**about, "target": target, "case": case, "figures": figures}


def appended(per_s: float, bare_per_s: float | None) -> dict[str, Any]:
    bare = None if bare_per_s is None else {"per_s": bare_per_s}
    one = {
        "per_s": per_s,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "us_per_append": 30.0,
        "store_us_per_append": 0.0,
        "bare": bare,
    }
    return {"1": one, "10": one, "100": one}


def row(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(label))


def test_a_rate_is_held_to_that_of_the_bare_server_where_there_is_one() -> None:
    turn = {"redis": {"append": appended(400, 1000)}, "memory": {"append": appended(400, None)}, "sqlite": {}}
    assert of_bare(10)(turn, "redis") == 0.4
    assert of_bare(10)(turn, "memory") is None
    assert of_bare(10)(turn, "sqlite") is None


def test_each_engine_has_its_own_verdict() -> None:
    records = [record("redis", "append", appended(400, 1000)), record("postgres", "append", appended(60, 100))]
    lines = [line for line in TABLE.render(records, {}).splitlines() if "≥ 0.5" in line]
    assert [line.split()[-1] for line in lines] == ["MISSED", "met"] * 3


def test_delays_across_processes_have_a_goal_for_each_engine() -> None:
    delays = {"sqlite": (12.0, 24.0), "redis": (4.0, 30.0), "postgres": (9.0, 25.0)}
    records = [record(name, "relay", {"delay_ms": {"p50": a, "p99": b}}) for name, (a, b) in delays.items()]
    lines = [line for line in TABLE.render(records, {}).splitlines() if "≤" in line]
    assert [line.split()[-3:] for line in lines] == [
        ["≤", "3", "MISSED"],
        ["≤", "10", "met"],
        ["≤", "25", "MISSED"],
        ["≤", "25", "met"],
    ]


def test_the_first_token_is_compared_with_sqlites() -> None:
    def first(ms: float) -> dict[str, Any]:
        return {"one": {"ttft_ms": {"p50": ms, "p99": 2 * ms}}, "hundred": {"ttft_ms": {"p50": None, "p99": None}}}

    records = [record("sqlite", "first", first(1.0)), record("redis", "first", first(2.6))]
    text = row(TABLE.render(records, {}), "more than on SQLite, p50")
    assert "1.60" in text
    assert text.endswith("≤ 1.5  MISSED")


def test_two_workers_are_held_to_what_one_pays_for_a_token() -> None:
    costs = {name: {"server_us_per_token": us} for name, us in (("one", 100.0), ("two", 115.0))}
    text = row(TABLE.render([record("sqlite", "workers", costs)], {}), "of one worker's")
    assert text.split()[-4:] == ["1.15", "≤", "1.1", "MISSED"]


def test_the_readme_has_a_column_for_each_engine_measured() -> None:
    records = [record("sqlite", "append", appended(400, None)), record("redis", "append", appended(400, 1000))]
    text = engines(records).text
    assert "| | SQLite | Redis |" in text
    assert "| 1 producer: of what the server does bare | | 0.40 |" in text


def test_a_summary_is_of_all_appends() -> None:
    figures = summary([0.003, 0.001, 0.002, 0.009], 2.0)
    assert figures == {"appends": 4, "per_s": 2.0, "p50_ms": 3.0, "p99_ms": 9.0}


def test_groups_cover_every_topic_once_whatever_their_size() -> None:
    for size in (1, 10, 100, 300):
        assert [topic for group in groups(size) for topic in group] == TOPICS
