"""Plots are small, well-formed SVG, the same bytes each time; their labels neither overlap nor leave the page."""

import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from loadtests.bench.report import plot
from loadtests.bench.report.axes import Axis, Scale
from loadtests.bench.report.plot import Bar, Line, Range
from loadtests.bench.report.text import rounded, short

SVG = "{http://www.w3.org/2000/svg}"
GROWING = [
    Line("Trilane", [(1, 0.5), (10, 0.6), (100, 2.5), (1000, 20)]),
    Line("relay", [(1, 0.6), (10, 3), (1000, 400)], 1),
    Line("model", [(1, 0.45), (1000, 21)], 2, dashed=True),
]


def growth() -> str:
    return plot.lines("Delay", GROWING, Axis("streams", log=True), Axis("ms", log=True), limit=(100, "too late"))


def chart() -> str:
    rows = [Bar("Trilane", 135_000, "1,000 readers", ours=True), Bar("nginx & <co>", None, "5,000 readers", "cannot")]
    return plot.bars("Deliveries", rows, "per second")


def spans() -> str:
    rows = [Range("Trilane", 1.2, 1.8, "1 stream", ours=True), Range("relay", 113, 182, "100 streams")]
    return plot.ranges("First token", rows, "ms")


PLOTS = pytest.mark.parametrize("draw", [growth, chart, spans], ids=["lines", "bars", "ranges"])


def texts(svg: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{SVG}text"))


@PLOTS
def test_a_plot_is_small_self_contained_and_readable_in_the_dark(draw: Callable[[], str]) -> None:
    svg = draw()
    root = ElementTree.fromstring(svg)
    assert len(svg) < 12_000
    assert "prefers-color-scheme:dark" in svg
    assert "href" not in svg
    assert root.findtext(f"{SVG}title")


@PLOTS
def test_the_same_values_give_the_same_bytes(draw: Callable[[], str]) -> None:
    assert draw() == draw()


@PLOTS
def test_every_label_lies_on_the_page(draw: Callable[[], str]) -> None:
    root = ElementTree.fromstring(draw())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in texts(draw()):
        long = len(text.text or "") * 6.5
        ends = {"end": (-long, 0), "middle": (-long / 2, long / 2)}
        anchor = next((name for name in ends if name in text.attrib.get("class", "")), "")
        left, right = ends.get(anchor, (0, long))
        assert float(text.attrib["x"]) + left >= 0
        assert float(text.attrib["x"]) + right <= width
        assert 0 < float(text.attrib["y"]) < height


def test_values_of_different_lines_do_not_hide_each_other() -> None:
    series = [Line("a", [(1, 1.0), (2, 2.0)]), Line("b", [(1, 1.01), (2, 2.01)], 1), Line("c", [(1, 1.02)], 2)]
    places = [
        (float(text.attrib["x"]), float(text.attrib["y"]))
        for text in texts(plot.lines("close", series, Axis("n"), Axis("s")))
        if re.search(r"f\d.*small", text.attrib.get("class", ""))
    ]
    assert len(places) >= 2
    assert all(abs(a[0] - b[0]) > 8 or abs(a[1] - b[1]) > 11 for a in places for b in places if a is not b)


def test_names_of_lines_that_end_together_are_pushed_apart() -> None:
    series = [Line(name, [(1, 1.0), (2, 2.0)], place) for place, name in enumerate(("a", "b", "c"))]
    labels = texts(plot.lines("close", series, Axis("n"), Axis("s")))
    names = sorted(float(text.attrib["y"]) for text in labels if text.text in {"a", "b", "c"})
    assert names[1] - names[0] >= 16
    assert names[2] - names[1] >= 16


def test_a_bar_that_cannot_be_says_so() -> None:
    assert "cannot" in [text.text for text in texts(chart())]


def test_a_line_does_not_bridge_a_long_pause() -> None:
    line = Line("", [(0, 1.0), (1, 2.0), (60, 3.0)], gap=10)
    (path,) = re.findall(r'class="l0" d="([^"]+)"', plot.over_time("First token, ms", [line], 60, str))
    assert re.sub("[^ML]", "", path) == "MLM"


def test_a_figure_of_nothing_says_so() -> None:
    assert "nothing came" in plot.over_time("Deliveries a second", [Line("", [])], 60, str)


def test_times_and_values_stand_at_the_edges_of_a_figure() -> None:
    series = [Line("p50", [(0, 80.0), (60, 130.0)]), Line("p95", [(0, 190.0)], 1)]
    svg = plot.over_time("First & last", series, 60, lambda at_s: f"{at_s:.0f} s")
    assert [text for text in re.findall(">([^<>]+)</text>", svg)] == ["0", "100", "200", "0 s", "30 s", "60 s"]
    assert '<span class="f1">p95</span>' in svg
    assert "First &amp; last" in svg


def test_a_plot_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to show"):
        plot.bars("Nothing", [Bar("a", None)], "per second")


def test_a_logarithmic_axis_refuses_what_it_cannot_show() -> None:
    with pytest.raises(ValueError, match="no place for 0"):
        Scale(Axis("ms", log=True), [0, 1], 0, 100)


@pytest.mark.parametrize(
    ("log", "values", "ticks"),
    [
        (False, [3.2, 9.7], [0, 2, 4, 6, 8, 10]),
        (False, [0.97, 2.11], [0, 0.5, 1, 1.5, 2, 2.5]),
        (True, [0.17, 182], [0.1, 1, 10, 100]),
        (True, [1, 8], [1, 2, 5, 10]),
        (True, [5, 5], [2.5, 5, 10]),
    ],
)
def test_ticks_are_round(log: bool, values: list[float], ticks: list[float]) -> None:
    on_axis = Scale(Axis(log=log), values, 0, 500).ticks()
    assert [round(tick, 9) for tick in on_axis] == [tick for tick in ticks if tick in on_axis]
    assert len(on_axis) >= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (3, "3"), (0.0456, "0.046"), (0.1, "0.10"), (0.996, "1.00"), (1.22, "1.22"), (3.64, "3.6"),
        (9.96, "10.0"), (13.86, "13.9"), (20.6, "21"), (57.9, "58"), (99.7, "100"), (112.94, "113"), (422, "420"),
        (6729, "6,700"), (136_617, "137,000"), (-0.02, "-0.020"), (2_960_513, "3,000,000"),
    ],
)  # fmt: skip
def test_figures_have_as_many_digits_as_a_measurement(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1, "0.1"), (15, "15"), (9_700, "9,700"), (56_871, "57k"), (195_288, "195k"), (3e6, "3 M")]
)
def test_labels_are_short(value: float, text: str) -> None:
    assert short(value) == text
