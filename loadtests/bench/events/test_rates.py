"""The search for the highest rate, with servers that are functions."""

import pytest

from loadtests.bench.events import rates


@pytest.mark.parametrize("limit", [3.0, 97.0, 120.0, 1000.0])
def test_the_highest_rate_is_found_from_below_and_from_above(limit: float) -> None:
    rate = rates.highest(lambda candidate: candidate <= limit, 100, within=1.05, steps=60)
    assert limit / 1.05 <= rate <= limit


def test_one_failure_is_noise_and_two_are_a_limit() -> None:
    attempts: list[float] = []

    def step(rate: float) -> bool:
        attempts.append(rate)
        return rate < 110 and attempts.count(rate) == 2

    rate = rates.highest(step, 100, within=1.05, steps=20)
    assert 110 / 1.05 <= rate < 110
    assert max(attempts) == pytest.approx(115)


def test_where_no_rate_passes_there_is_none() -> None:
    assert rates.highest(lambda rate: False, 100, within=1.05, steps=5) == 0


def test_it_stops_after_so_many_rates() -> None:
    attempts: list[float] = []
    rates.highest(lambda rate: not attempts.append(rate), 100, within=1.05, steps=4)
    assert len(attempts) == 4
