"""The README and the plots say what the committed results say; and how a table comes out of records."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.figures import README, SOURCES, block, readme_files
from loadtests.bench.harness.records import RESULTS, Round
from loadtests.bench.report.blocks import BlockRow, by_target, cell, median
from loadtests.bench.report.pages import BLOCK, check, filled
from loadtests.bench.report.rows import at, beyond
from loadtests.bench.report.text import markdown

TITLES = {"trilane": "Trilane", "nginx": "nginx"}
RATE = BlockRow("rate", "burst", [at("burst", "rate")])


def record(target: str, rate: float | None, turn: int = 0, **more: Any) -> dict[str, Any]:
    about = {"run": "1", "time": 1.0, "round": turn, "case": "burst", "faults": {}, "foreign_cores": 0.0}
    return {**about, "target": target, **({} if rate is None else {"figures": {"rate": rate}}), **more}


def test_the_readme_and_the_plots_are_as_the_results_have_them(capfd: pytest.CaptureFixture[str]) -> None:
    code = check(readme_files(README, RESULTS))
    assert code == 0, capfd.readouterr().err


def test_every_block_is_in_the_readme() -> None:
    names = {one["name"] for one in BLOCK.finditer(README.read_text())}
    assert names == set(SOURCES)


def test_a_number_changed_by_hand_is_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text().replace("| burst, 20 streams, tokens/s | ", "| burst | 9,"))
    assert check(readme_files(readme, RESULTS)) == 1
    diff = capfd.readouterr().err
    assert "-| burst | 9," in diff
    assert "python -m loadtests.bench figures" in diff


def test_a_plot_that_is_missing_is_found(tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(RESULTS, results)
    (results / "chat.svg").unlink()
    assert check(readme_files(README, results)) == 1


def test_a_marker_that_names_nothing_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("<!-- figures: chatt -->\n<!-- /figures -->\n")
    with pytest.raises(ValueError, match="no figures are called 'chatt'"):
        readme_files(readme, RESULTS)


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = "before\n<!-- figures: a -->\nold\n<!-- /figures -->\nbetween\n<!-- figures: b -->\n<!-- /figures -->\nafter"
    page = filled(text, {"a": "one", "b": "two"})
    assert page.replace("one\n", "old\n").replace("two\n", "") == text


def test_without_results_a_block_is_empty(tmp_path: Path) -> None:
    assert block(tmp_path, "chat").text == ""


def test_a_cell_is_the_median_of_the_rounds() -> None:
    records = [record("trilane", rate, turn) for turn, rate in enumerate((1000, 9000, 3000))]
    assert cell(RATE, records, "trilane") == "3,000"


def test_of_several_runs_the_last_counts() -> None:
    records = [record("trilane", 5, run="2", time=2.0), record("trilane", 1)]
    assert cell(RATE, records, "trilane") == "5"


def test_what_is_added_is_added_in_the_same_run() -> None:
    row = BlockRow("added", "burst", [beyond(at("burst", "rate"), "direct")])
    old = [record("direct", 1), record("nginx", 4)]
    new = [record("direct", 3, run="2", time=2.0), record("trilane", 8, run="2", time=2.0)]
    assert cell(row, [*old, *new], "nginx") == "3"
    assert cell(row, [*old, *new], "trilane") == "5"


def test_what_a_target_cannot_or_did_not_do_is_said() -> None:
    records = [record("trilane", 1), record("nginx", None, cannot="replay"), record("slow", None, error="no answer")]
    assert [cell(RATE, records, name) for name in ("nginx", "slow", "absent")] == ["cannot", "failed", ""]


def test_what_went_wrong_stands_behind_the_figure() -> None:
    records = [record("nginx", 5, turn, faults={"bad streams": 6}) for turn in (0, 1)]
    assert cell(RATE, records, "nginx") == "5 (12 bad streams)"


def test_a_case_without_its_figure_says_what_it_lacks() -> None:
    line = BlockRow("rate", "burst", [at("burst", "best", "rate")], lacking="none in time")
    assert cell(line, [record("nginx", None, figures={"best": None})], "nginx") == "none in time"


def test_a_remark_follows_from_the_rounds() -> None:
    def remark(rounds: Sequence[Round], target: str) -> str:
        return f" ({len(rounds)} rounds of {target})"

    line = BlockRow("rate", "burst", [at("burst", "rate")], remark=remark)
    assert cell(line, [record("nginx", 5, turn) for turn in (0, 1)], "nginx") == "5 (2 rounds of nginx)"


def test_columns_are_the_targets_that_were_measured_in_the_order_of_the_titles() -> None:
    table = by_target([RATE], [record("nginx", 5), record("trilane", 7), record("direct", 9)], TITLES)
    assert table == markdown(["", "Trilane", "nginx"], [["rate", "7", "5"]])


def test_an_empty_cell_is_still_a_cell() -> None:
    assert markdown(["", "a"], [["row", ""]]) == "| | a |\n| --- | ---: |\n| row | |"


def test_no_figure_without_a_record() -> None:
    assert median(at("burst", "rate"), [], "burst", "trilane") is None
