"""The state machine of a session is driven with a model that hears exactly what was spoken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.messages import Ack, Done, Final, Gap, Marker, Partial, SpeechStarted, SpeechStopped
from audio.model.fake import speech_of, transcription_of
from audio.model.transcriber import MAX_TASK_S, SAMPLE_RATE, Transcription
from audio.model.vad import FRAME
from audio.options import MAX_SEGMENT, MAX_WAITING, PREFIX, TAIL, SessionOptions, Settled
from audio.session import Session
from tests.audio.listening import feed, finals, gaps, partials, run_session, text, work

SENTENCE = [(1, 0.3, 0.1), (2, 0.3, 0.1), (3, 0.4, 1.0)]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def test_a_sentence_is_partials_then_one_final() -> None:
    output = run_session(np.concatenate([silence(1), speech_of(SENTENCE)]))
    [final] = finals(output)
    assert (final.segment, final.text) == (0, "w1 w2 w3")
    assert partials(output)[0].text.startswith("w1")
    assert all(message.segment == 0 for message in partials(output))
    kinds = [type(message) for message in output if not isinstance(message, Partial | Settled)]
    assert kinds == [SpeechStarted, SpeechStopped, Final, Done]


def test_times_are_those_of_the_speech() -> None:
    output = run_session(np.concatenate([silence(2), speech_of(SENTENCE)]))
    [start] = [message for message in output if isinstance(message, SpeechStarted)]
    [stop] = [message for message in output if isinstance(message, SpeechStopped)]
    [final] = finals(output)
    assert start.at == pytest.approx(2.0, abs=0.05)
    assert stop.at == pytest.approx(3.2, abs=0.05)
    assert final.start == pytest.approx(2.0 - PREFIX / SAMPLE_RATE, abs=0.05)
    assert final.end == pytest.approx(3.2 + TAIL / SAMPLE_RATE, abs=0.05)


def test_words_are_timed_from_the_beginning_of_the_session() -> None:
    [final] = finals(run_session(np.concatenate([silence(2), speech_of(SENTENCE)]), SessionOptions(words=True)))
    assert final.words is not None
    assert [(word.text, round(word.start, 1)) for word in final.words] == [("w1", 2.0), ("w2", 2.4), ("w3", 2.8)]


def test_a_pause_shorter_than_asked_for_ends_nothing() -> None:
    audio = speech_of([(1, 0.5, 0.8), (2, 0.5, 1.5)])
    assert len(finals(run_session(audio, SessionOptions(endpointing_s=0.5)))) == 2
    assert [final.text for final in finals(run_session(audio, SessionOptions(endpointing_s=1.0)))] == ["w1 w2"]


def test_the_stable_prefix_of_a_segment_only_grows() -> None:
    output = run_session(speech_of([(number, 0.3, 0.1) for number in range(1, 30)] + [(30, 0.3, 1.0)]))
    before = ""
    for partial in partials(output):
        assert partial.text.startswith(partial.stable)
        assert partial.stable.startswith(before)
        before = partial.stable
    assert before.startswith("w1 w2 w3")


def test_without_interim_results_only_finals_are_made() -> None:
    output = run_session(speech_of(SENTENCE), SessionOptions(interim_results=False))
    assert not partials(output)
    assert text(output) == "w1 w2 w3"


def test_silence_needs_no_model_and_is_settled_now_and_then() -> None:
    session = Session(SessionOptions())
    feed(session, silence(60))
    assert session.urgency(0.5) is None
    positions_s = [message.position / SAMPLE_RATE for message in session.take_output() if isinstance(message, Settled)]
    assert len(positions_s) >= 1
    assert positions_s[-1] > 55 - PREFIX / SAMPLE_RATE
    assert not session.is_speaking


def test_a_click_is_no_speech() -> None:
    click = np.concatenate([silence(1), np.full(FRAME // 4, 0.5, np.float32), silence(1)])
    assert not [message for message in run_session(click) if isinstance(message, SpeechStarted)]


def test_a_long_segment_is_cut_at_a_pause_and_loses_no_word() -> None:
    words = [(number, 0.4, 0.2) for number in range(1, 121)]  # 72 s in one breath
    output = run_session(speech_of([*words, (121, 0.4, 1.0)]))
    assert text(output) == " ".join(f"w{number}" for number in range(1, 122))
    assert len(finals(output)) >= 3
    assert all(final.end - final.start <= MAX_SEGMENT / SAMPLE_RATE + 0.1 for final in finals(output))


def test_no_task_is_longer_than_a_model_takes() -> None:
    session = Session(SessionOptions(endpointing_s=10))
    for _ in range(200):
        feed(session, speech_of([(5, 0.5, 0.1)]))
        if session.urgency(0.5) is not None:
            task = session.take_task()
            assert len(task.audio) <= MAX_TASK_S * SAMPLE_RATE
            session.complete(task, transcription_of(task))


def test_segments_are_numbered_without_a_hole_though_one_says_nothing() -> None:
    session = Session(SessionOptions(interim_results=False))
    feed(session, speech_of(SENTENCE))
    task = session.take_task()
    session.complete(task, Transcription(text=""))  # a cough
    feed(session, speech_of(SENTENCE))
    work(session)
    session.stop()
    output = session.take_output()
    assert [(final.segment, final.text) for final in finals(output)] == [(0, "w1 w2 w3")]
    [end] = [message for message in output if isinstance(message, Done)]
    assert end.segments == 1


def test_a_segment_that_was_shown_has_a_final_even_when_it_says_nothing() -> None:
    session = Session(SessionOptions())
    feed(session, speech_of([(1, 1.0, 0.0)]))
    work(session, only=1)
    assert partials(session.take_output())
    feed(session, silence(1))
    task = session.take_task()
    session.complete(task, Transcription(text=""))
    assert [(final.segment, final.text) for final in finals(session.take_output())] == [(0, "")]


def test_a_guess_is_the_final_when_the_silence_lasts() -> None:
    session = Session(SessionOptions(interim_results=False, endpointing_s=1.0))
    feed(session, speech_of([(1, 0.5, 0.4)]))
    assert session.urgency(0.5) == 2
    task = session.take_task()
    assert task.is_final
    session.complete(task, transcription_of(task))
    output = session.take_output()
    assert not finals(output)
    assert not partials(output)
    feed(session, silence(0.8))
    assert session.urgency(0.5) is None, "decoded twice"
    assert text(session.take_output()) == "w1"


def test_a_word_too_short_for_a_hypothesis_is_shown_when_the_silence_begins() -> None:
    session = Session(SessionOptions(endpointing_s=1.0))
    feed(session, speech_of([(1, 0.3, 0.25)]))
    assert session.urgency(2.0) == 2, "however busy the machine is, a guess is made when nobody waits"
    work(session, 2.0)
    [partial] = partials(session.take_output())
    assert partial.text == "w1"
    feed(session, silence(1.0))
    assert session.urgency(2.0) is None, "decoded twice"
    assert text(session.take_output()) == "w1"


def test_a_guess_that_speech_overtook_is_shown_and_nothing_of_it_is_lost() -> None:
    session = Session(SessionOptions(endpointing_s=1.0))
    feed(session, speech_of([(1, 0.3, 0.3)]))
    task = session.take_task()
    assert task.is_final
    feed(session, speech_of([(2, 0.5, 0.0)]))
    session.complete(task, transcription_of(task))
    [partial] = partials(session.take_output())
    assert (partial.text, partial.end) == ("w1", pytest.approx(0.3 + TAIL / SAMPLE_RATE, abs=0.05))
    assert session.urgency(0.4) == 1, "what was said since is shown next"
    feed(session, silence(1.2))
    work(session)
    assert text(session.take_output()) == "w1 w2"


def test_a_guess_that_hears_nothing_shows_nothing() -> None:
    session = Session(SessionOptions(endpointing_s=1.0))
    feed(session, speech_of([(1, 0.3, 0.3)]))
    session.complete(session.take_task(), Transcription(text=""))
    feed(session, silence(1.0))
    output = session.take_output()
    assert not partials(output)
    assert not finals(output)


def test_a_guess_is_forgotten_when_speech_goes_on() -> None:
    session = Session(SessionOptions(interim_results=False, endpointing_s=1.0))
    feed(session, speech_of([(1, 0.5, 0.4)]))
    work(session, only=2)
    feed(session, speech_of([(2, 0.5, 1.2)]))
    work(session)
    assert text(session.take_output()) == "w1 w2"


def test_a_guess_that_is_still_being_made_when_the_segment_ends_is_its_final() -> None:
    session = Session(SessionOptions(interim_results=False))
    feed(session, speech_of([(1, 0.5, 0.3)]))
    task = session.take_task()
    feed(session, silence(1))
    assert session.urgency(0.5) is None
    session.complete(task, transcription_of(task))
    assert text(session.take_output()) == "w1"


def test_flush_makes_final_what_was_heard() -> None:
    session = Session(SessionOptions())
    feed(session, speech_of([(1, 0.8, 0.0)]))
    session.flush()
    work(session)
    output = session.take_output()
    assert text(output) == "w1"
    assert session.settled == session.position
    feed(session, speech_of([(2, 0.8, 1.0)]))
    work(session)
    assert text(session.take_output()) == "w2"


def test_flush_in_silence_settles_all() -> None:
    session = Session(SessionOptions())
    feed(session, silence(2))
    session.flush()
    assert session.settled == session.position


def test_a_marker_comes_back_when_all_before_it_was_understood() -> None:
    session = Session(SessionOptions())
    session.mark("a")
    assert [message.id for message in session.take_output() if isinstance(message, Marker)] == ["a"]
    feed(session, speech_of([(1, 0.8, 0.0)]))
    session.mark("b")
    assert not [message for message in session.take_output() if isinstance(message, Marker)]
    work(session)
    assert [message.id for message in session.take_output() if isinstance(message, Marker)] == ["b"]


def test_stop_ends_with_done_after_the_last_final() -> None:
    session = Session(SessionOptions())
    feed(session, speech_of([(1, 0.8, 0.0)]))
    session.stop()
    assert not session.is_done
    work(session)
    output = session.take_output()
    assert isinstance(output[-1], Done)
    assert session.is_done
    assert text(output) == "w1"


def test_a_task_that_fails_twice_is_a_gap_and_nothing_else_is_lost() -> None:
    session = Session(SessionOptions(interim_results=False))
    feed(session, speech_of(SENTENCE))
    for _ in range(2):
        session.take_task()
        session.fail()
    feed(session, speech_of([(9, 0.5, 1.0)]))
    work(session)
    output = session.take_output()
    [gap] = gaps(output)
    assert (gap.reason, gap.start) == ("failed", 0.0)
    assert text(output) == "w9"


def test_when_the_model_is_far_behind_the_oldest_audio_is_a_gap() -> None:
    session = Session(SessionOptions(interim_results=False))
    for number in range(1, 200):
        feed(session, speech_of([(number, 0.5, 0.7)]))
    work(session)
    output = session.take_output()
    holes = gaps(output)
    assert holes
    assert {gap.reason for gap in holes} == {"overload"}
    numbers = [int(word[1:]) for word in text(output).split()]
    assert numbers == list(range(numbers[0], 200)), "what is not a gap is all there"
    assert len(holes) == numbers[0] - 1
    assert session.position - numbers[0] * 1.2 * SAMPLE_RATE <= MAX_WAITING + 2 * SAMPLE_RATE


def test_a_session_goes_on_from_where_it_was_settled() -> None:
    first = Session(SessionOptions(interim_results=False))
    audio = np.concatenate([speech_of(SENTENCE), speech_of([(7, 0.5, 0.1), (8, 0.5, 1.0)])])
    feed(first, audio[: int(2.5 * SAMPLE_RATE)])
    work(first)
    second = Session(SessionOptions(interim_results=False), settled=first.settled, segments=first.segments)
    feed(second, audio[first.settled :])
    work(second)
    assert text(first.take_output()) == "w1 w2 w3"
    output = second.take_output()
    assert [(final.segment, final.text) for final in finals(output)] == [(1, "w7 w8")]
    assert finals(output)[0].start >= first.settled / SAMPLE_RATE


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.tuples(st.integers(1, 999), st.floats(0.1, 0.8), st.sampled_from([0.1, 0.3, 0.6, 2.0])), max_size=40
    ),
    chunk=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 100), max_size=4),
)
def test_however_it_is_cut_every_word_is_final_once(
    words: list[tuple[int, float, float]], chunk: int, cuts: list[int]
) -> None:
    """Each cut is a process that dies: another goes on from what was settled, and is sent everything since."""
    audio = speech_of([(number, max(0.1, lasts_s), pause_s) for number, lasts_s, pause_s in words])
    session, output, number = Session(SessionOptions()), [], 0
    deaths = sorted(len(audio) * percent // 100 // FRAME * FRAME for percent in cuts)
    at = 0
    while at < len(audio):
        step = min(chunk * FRAME, len(audio) - at)
        if deaths and at >= deaths[0]:
            deaths.pop(0)
            output += session.take_output()
            session = Session(SessionOptions(), settled=session.settled, segments=session.segments)
            at = session.settled
            continue
        feed(session, audio[at : at + step])
        at += step // FRAME * FRAME or step
        number += 1
        if number % 3:
            work(session)
    session.stop()
    work(session)
    output += session.take_output()
    spoken_words = [f"w{number}" for number, _, _ in words]
    assert text(output).split() == spoken_words
    segments = [final.segment for final in finals(output)]
    assert segments == list(range(len(segments)))
    positions = [message.position for message in output if isinstance(message, Settled)]
    assert positions == sorted(positions)
    assert not [message for message in output if isinstance(message, Ack | Gap)]
