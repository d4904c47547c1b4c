"""The committed points: the model is right where it claims to be, and the page is what they say."""

from loadtests.bench.growth.checks import wrong
from loadtests.bench.growth.page import PAGE, files
from loadtests.bench.growth.points import POINTS, read
from loadtests.bench.report.pages import check


def test_the_model_is_right_where_it_claims_to_be() -> None:
    assert wrong(read(POINTS)) == []


def test_the_committed_points_are_of_full_runs() -> None:
    assert not [f"{point.series} at {point.load}" for point in read(POINTS) if point.is_quick]


def test_the_page_is_what_the_points_say() -> None:
    assert check(files(PAGE, POINTS)) == 0
