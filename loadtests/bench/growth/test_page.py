"""The page of growth: made from points, checked against them, and honest about what is not there."""

import json
from pathlib import Path

import pytest

from loadtests.bench.growth.page import PAGE, files, summary
from loadtests.bench.growth.points import Points
from loadtests.bench.growth.test_model import model_records
from loadtests.bench.report.pages import check

EMPTY = "before\n<!-- figures: growth-{} -->\n<!-- /figures -->\nafter\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "growth.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(record) + "\n" for record in model_records()))
    return path


def page(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "GROWTH.md"
    path.write_text(EMPTY.format(name))
    return path


def test_a_lane_has_plots_tables_words_and_the_model_beside_them(tmp_path: Path, results: Path) -> None:
    expected = files(page(tmp_path, "events"), results)
    text = expected[tmp_path / "GROWTH.md"]
    assert "![Memory of a process, by its idle streams](results/growth-events-memory.svg)" in text
    assert "| 10,000 |" in text
    assert "- memory per stream is flat: 2.4 KiB" in text
    assert "| CPU per event, µs = event + readers x delivery |" in text
    assert "(results/growth.jsonl)" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "model" in expected[results.parent / "growth-events-memory.svg"]


def test_a_lane_that_was_not_measured_says_so(tmp_path: Path, results: Path) -> None:
    assert "Not measured yet." in files(page(tmp_path, "audio"), results)[tmp_path / "GROWTH.md"]
    assert not any("audio" in path.name for path in files(page(tmp_path, "audio"), results))


def test_needs_have_a_row_for_each_load_and_dashes_where_there_is_no_model(tmp_path: Path, results: Path) -> None:
    text = files(page(tmp_path, "needs"), results)[tmp_path / "GROWTH.md"]
    runs = [line for line in text.splitlines() if line.startswith("| 100,000 runs")]
    assert len(runs) == 2
    assert "| 5,000,000 |" in runs[1]
    (machines, _) = [line for line in text.splitlines() if line.startswith("| 10,000 voices that speak all")]
    assert machines.endswith("| - | - |")


def test_the_verdict_stands_below_the_constants(tmp_path: Path, results: Path) -> None:
    text = files(page(tmp_path, "constants"), results)[tmp_path / "GROWTH.md"]
    assert "| events | a delivery that waits for no other | 10 µs |" in text
    assert "Where it claims to be right, the model is within 30% of every point." in text
    assert "audio: cores of audio/sessions at 8 was not measured" in text


def test_what_was_written_passes_its_check_and_what_was_typed_in_does_not(tmp_path: Path, results: Path) -> None:
    path = page(tmp_path, "events")
    for each, text in files(path, results).items():
        each.write_text(text)
    assert check(files(path, results)) == 0
    path.write_text(path.read_text().replace("2.4 KiB", "1.2 KiB"))
    assert check(files(path, results)) == 1


def test_a_marker_that_names_nothing_is_refused(tmp_path: Path, results: Path) -> None:
    with pytest.raises(ValueError, match="no figures are called 'growth-nothing'"):
        files(page(tmp_path, "nothing"), results)


def test_the_page_names_every_block_once() -> None:
    text = PAGE.read_text()
    for name in ("needs", "store", "events", "chat", "audio", "log", "constants"):
        assert text.count(f"<!-- figures: growth-{name} -->") == 1


def test_the_terminal_sees_the_model_and_the_needs() -> None:
    text = summary(Points(model_records()))
    assert "CPU per event, µs = event + readers x delivery" in text
    assert "(4) 100,000 runs" in text
    assert "no model of audio" in text
