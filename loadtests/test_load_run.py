"""`make load` passes on a good deployment and names the fault of a bad one, with real servers and real users."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loadtests import load, report
from loadtests.outcome import LANES, PROMISES, Assignment, Outcome, State, judge, span
from loadtests.progress import Progress, figure
from loadtests.report import About, mask
from loadtests.users.fault import Fault
from loadtests.users.tally import FaultCount, Lateness, Measure, Summary

ASKED = Assignment("http://gateway.example", tuple(LANES), 30, 120)
LATE = Lateness(0, 3, 12)


def measure(lane: str, name: str, count: int = 10) -> Measure:
    return Measure(lane, name, count, p50=12.0, p95=30.0, p99=1500.0, max=1430.0)


def fault(kind: Fault, count: int = 3, first: str = "<seen>") -> FaultCount:
    return FaultCount(kind.name, kind.title, kind.sentence, count, first)


def verdict(*faults: FaultCount, without: str = "", late: Lateness = LATE) -> Summary:
    """Returns a verdict in which every lane was measured, but for one."""
    measures = [measure(name, need) for name, lane in LANES.items() for need in lane.needs if name != without]
    return Summary(not faults, list(faults), measures, late)


def state_of(outcome: Outcome, title: str) -> State:
    return next(check.state for check in outcome.checks if check.title.startswith(title))


# Judging


def test_a_run_in_which_everything_was_measured_and_nothing_was_wrong_passes() -> None:
    cuts = [measure("chat", "resume gap", 40), measure("events", "resume gap", 2)]
    summary = verdict()
    outcome = judge(ASKED, replace(summary, measures=summary.measures + cuts))
    assert outcome.ok
    assert outcome.headline.endswith("through 42 lost connections.")
    assert state_of(outcome, "Who loses the connection") is State.HELD
    assert state_of(outcome, "Stop means stop") is State.UNTESTED


@pytest.mark.parametrize("kind", Fault)
def test_every_fault_fails_one_check_and_is_told_in_a_sentence(kind: Fault) -> None:
    outcome = judge(ASKED, verdict(fault(kind, 1)))
    assert not outcome.ok
    assert [check.state for check in outcome.checks].count(State.FAILED) == 1
    assert outcome.problems == [(f"{kind.title.upper()}, once. {kind.sentence}", "<seen>")]


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_that_was_asked_for_and_not_measured_fails(lane: str) -> None:
    outcome = judge(ASKED, verdict(without=lane))
    assert not outcome.ok
    assert f"The {lane} lane" in outcome.problems[0][0]


def test_a_lane_that_was_left_out_is_named_and_fails_nothing() -> None:
    outcome = judge(Assignment("http://g", ("chat", "events"), 5, 60), verdict(without="audio"))
    assert outcome.ok
    assert outcome.notes == ["Left out, as asked: audio."]


def test_pings_are_not_claimed_after_a_run_too_short_to_need_one() -> None:
    assert state_of(judge(Assignment("http://g", tuple(LANES), 5, 20), verdict()), "Silent") is State.UNTESTED
    assert state_of(judge(ASKED, verdict()), "Silent") is State.HELD


def test_a_run_that_was_stopped_has_not_passed() -> None:
    outcome = judge(replace(ASKED, lasted_s=13.2), verdict())
    assert outcome.problems[0][0].startswith("STOPPED. It was to take 2 minutes, and was stopped after 13 seconds")
    assert state_of(outcome, "Silent") is State.UNTESTED
    assert judge(replace(ASKED, lasted_s=119.0), verdict()).ok


def test_a_client_that_was_late_itself_says_so() -> None:
    outcome = judge(ASKED, verdict(late=Lateness(3, 180, 900)))
    assert outcome.ok
    assert "180 ms at the 99th percentile" in outcome.notes[0]


def test_every_fault_belongs_to_exactly_one_promise() -> None:
    assert sorted(kind.name for promise in PROMISES for kind in promise.faults) == sorted(kind.name for kind in Fault)


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 seconds"), (60, "a minute"), (120, "2 minutes"), (90, "1:30 minutes")]
)
def test_durations_are_said_as_people_say_them(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_a_locust_that_failed_without_a_fault_is_a_fault() -> None:
    summary = verdict()
    assert load.with_failure(summary, 0) is summary
    outcome = judge(ASKED, load.with_failure(summary, 1))
    assert not outcome.ok
    assert "locust.log" in outcome.problems[0][1]


# Showing


def page(outcome: Outcome, timeline: list[dict[str, Any]]) -> str:
    return report.page(outcome, About(datetime(2026, 1, 2, tzinfo=UTC), "make load"), timeline)


def test_the_page_tells_the_verdict_and_shows_what_was_seen_as_text() -> None:
    html = page(judge(ASKED, verdict(fault(Fault.BUFFERED))), [])
    assert "✗ Failed" in html
    assert "proxy_buffering off" in html
    assert "&lt;seen&gt;" in html
    assert "<seen>" not in html


def test_the_page_fetches_nothing() -> None:
    line = {"at_s": 1.0, "users": 3, "faults": 0, "measures": {"chat/first token": {"count": 2, "p50": 9, "p95": 12}}}
    html = page(judge(ASKED, verdict()), [line, {**line, "at_s": 2.0}])
    assert "<svg" in html
    assert "<script" not in html
    assert not [part for part in ('src="', "@import", "url(") if part in html]


def test_percentiles_that_locust_rounds_up_are_not_above_the_maximum() -> None:
    assert "1.50 s" not in page(judge(ASKED, verdict()), [])


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [(3.24, "", "3.2 ms"), (99.6, "", "100 ms"), (1234.0, "", "1.23 s"), (9.1, "x %", "9 %")],
)
def test_figures_are_read_at_a_glance(value: float, name: str, text: str) -> None:
    assert figure(value, name) == text


def test_progress_tells_only_what_is_new_and_leaves_half_lines(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    progress = Progress(path)
    assert progress.line() == ""
    line = {"at_s": 65.2, "users": 3, "faults": 0, "measures": {"chat/first token": {"count": 1, "p50": 9, "p95": 12}}}
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "faults": 2})[:20])
    assert progress.line() == "  1:05     3 users   1 answer (first token 9.0 ms)   no faults"
    assert progress.line() == ""
    path.write_text(json.dumps(line) + "\n" + json.dumps({**line, "faults": 2}) + "\n")
    assert progress.line().endswith("FAULTS: 2")


# The command line


def test_secrets_are_masked_where_the_command_is_shown() -> None:
    words = mask(["--users", "3", "--token", "s3cret", "--token=s3cret", "--tokens-file", "keys.txt"])
    assert words == ["--users", "3", "--token", "***", "--token=***", "--tokens-file", "keys.txt"]


def test_what_load_does_not_know_goes_to_locust() -> None:
    options = load.parse(["--time", "1m30s", "--lanes", "audio,chat", "--host", "http://g/", "--token", "k"])
    assert (options.seconds, options.lanes, options.host) == (90, ("chat", "audio"), "http://g")
    assert options.rest == ["--token", "k"]


@pytest.mark.parametrize(
    "arguments", [["--time", "soon"], ["--lanes", "video"], ["--host", "x", "--via-proxy", "buffer"]]
)
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        load.parse(arguments)
