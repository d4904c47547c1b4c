"""The regression check's verdicts: what fails, what is only noise, and what a failure says."""

import contextlib
import json
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from loadtests.bench.harness.processes import NotStarted
from loadtests.bench.regress import check
from loadtests.bench.regress.check import GROUPS, Group, lower_quartile, worse
from loadtests.bench.regress.lanes import Pairs, Probe

COMMITTED = {"chat: CPU of a token": {"ratio": 0.4}, "chat: first token, added": {"ratio": 0.4}}


def group(batches: list[Iterator[float] | Exception], name: str = "chat: CPU of a token") -> Group:
    """Returns a group that brings these ratios, a batch for each time that it is opened."""

    @contextlib.contextmanager
    def open_probe(port: int, folder: Path) -> Generator[Probe]:
        ratios = batches.pop(0)
        if isinstance(ratios, Exception):
            raise ratios
        yield lambda: {name: (next(ratios), 1.0)}

    return Group("chat", "a plain relay", open_probe, 4)


def failures(*batches: list[float] | Exception) -> list[str]:
    batches_left = [one if isinstance(one, Exception) else iter(one) for one in batches]
    return check._failures(group(batches_left), COMMITTED, 18600)


GOOD, BAD = [0.41, 0.39, 0.4, 0.42], [0.6, 0.61, 0.58, 0.7]


def test_a_figure_as_it_was_passes() -> None:
    assert failures(GOOD) == []


def test_what_is_worse_each_time_fails_with_was_and_is() -> None:
    (sentence,) = failures(BAD, BAD, BAD)
    assert sentence == "chat: CPU of a token: 0.595 of a plain relay, was 0.4: 49 % worse, 25 % are allowed"


def test_what_is_worse_once_is_measured_again_and_passes() -> None:
    assert failures(BAD, GOOD) == []
    assert failures(BAD, BAD, GOOD) == []


def test_other_work_beside_half_of_the_measurements_is_no_regression() -> None:
    assert failures([0.9, 0.41, 0.4, 3.0]) == []


def test_a_server_that_did_not_start_once_is_tried_again() -> None:
    assert failures(NotStarted("no answer"), GOOD) == []


def test_what_could_not_be_measured_at_all_fails() -> None:
    assert failures(*(NotStarted("no answer") for _ in range(3))) == ["chat: not measured: no answer"]


def test_a_failure_is_not_forgotten_because_the_next_attempt_could_not_be_measured() -> None:
    assert failures(BAD, NotStarted("no answer"), GOOD) == []
    assert len(failures(BAD, NotStarted("no answer"), BAD)) == 1


@pytest.mark.parametrize(("ratio", "fails"), [(0.3, False), (0.5, False), (0.51, True)])
def test_cpu_may_become_worse_by_a_quarter(ratio: float, fails: bool) -> None:
    assert bool(worse("chat: CPU of a token", [ratio], COMMITTED, "it")) == fails


@pytest.mark.parametrize(("ratio", "fails"), [(0.51, False), (0.79, False), (0.81, True)])
def test_times_may_double(ratio: float, fails: bool) -> None:
    assert bool(worse("chat: first token, added", [ratio], COMMITTED, "it")) == fails


def test_a_figure_that_was_never_committed_says_what_to_do() -> None:
    assert "run: python -m loadtests.bench regress --write" in worse("log: new", [1.0], COMMITTED, "it")


def test_the_lower_quartile_of_one_is_itself() -> None:
    assert lower_quartile([3.0]) == 3.0
    assert lower_quartile([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0


def test_every_figure_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = json.loads(check.COMMITTED.read_text())["ratios"]
    assert {name.partition(":")[0] for name in ratios} == {"log", "chat", "events", "audio"}
    assert all(one["lowest"] <= one["ratio"] <= one["highest"] for one in ratios.values())
    assert [group.name for group in GROUPS] == ["log", "chat", "events", "streams", "audio"]


def test_the_log_is_measured(tmp_path: Path) -> None:
    with check.GROUPS[0].open(0, tmp_path) as probe:
        pairs: Pairs = probe()
    assert set(pairs) == {"log: CPU of an append", "log: time of an append", "log: CPU of a read"}
    assert all(ours > 0 and reference > 0 for ours, reference in pairs.values())
