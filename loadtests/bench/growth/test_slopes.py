"""Slopes and the words for them, in tables."""

import pytest

from loadtests.bench.growth.points import LoadValue
from loadtests.bench.growth.slopes import fit, flat_from, in_words

LOADS = (1, 10, 100, 1000)


def along(*values: float) -> list[LoadValue]:
    return [LoadValue(load, value) for load, value in zip(LOADS, values, strict=False)]


@pytest.mark.parametrize(("slope", "scale"), [(0.0, 2.4), (1.0, 3.0), (-0.5, 100.0), (2.0, 0.1)])
def test_a_power_law_is_found_again(slope: float, scale: float) -> None:
    line = fit([LoadValue(load, scale * load**slope) for load in LOADS])
    assert line is not None
    assert line.slope == pytest.approx(slope, abs=1e-9)
    assert line.scale == pytest.approx(scale)
    assert line.explains == pytest.approx(1)
    assert line.at(50) == pytest.approx(scale * 50**slope)


@pytest.mark.parametrize("points", [[], along(1.0), along(1, 0, 1), [LoadValue(1, 1.0), LoadValue(1, 2.0)]])
def test_no_line_goes_through_one_load_or_zero(points: list[LoadValue]) -> None:
    assert fit(points) is None


@pytest.mark.parametrize(
    ("values", "load"),
    [
        ((2.4, 2.4, 2.4, 2.4), 1),
        ((9.0, 2.4, 2.5, 2.3), 10),
        ((9.0, 5.0, 2.5, 2.3), None),  # the last two alone show nothing
        ((1.0, 1.1, 1.2, 1.3), 10),
        ((0.0, 0.0, 0.0), None),
        ((2.4, 2.4), None),
    ],
)
def test_flat_is_what_varies_by_a_quarter_at_most(values: tuple[float, ...], load: int | None) -> None:
    assert flat_from(along(*values)) == load


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((), "was not measured"),
        ((3.0, 4.0), "3.0 µs at 1; 4.0 µs at 10"),
        ((2.4, 2.4, 2.4, 2.4), "is flat: 2.4 µs"),
        ((9.0, 2.4, 2.5, 2.3), "is flat from 10 on: 2.4 µs"),
        ((2, 20, 200, 2000), "grows in proportion (slope 1.00): 2.0 µs at 1, 2000.0 µs at 1,000"),
        (
            (100, 10**1.5, 10, 10**0.5),
            "falls with slope -0.50, 0.32 times as much for ten times the load: 100.0 µs at 1, 3.2 µs at 1,000",
        ),
        ((1, 1, 2, 100), "has no single slope: 1.0 µs at 1, 100.0 µs at 1,000; from 100 on 1.70"),
        ((-1, 1, 5, 5), "has no single slope: -1.0 µs at 1, 5.0 µs at 1,000; from 100 on 0.00"),
    ],
)
def test_what_a_figure_does_is_said_in_words(values: tuple[float, ...], sentence: str) -> None:
    assert in_words(along(*values), lambda value: f"{value:.1f} µs") == sentence
