"""The table of the events benchmark compares targets in the same round, judges goals, and adds remarks."""

from typing import Any

from loadtests.bench.events.table import TABLE


def record(target: str, turn: int, case: str, figures: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = {
        "run": "",
        "target": target,
        "round": turn,
        "case": case,
        "took_s": 1.0,
        "faults": {},
        "foreign_cores": 0.0,
    }
    return {**about, "figures": figures, **more}


def fan_out(deliveries_per_s: float, us: float) -> dict[str, Any]:
    delay_ms = {"p50": 1.0, "p99": 2.0}
    step = {"deliveries_per_s": deliveries_per_s, "us_per_delivery": us, "server_core": 1, "client_core": 0.5}
    return {"best": step, "fixed": {**step, "delay_ms": delay_ms}}


def row(text: str, label: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(label))


def test_ratios_are_of_the_same_round_and_their_median_is_judged() -> None:
    speeds = [(100_000, 120_000), (50_000, 65_000), (200_000, 200_000)]
    records = [
        record(target, turn, "fan-1000", fan_out(speed, 5))
        for turn, pair in enumerate(speeds)
        for target, speed in zip(("nchan", "trilane"), pair, strict=True)
    ]
    text = row(TABLE.render(records, {}), "of Nchan")
    assert "1.20 (1.00-1.30)" in text
    assert text.endswith("≥ 1.1  met")


def test_plain_asgi_has_a_goal_of_its_own() -> None:
    records = [record(name, 0, "idle", {"kib": {"10000": kib}}) for name, kib in (("trilane", 4.0), ("plain", 15.0))]
    text = TABLE.render(records, {})
    assert row(text, "10,000 idle streams").endswith("met")
    assert row(text, "as plain ASGI").endswith("MISSED")


def test_without_nchan_its_column_says_so_and_how_to_have_it() -> None:
    text = TABLE.render(
        [record("trilane", 0, "fan-1000", fan_out(1e5, 5))],
        {"nchan": "not installed (Debian: apt install libnginx-mod-nchan)"},
    )
    assert row(text, "1,000 readers").endswith("100,000  -")
    assert "nchan: not installed (Debian: apt install libnginx-mod-nchan)" in text


def test_faults_errors_and_other_work_are_told() -> None:
    failure = record("trilane", 0, "storm", {}, error="did not start")
    del failure["figures"]
    noisy = record("trilane", 0, "idle", {"kib": {"10000": 4.0}}, faults={"lost": 2, "cut": 1}, foreign_cores=0.5)
    text = TABLE.render([noisy, failure], {})
    assert row(text, "events lost").split()[-2:] == ["3", "0"]
    assert "storm, trilane, round 1: did not start" in text
    assert "1 of 1 measurements shared the machine" in text


def test_a_figure_that_could_not_be_measured_is_left_out() -> None:
    text = TABLE.render([record("nchan", 0, "fan-1000", {"best": None, "fixed": None})], {})
    assert "readers" not in text
