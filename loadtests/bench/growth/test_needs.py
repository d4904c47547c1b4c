"""Needs of large loads, and which way each input moves them."""

from dataclasses import replace

import pytest

from loadtests.bench.growth.needs import SHARE, Listeners, Runs, Voices, listeners, runs, voices
from loadtests.bench.growth.test_model import AUDIO, CHAT, EVENTS

MILLION = Listeners(streams=1_000_000, readers=1000, events_per_s=0)


def test_silent_listeners_need_descriptors_and_memory() -> None:
    need = listeners(EVENTS, MILLION)
    assert need.processes == 56  # of 18,000 streams
    gib = (56 * 50 / 1024 + 1e6 * (2.4 + 4) / 1024**2) / 0.8
    assert need.memory_gib == pytest.approx(gib)
    pings, accepts = 1e6 / 15 * 40e-6, 1e6 / 540 * 150e-6
    assert need.cores == pytest.approx(56 * 0.01 + pings + accepts)
    assert need.store_events_per_s == need.store_relayed_per_s == 0


def test_topics_with_readers_anywhere_cost_every_process_every_event() -> None:
    anywhere = listeners(EVENTS, replace(MILLION, events_per_s=1))
    together = listeners(EVENTS, replace(MILLION, events_per_s=1, by_topic=True))
    assert together.processes == 56
    assert anywhere.processes > 5 * together.processes
    assert anywhere.store_relayed_per_s > 100 * 1000
    assert together.store_relayed_per_s == 0
    assert anywhere.store_events_per_s == together.store_events_per_s == 1000
    assert anywhere.out_mb_s == together.out_mb_s


def test_one_process_hears_of_nothing_from_others() -> None:
    need = listeners(EVENTS, Listeners(streams=1000, readers=10, events_per_s=0.1))
    assert need.processes == 1
    assert need.store_relayed_per_s == 0


@pytest.mark.parametrize("count", [1, 100, 5000, 100_000])
def test_runs_fill_processes_and_no_further_than_planned(count: int) -> None:
    need = runs(CHAT, Runs(runs=count))
    assert need.cores / need.processes <= SHARE
    if need.processes > 1:
        fewer = need.processes - max(1, need.processes // 50)
        tokens = 50 * count / fewer
        assert CHAT.core(tokens, tokens / 500) > SHARE
    assert need.store_events_per_s == 50 * count
    assert need.store_writes_per_s <= 500 * need.processes + 2 * 50 * count / 500


def test_short_answers_need_more() -> None:
    long, short = (runs(CHAT, Runs(runs=10_000, answer_tokens=tokens)) for tokens in (500, 20))
    assert short.processes > long.processes


@pytest.mark.parametrize(("speaking", "servers"), [(1.0, 1667), (0.4, 667)])
def test_voices_need_servers_by_how_much_they_speak(speaking: float, servers: int) -> None:
    need = voices(AUDIO, Voices(voices=10_000, speaking=speaking))
    assert (need.processes, need.reserved_cores) == (servers, 2 * servers)
    assert need.in_mb_s == pytest.approx(320)


def test_what_no_number_of_processes_can_do_is_refused() -> None:
    with pytest.raises(OverflowError, match="in time"):
        voices(replace(AUDIO, voices=0), Voices(voices=1))
    with pytest.raises(OverflowError, match="cores"):
        runs(replace(CHAT, idle_core=0.7), Runs(runs=1))
