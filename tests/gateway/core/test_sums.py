"""Figures of several processes are added up, those of ended ones too, except for what is no sum."""

import asyncio
import socket

import pytest

from gateway.core.sums import Family, Sums
from gateway.core.telemetry import Metrics, serve_metrics
from gateway.errors import ConfigurationError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def process(
    *, runs: int = 0, open_streams: float = 0, longest_s: float = 0, first_token_s: float | None = None
) -> Metrics:
    """Returns the metrics of a process that has counted a little."""
    metrics = Metrics()
    count = metrics.counter("chat_runs", "Runs that ended, by outcome", "outcome")
    first_token = metrics.histogram("chat_first_token_seconds", "The first token", (0.01, 0.03, 1, 3))
    if runs:
        count.labels("finish").inc(runs)
    if first_token_s is not None:
        first_token.observe(first_token_s)
    metrics.gauge("open_streams", "Streams", lambda: open_streams)
    metrics.gauge("longest_s", "The longest", lambda: longest_s, is_largest=True)
    return metrics


def samples(sums: Sums, *living: list[Family]) -> dict[str, float]:
    """Returns every value that is told, by the name and labels of its sample."""
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for metric in sums.of(living)
        for sample in metric.samples
    }


def test_counters_histograms_and_gauges_are_summed() -> None:
    one = process(runs=2, open_streams=3, first_token_s=0.02)
    other = process(runs=5, open_streams=4, first_token_s=2.0)
    told = samples(Sums(), one.families(), other.families())
    assert told["trilane_chat_runs_total finish"] == 7
    assert told["trilane_open_streams"] == 7
    assert told["trilane_chat_first_token_seconds_count"] == 2
    assert told["trilane_chat_first_token_seconds_sum"] == pytest.approx(2.02)
    assert [told[f"trilane_chat_first_token_seconds_bucket {le}"] for le in ("0.01", "0.03", "1.0", "3.0", "+Inf")] == [
        *(0, 1, 1),
        *(2, 2),
    ]


@pytest.mark.parametrize(("one", "other"), [(0.5, 2.0), (2.0, 0.5), (2.0, 2.0)])
def test_what_is_no_sum_is_the_largest(one: float, other: float) -> None:
    told = samples(Sums(), process(longest_s=one).families(), process(longest_s=other).families())
    assert told["trilane_longest_s"] == 2.0


def test_labels_that_only_one_process_has_are_told_too() -> None:
    one, other = process(runs=2), Metrics()
    other.counter("chat_runs", "Runs that ended, by outcome", "outcome", ["abort"]).labels("abort").inc()
    told = samples(Sums(), one.families(), other.families())
    assert (told["trilane_chat_runs_total finish"], told["trilane_chat_runs_total abort"]) == (2, 1)


def test_a_counter_never_goes_down_when_a_process_ends() -> None:
    """What it had open is gone with it; what it counted, and since when, is not."""
    one, other = process(runs=2, open_streams=3, first_token_s=0.02), process(runs=5, open_streams=4)
    sums = Sums()
    before = samples(sums, one.families(), other.families())
    sums.keep(one.families())
    after = samples(sums, other.families())
    falls = [name for name in before if after[name] < before[name]]
    assert falls == ["trilane_open_streams"]
    assert after["trilane_open_streams"] == 4
    assert after["trilane_chat_runs_created finish"] == before["trilane_chat_runs_created finish"]
    sums.keep(other.families())
    assert samples(sums)["trilane_chat_runs_total finish"] == 7


def test_a_process_that_told_nothing_yet_changes_nothing() -> None:
    one = process(runs=2).families()
    sums = Sums()
    sums.keep([])
    assert samples(sums, one, []) == samples(Sums(), one)


async def test_the_text_of_one_of_several_is_the_sum() -> None:
    metrics = process(runs=2)
    assert b'trilane_chat_runs_total{outcome="finish"} 2.0' in await metrics.text()
    answer = asyncio.get_running_loop().create_future()
    answer.set_result(b"all of them")
    metrics.sums = lambda: answer
    assert await metrics.text() == b"all of them"


def test_a_port_for_figures_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"TRILANE_METRICS_PORT={port} of TRILANE_METRICS_HOST=127.0.0.1 cannot"
        ):
            serve_metrics("127.0.0.1", port, Metrics().registry)
