"""Growth is measured with small loads of every lane on real servers; a stopped run goes on where it was."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.chat.cases import ChatRig, RequestNumbers
from loadtests.bench.chat.servers import TARGETS, Ports, upstream
from loadtests.bench.events.cases import EventsRig
from loadtests.bench.events.servers import TARGETS as PUBSUB
from loadtests.bench.growth import chat, log, parts
from loadtests.bench.growth.cases import QUICK, GrowthFigures, GrowthPlan
from loadtests.bench.growth.chat import followers, runs
from loadtests.bench.growth.events import idle, readers, relayed
from loadtests.bench.growth.log import LogRig, events
from loadtests.bench.growth.test_points import record
from loadtests.bench.harness.part import Cannot, LeftOut

SHORT: Any = GrowthPlan(quick=True, ping_s=0.5, steady_s=0.5, step_s=0.3, steps=1, share=0.3, log_s=0.1)


def two_free_ports() -> int:
    """Returns the first of two neighbours that are free."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture
def events_rig(tmp_path: Path) -> EventsRig:
    return EventsRig(PUBSUB["trilane"], two_free_ports(), tmp_path, {}, SHORT)


def _no_negatives(figures: GrowthFigures) -> bool:
    return all(value is None or value >= 0 for name, value in figures.items() if not name.startswith("added"))


def test_idle_streams_are_held_and_pinged(events_rig: EventsRig) -> None:
    figures = idle(events_rig, SHORT, 20)
    assert 30 < figures["pings_per_s"] < 80  # of 20, opened at once: each has one or two in 1.1 intervals of 0.5 s
    assert figures["kib"] is None  # too few to show
    assert 20 < (figures["mib"] or 0) < 200
    assert not events_rig.faults


def test_more_streams_than_descriptors_are_not_tried(events_rig: EventsRig) -> None:
    with pytest.raises(Cannot, match="ulimit -Hn"):
        idle(events_rig, SHORT, 10_000_000)


def test_readers_share_what_an_event_costs(events_rig: EventsRig) -> None:
    figures = readers(events_rig, SHORT, 5)
    assert figures["us_per_event"] == pytest.approx(5 * (figures["us_per_delivery"] or 0))
    assert 200 < (figures["bytes_per_delivery"] or 0) < 400
    assert _no_negatives(figures)
    assert not events_rig.faults


def test_events_of_another_process_arrive_at_every_reader(events_rig: EventsRig) -> None:
    figures = relayed(events_rig, SHORT, 3)
    assert (figures["us_per_event"] or 0) > 0
    assert not events_rig.faults


def test_runs_and_followers_are_carried_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "ANSWER_TOKENS", 20)
    port = two_free_ports()
    with upstream(port + 1) as pid:
        rig = ChatRig(TARGETS["trilane"], Ports(port, port + 1), {}, SHORT, pid, RequestNumbers())
        run_figures = runs(rig, SHORT, 2)
        follower_figures = followers(rig, SHORT, 3)
    assert run_figures["carried"] == pytest.approx(1, rel=0.15)
    assert (run_figures["added_p50_ms"] or -1) > 0
    assert follower_figures["tokens_per_s"] == pytest.approx(150, rel=0.15)
    assert not rig.faults


def test_a_log_is_filled_opened_and_read(tmp_path: Path) -> None:
    figures = events(LogRig(tmp_path), SHORT, 1000)
    assert 40 < (figures["bytes_per_event"] or 0) < 200
    assert _no_negatives(figures)


def test_a_log_that_does_not_fit_on_the_disk_is_not_tried(tmp_path: Path) -> None:
    with pytest.raises(Cannot, match="GB free"):
        events(LogRig(tmp_path), SHORT, 10**15)


def test_a_log_that_is_not_written_in_time_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "FILL_S", 0.001)
    assert log.main(10_000, tmp_path, 0.1) == log.TOO_LARGE


def test_what_is_known_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.machine, "versions", lambda: {"commit": "abc"})
    monkeypatch.setattr(parts.machine, "describe", lambda: {"cpu": "made up", "cores": 2})
    results = tmp_path / "growth.jsonl"
    current = [record("log/events", 1000), record("log/events", 10**4, quick=True)]
    failure = {**record("log/events", 10**5), "error": "did not start"}
    del failure["figures"]
    elsewhere = {**record("log/events", 10**6), "versions": {"commit": "older"}}
    results.write_text("".join(json.dumps(one) + "\n" for one in [*current, failure, elsewhere]))
    part = parts.part("log", QUICK.quick, parts.cases_of(results, quick=True))
    assert not isinstance(part, LeftOut)
    assert [case.name for case in part.cases] == ["events-100000"]
    part = parts.part("log", False, parts.cases_of(results, quick=False))
    assert not isinstance(part, LeftOut)
    assert [case.name for case in part.cases] == [f"events-{10**n}" for n in (4, 5, 6, 7)]


def test_all_that_is_known_needs_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--quick", "--parts", "log", "--out", str(tmp_path)]
    assert parts.main([*words, "--port", str(two_free_ports())]) == 0
    assert "appends of 300 writers" in capsys.readouterr().out
    assert parts.main(words) == 0
    assert "--again measures it anew" in capsys.readouterr().out


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parts.main(["--parts", "video"])
    assert "there are events, chat, audio, log" in capsys.readouterr().err
