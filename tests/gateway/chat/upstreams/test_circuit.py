"""A circuit opens when an upstream fails, lets one probe through, and closes when it answers. No clock runs here."""

import pytest

from gateway.chat.upstreams.circuit import (
    FIRST_S,
    LONGEST_S,
    MAX_PAUSE_S,
    MIN_FAILURES,
    STEADY_S,
    WINDOW,
    WINDOW_S,
    Circuit,
    CircuitState,
    is_of_upstream,
    pause_of,
)
from gateway.chat.upstreams.completion_parser import GAVE_UP
from gateway.chat.upstreams.refusals import in_band_error, refusal
from gateway.errors import LogUnavailable, UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable

NOON = 1_700_000_000.0


class CircuitBench:
    """A circuit on clocks that a test turns, and what it told."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wall_s = NOON
        self.told: list[tuple[CircuitState, str, float]] = []
        self.circuit = Circuit(lambda: self.now_s, lambda *told: self.told.append(told), lambda: self.wall_s)

    def tries(self, outcomes: str) -> None:
        """Has requests end one after the other: `.` well, `x` in a failure, `?` by their own fault."""
        errors = {".": None, "x": UpstreamCut(), "?": refusal(400, "no such field")}
        for outcome in outcomes:
            trial = self.circuit.begin()
            if outcome == ".":
                trial.note_token()
            trial.end(errors[outcome])

    def until_half_open(self) -> None:
        self.now_s = self.circuit.back_at
        assert self.circuit.state == "half_open"


def opened() -> CircuitBench:
    bench = CircuitBench()
    bench.tries("xxx")
    assert bench.circuit.state == "open"
    return bench


@pytest.mark.parametrize(
    ("outcomes", "is_open"),
    [
        ("x" * (MIN_FAILURES - 1), False),
        ("x" * MIN_FAILURES, True),
        ("....xxx", False),
        ("...xxx", True),
        ("x.x.x", True),
        (".." * WINDOW + "x" * (WINDOW // 2 - 1), False),
        (".." * WINDOW + "x" * (WINDOW // 2), True),
        ("?" * 50, False),
        ("xx" + "?" * 50, False),
        ("xx" + "?" * 50 + "x", True),
    ],
)
def test_it_opens_at_a_share_of_failures_and_a_least_number_of_them(outcomes: str, is_open: bool) -> None:
    bench = CircuitBench()
    bench.tries(outcomes)
    assert (bench.circuit.state == "open") is is_open
    assert bench.circuit.admits is not is_open
    assert bench.told == ([("open", "upstream_cut", FIRST_S)] if is_open else [])
    assert bench.circuit.openings == is_open


def test_old_failures_are_forgotten() -> None:
    bench = CircuitBench()
    bench.tries("xx")
    bench.now_s += WINDOW_S + 1
    bench.tries("xx")
    assert bench.circuit.state == "closed"


def test_exactly_one_probe_goes_through_and_its_token_closes_it() -> None:
    bench = opened()
    bench.now_s += FIRST_S - 0.01
    assert not bench.circuit.admits
    bench.until_half_open()
    assert bench.circuit.admits
    probe = bench.circuit.begin()
    assert not bench.circuit.admits
    assert bench.circuit.state == "half_open"
    probe.note_token()
    assert bench.circuit.state == "closed"
    assert bench.told[-1] == ("closed", "", 0.0)


def test_a_probe_that_fails_keeps_it_open_for_twice_as_long_up_to_a_bound() -> None:
    bench = opened()
    waits: list[float] = []
    for _ in range(8):
        bench.until_half_open()
        bench.tries("x")
        waits.append(bench.circuit.back_at - bench.now_s)
    assert waits == [10, 20, 40, 80, LONGEST_S, LONGEST_S, LONGEST_S, LONGEST_S]


def test_a_probe_that_nobody_waited_for_says_nothing_and_makes_room_for_the_next() -> None:
    bench = opened()
    bench.until_half_open()
    with pytest.raises(LogUnavailable), bench.circuit.begin():
        raise LogUnavailable
    assert bench.circuit.state == "half_open"
    assert bench.circuit.admits
    bench.circuit.begin().forget()
    assert bench.circuit.admits


def test_a_probe_that_is_refused_by_its_own_fault_was_answered() -> None:
    bench = opened()
    bench.until_half_open()
    bench.tries("?")
    assert bench.circuit.state == "closed"


def test_an_answer_that_is_cut_after_its_token_counts_against_an_upstream() -> None:
    bench = opened()
    for _ in range(MIN_FAILURES):
        bench.until_half_open() if bench.circuit.state == "open" else None
        trial = bench.circuit.begin()
        trial.note_token()
        assert bench.circuit.state == "closed"
        trial.end(UpstreamCut())
    assert bench.circuit.state == "open"


def test_one_that_flaps_is_left_out_for_longer_each_time_and_one_that_was_steady_is_not() -> None:
    bench = opened()
    bench.until_half_open()
    bench.tries(".xxx")
    assert bench.told[-1] == ("open", "upstream_cut", 2 * FIRST_S)
    bench.until_half_open()
    bench.tries(".")
    bench.now_s += STEADY_S
    bench.tries("xxx")
    assert bench.told[-1] == ("open", "upstream_cut", FIRST_S)


def test_what_was_sent_before_it_opened_does_not_move_it() -> None:
    bench = CircuitBench()
    early = [bench.circuit.begin() for _ in range(MIN_FAILURES + 3)]
    for trial in early[:-1]:
        trial.end(UpstreamCut())
    assert (bench.circuit.state, bench.circuit.openings) == ("open", 1)
    early[-1].note_token()
    early[-1].end(None)
    assert bench.circuit.state == "open"


def test_one_that_is_asked_although_it_is_open_closes_it_by_an_answer_and_keeps_it_as_it_is_by_a_failure() -> None:
    bench = opened()
    back_at = bench.circuit.back_at
    bench.tries("xxxx")
    assert (bench.circuit.back_at, bench.circuit.openings) == (back_at, 1)
    bench.tries(".")
    assert bench.circuit.state == "closed"


def test_what_failed_before_it_opened_is_forgotten_when_it_is_back() -> None:
    bench = opened()
    bench.until_half_open()
    bench.tries(".x")
    assert bench.circuit.state == "closed"


def test_a_trial_ends_once() -> None:
    bench = CircuitBench()
    trial = bench.circuit.begin()
    for _ in range(MIN_FAILURES):
        trial.end(UpstreamCut())
    trial.note_token()
    trial.forget()
    assert bench.circuit.state == "closed"


def test_an_upstream_that_says_when_to_come_again_is_left_alone_until_then() -> None:
    bench = CircuitBench()
    bench.circuit.begin().end(refusal(429, "slow down", "7"))
    assert (bench.circuit.state, bench.circuit.admits, bench.circuit.back_at) == ("paused", False, bench.now_s + 7)
    bench.circuit.begin().end(refusal(429, "slow down", "3"))
    assert bench.told == [("paused", "upstream_rate_limited", 7.0)]
    bench.now_s += 7
    assert (bench.circuit.state, bench.circuit.admits) == ("closed", True)
    assert bench.circuit.openings == 0


def test_a_probe_that_is_told_to_wait_waits_and_the_next_one_is_a_probe_again() -> None:
    bench = opened()
    bench.until_half_open()
    bench.circuit.begin().end(refusal(503, "overloaded", "30"))
    assert not bench.circuit.admits
    bench.now_s += 30
    bench.circuit.begin()
    assert not bench.circuit.admits


@pytest.mark.parametrize(
    ("retry_after", "pause_s"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("86400", MAX_PAUSE_S),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 34 Nov 2023 22:13:10 GMT", 0.0),
        ("soon", 0.0),
        (None, 0.0),
    ],
)
def test_how_long_an_upstream_wants_to_be_left_alone(retry_after: str | None, pause_s: float) -> None:
    assert pause_of(refusal(429, "slow down", retry_after), NOON) == pause_s


def test_what_the_request_is_at_fault_for_pauses_nobody() -> None:
    assert pause_of(refusal(413, "too large", "30"), NOON) == 0


OF_UPSTREAM: dict[str, UpstreamError] = {
    "nothing comes": UpstreamTimeout(),
    "a cut": UpstreamCut(),
    "no connection": UpstreamUnreachable(),
    "our key": refusal(401, "who are you"),
    "our rights": refusal(403, "not you"),
    "our key, by another status": refusal(400, "API key not valid"),
    "our account": refusal(402, "pay first"),
    "our account, by another status": refusal(400, "your credit balance is too low"),
    "our quota": refusal(429, {"code": "insufficient_quota", "message": "x"}),
    "our rate": refusal(429, "slow down"),
    "a failure": refusal(500, "x"),
    "overload": refusal(529, "x"),
    "an error in band": in_band_error({"message": "the engine died"}),
}
OF_REQUEST: dict[str, UpstreamError] = {
    "not valid": refusal(400, "no such field"),
    "too long": refusal(400, "the maximum context length is 512 tokens"),
    "too long, as llama.cpp says it": refusal(500, "the request exceeds the available context size"),
    "filtered": refusal(400, {"code": "content_filter", "message": "x"}),
    "no such model": refusal(404, "no such model"),
    "too large": refusal(413, "too large"),
    "given up by the model": UpstreamError("x", code=GAVE_UP),
}


@pytest.mark.parametrize("error", OF_UPSTREAM.values(), ids=OF_UPSTREAM)
def test_these_errors_count_against_an_upstream(error: UpstreamError) -> None:
    assert is_of_upstream(error)


@pytest.mark.parametrize("error", OF_REQUEST.values(), ids=OF_REQUEST)
def test_these_errors_say_nothing_of_an_upstream(error: UpstreamError) -> None:
    assert not is_of_upstream(error)
