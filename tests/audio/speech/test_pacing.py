"""A reply is sent as it is heard: never more than a second and a half ahead, never late, one clause made ahead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.model.voice import VOICE_RATE
from audio.speech.pacing import AHEAD, AHEAD_S, FRAME, FRAME_S, TRUST_S, Pace

SECOND = VOICE_RATE


def play(pace: Pace, until: float, now: float = 0.0) -> float:
    """Sends whatever is due up to a time; returns when the last frame was sent."""
    last = now
    while now <= until:
        while samples := pace.due(now):
            pace.send(samples, now)
            last = now
        wait_s = pace.wait_s(now)
        if wait_s is None:
            break
        assert wait_s > 0, "what is due was sent"
        now += wait_s
    return last


def test_the_first_second_and_a_half_is_sent_at_once_and_the_rest_as_it_is_heard() -> None:
    pace = Pace()
    pace.make(10 * SECOND)
    play(pace, 0.0)
    assert pace.sent == AHEAD
    last_s = play(pace, 60.0)
    assert pace.sent == 10 * SECOND
    assert 10 - AHEAD_S - FRAME_S <= last_s <= 10 - AHEAD_S + 0.01
    assert pace.heard(10.0) == 10 * SECOND
    assert pace.heard(99.0) == 10 * SECOND


def test_a_clause_is_made_while_the_one_before_it_is_sent() -> None:
    pace = Pace()
    assert pace.wants_clause
    pace.make(2 * SECOND)
    assert pace.wants_clause, "the next one, beside that which is sent"
    pace.make(3 * SECOND)
    assert not pace.wants_clause
    play(pace, 0.3)
    assert not pace.wants_clause
    play(pace, 0.7, now=0.3)
    assert pace.wants_clause


def test_the_clock_stands_while_there_is_nothing_to_hear() -> None:
    pace = Pace()
    pace.make(SECOND)
    play(pace, 0.0)
    assert pace.heard(5.0) == SECOND
    pace.make(10 * SECOND)
    play(pace, 5.0, now=5.0)
    assert pace.sent == SECOND + AHEAD, "what came late is not sent all at once"
    assert pace.heard(5.5) == SECOND + SECOND // 2


def test_a_client_that_reports_is_believed_for_a_second() -> None:
    pace = Pace()
    pace.make(10 * SECOND)
    play(pace, 0.0)
    pace.report(SECOND // 2, 1.0)
    assert pace.heard(1.0) == SECOND // 2
    assert pace.heard(1.2) == SECOND // 2 + SECOND // 5
    play(pace, 30.0, now=1.0)
    assert pace.heard(30.0) == SECOND // 2 + TRUST_S * SECOND
    assert pace.sent - pace.heard(30.0) <= AHEAD
    assert pace.wait_s(30.0) is None, "until it reports again"


def test_a_report_never_falls_and_is_never_of_more_than_was_sent() -> None:
    pace = Pace()
    pace.make(SECOND)
    play(pace, 0.0)
    pace.report(SECOND // 2, 0.6)
    pace.report(SECOND // 4, 0.7)
    assert pace.heard(0.7) == SECOND // 2 + round(0.1 * SECOND)
    with pytest.raises(ValueError, match=f"{SECOND + 1} cannot have been played: {SECOND} were sent"):
        pace.report(SECOND + 1, 0.8)
    with pytest.raises(ValueError, match="were made"):
        pace.send(1, 0.8)


def test_a_pause_holds_everything_and_a_resumed_reply_says_again_what_was_not_heard() -> None:
    pace = Pace()
    pace.make(10 * SECOND)
    play(pace, 2.0)
    assert pace.pause(2.0) == 2 * SECOND
    assert (pace.due(9.0), pace.wait_s(9.0), pace.wants_clause, pace.heard(9.0)) == (0, None, False, 2 * SECOND)
    pace.report(2 * SECOND + 4800, 2.1)
    assert pace.resume(4.0) == pace.sent == 2 * SECOND + 4800
    play(pace, 4.5, now=4.0)
    assert pace.heard(4.5) == 2 * SECOND + 4800 + SECOND // 2
    assert AHEAD - FRAME < pace.sent - pace.heard(4.5) <= AHEAD


def test_a_reply_that_goes_on_begins_where_it_was() -> None:
    pace = Pace(start=3 * SECOND)
    pace.make(SECOND)
    play(pace, 100.0, now=100.0)
    assert (pace.sent, pace.heard(100.5)) == (4 * SECOND, 3 * SECOND + SECOND // 2)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("make"), st.integers(1, 4 * SECOND)),
        st.tuples(st.just("wait"), st.integers(1, 3000)),
        st.tuples(st.just("report"), st.integers(0, 100)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("resume"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
def test_no_listener_is_ever_further_behind_than_that_and_no_sample_is_left_out(steps: list[tuple[str, int]]) -> None:
    pace, now, place = Pace(), 0.0, 0
    for step, value in steps:
        heard = pace.heard(now)
        match step:
            case "make":
                pace.make(value)
            case "wait":
                now += value / 1000
            case "report":
                pace.report(heard + (pace.sent - heard) * value // 100, now)
            case "pause":
                pace.pause(now)
            case _ if pace.is_paused:
                assert pace.resume(now) == pace.sent <= place
                place = pace.sent
            case _:
                continue
        while samples := pace.due(now):
            assert samples <= FRAME
            pace.send(samples, now)
            place += samples
            assert pace.sent == place
        assert heard <= pace.heard(now) <= pace.sent <= pace.made
        assert pace.sent - pace.heard(now) <= AHEAD


def test_a_report_in_a_pause_corrects_the_guess_and_never_what_was_certain() -> None:
    pace = Pace()
    pace.make(10 * SECOND)
    play(pace, 0.0)
    pace.report(SECOND // 2, 0.5)
    assert pace.pause(0.8) > SECOND // 2
    pace.report(SECOND // 4, 0.9)
    assert pace.heard(0.9) > SECOND // 2, "less was heard before"
    pace.report(SECOND // 2 + 100, 1.0)
    assert pace.resume(1.0) == SECOND // 2 + 100


def test_a_listener_who_has_come_back_is_believed_and_need_not_report() -> None:
    pace = Pace()
    pace.make(10 * SECOND)
    play(pace, 0.0)
    pace.report(100, 0.1)
    pace.pause(0.2)
    pace.correct(SECOND)
    assert pace.resume(20.0) == SECOND
    play(pace, 60.0, now=20.0)
    assert pace.sent == 10 * SECOND


def test_what_was_heard_elsewhere_is_not_sent() -> None:
    pace = Pace(SECOND)
    pace.make(2 * SECOND)
    pace.skip(2 * SECOND)
    play(pace, 5.0)
    assert (pace.sent, pace.heard(5.0)) == (3 * SECOND, 3 * SECOND)
