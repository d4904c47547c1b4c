"""Answers of real providers, rebuilt byte by byte, are heard right: one test for each file in `cases`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Gateway, serving
from tests.upstreams.answers import asked
from tests.upstreams.cases_upstream import CasesUpstream

FOLDER = Path(__file__).parent / "cases"
CASES = [json.loads(line) for line in (FOLDER / "expected.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with CasesUpstream(FOLDER) as upstream:
        made = serving(tmp_path_factory.mktemp("cases"), upstream.url, TRILANE_MODEL="")
        try:
            yield made.start()
        finally:
            made.stop()


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_an_answer_is_heard_right(gateway: Gateway, case: dict[str, Any]) -> None:
    held = asked(gateway, case["case"])
    if "status" in case:
        assert held.get("status") == case["status"]
        assert case.get("says", "") in held["said"]
        return
    assert len(held["ends"]) == 1
    assert held["ends"][0] in case["end"].split("|")
    usage = held["metadata"]["usage"]
    held |= {"usage": [usage["inputTokens"], usage["outputTokens"]]}
    wanted = {name: value for name, value in case.items() if name not in ("case", "end", "reason")}
    assert {name: held[name] for name in wanted} == wanted
    if held["ends"] == ["finish"]:
        assert held["reason"] == case.get("reason", held["reason"])
