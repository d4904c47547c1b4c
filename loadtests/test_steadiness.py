"""Growth is told from noise, from steps that come back, and from caches that fill."""

import math
import random
from collections.abc import Callable

import pytest

from loadtests.steadiness import blocks, course, trend

MINUTES = 20
NOISE_KIB = 400.0
LOOSE_KIB = 1500.0


def window(figure: Callable[[float], float]) -> list[tuple[float, float]]:
    """Returns a sample for each second, with noise."""
    noise = random.Random(7)
    return [(float(at), figure(at) + noise.gauss(0, NOISE_KIB)) for at in range(60 * MINUTES)]


def test_a_straight_line_has_its_slope_and_no_doubt() -> None:
    line = trend([(at, 5 + 2 * at) for at in range(10)])
    assert (line.per_s, line.error_per_s, line.spread) == pytest.approx((2, 0, 0))


def test_the_doubt_of_a_slope_is_that_of_the_text_book() -> None:
    line = trend([(0, 0), (1, 2), (2, 1), (3, 3)])
    assert line.per_s == pytest.approx(0.8)
    assert line.error_per_s == pytest.approx(math.sqrt(1.8 / 2 / 5))


def test_a_block_stands_with_its_median_and_an_empty_one_with_nothing() -> None:
    points = [(0.0, 1.0), (1.0, 9.0), (2.0, 2.0), (30.0, 4.0)]
    assert blocks(points, 3) == [(1.0, 2.0), (30.0, 4.0)]


@pytest.mark.parametrize(
    ("what", "figure", "is_steady"),
    [
        ("nothing", lambda at: 150_000, True),
        ("a leak of 2 KiB a second", lambda at: 150_000 + 2 * at, False),
        ("a leak that began late", lambda at: 150_000 + max(0, 5 * (at - 600)), False),
        ("a leak in steps", lambda at: 150_000 + 1000 * (at // 240), False),
        ("what comes and goes", lambda at: 150_000 + 2000 * math.sin(at / 60), True),
        ("what falls", lambda at: 150_000 - 3 * at, True),
        ("less than may be", lambda at: 150_000 + at, True),
        ("a cache that filled at once", lambda at: 150_000 - 4000 * math.exp(-at / 30), True),
        ("one large object for a while", lambda at: 150_000 + (20_000 if 900 < at < 930 else 0), True),
    ],
)
def test_only_what_goes_on_growing_grows(what: str, figure: Callable[[float], float], is_steady: bool) -> None:
    one = course(what, window(figure), LOOSE_KIB)
    assert one.is_steady == is_steady, str(one)
    assert ("GROWS" in str(one)) != is_steady
