"""What a store needs is read off the engines benchmark: a write, an event in it, and a read by another process."""

import json
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.growth.needs import Need
from loadtests.bench.growth.page import files
from loadtests.bench.growth.store import StoreModel, store_model
from loadtests.bench.growth.test_model import model_records

NEED = Need(
    processes=1,
    cores=1,
    reserved_cores=1,
    memory_gib=1,
    out_mb_s=1,
    store_events_per_s=5000,
    store_writes_per_s=1000,
    store_relayed_per_s=2000,
)


def records(target: str = "redis", relayed_us: float = 250.0) -> list[dict[str, Any]]:
    about: dict[str, Any] = {"run": "1", "time": 1.0, "round": 0, "faults": {}, "foreign_cores": 0.0, "target": target}
    about |= {"machine": {"cpu": "a CPU", "cores": 2}, "versions": {"commit": "abc"}}
    appends = {"1": {"store_us_per_append": 100.0}, "100": {"store_us_per_append": 20.8}}
    return [
        {**about, "case": "append", "figures": appends},
        {**about, "case": "relay", "figures": {"store_us_per_event": relayed_us}},
    ]


def test_the_cost_of_a_write_is_told_from_that_of_the_events_in_it() -> None:
    assert store_model(records(), "redis") == StoreModel(write_us=80, event_us=20, read_us=150)


def test_noise_gives_no_cost_below_nothing() -> None:
    model = store_model(records(relayed_us=90.0), "redis")
    assert model is not None
    assert model.read_us == 0


def test_an_engine_that_was_not_measured_has_no_model() -> None:
    assert store_model(records(), "postgres") is None
    assert store_model([], "redis") is None
    assert store_model(records()[:1], "redis") is None


def test_cores_are_those_of_writes_events_and_reads() -> None:
    model = StoreModel(write_us=80, event_us=20, read_us=150)
    assert model.cores(NEED) == pytest.approx(0.08 + 0.1 + 0.3)


def test_the_page_has_the_columns_of_what_was_measured(tmp_path: Path) -> None:
    page, results = tmp_path / "GROWTH.md", tmp_path / "growth.jsonl"
    page.write_text("<!-- figures: growth-store -->\n<!-- /figures -->\n")
    results.write_text("".join(json.dumps(record) + "\n" for record in model_records()))
    assert "Not measured yet." in files(page, results)[page]
    (tmp_path / "engines.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records()))
    text = files(page, results)[page]
    assert "| load | Redis: cores used | Redis: cores to have |" in text
    assert "(results/engines.jsonl)" in text
