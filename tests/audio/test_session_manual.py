"""A client may say itself where a turn ends, and a dialect is told of turns."""

import numpy as np
import pytest

from audio.messages import Final, Gap, Partial, SpeechStarted, SpeechStopped, TurnOver
from audio.model.fake import speech_of, transcription_of
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.options import MAX_SEGMENT, MAX_WAITING, Output, SessionOptions, Settled
from audio.segment import Turn
from audio.session import Session
from tests.audio.listening import feed, finals, gaps, partials, text, work

MANUAL = SessionOptions(endpointing_s=None, turns=True)
TURNS = SessionOptions(turns=True)
SENTENCE = [(1, 0.32, 0.128), (2, 0.32, 0.128), (3, 0.416, 0.96)]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def speak(session: Session, audio: np.ndarray, *, step_s: float = 0.5) -> list[Output]:
    """Speaks in pieces of 160 ms, with a model that is never busy, and returns the output."""
    output: list[Output] = []
    for at in range(0, len(audio), 5 * FRAME):
        feed(session, audio[at : at + 5 * FRAME])
        work(session, step_s)
        output += session.take_output()
    return output


def commit(session: Session) -> list[Output]:
    session.commit()
    work(session)
    return session.take_output()


def kinds(output: list[Output]) -> list[type]:
    return [type(message) for message in output if not isinstance(message, Partial | Settled)]


def over(output: list[Output]) -> list[int]:
    return [message.turn for message in output if isinstance(message, TurnOver)]


def test_nothing_but_a_commit_ends_a_turn() -> None:
    session = Session(MANUAL)
    output = speak(session, np.concatenate([speech_of(SENTENCE), silence(5), speech_of([(4, 0.32, 0.96)])]))
    assert not finals(output)
    assert [message.turn for message in output if isinstance(message, SpeechStarted)] == [0]
    output = commit(session)
    assert kinds(output) == [SpeechStopped, Final, TurnOver]
    assert text(output) == "w1 w2 w3 w4"
    assert over(output) == [0]


def test_what_was_said_is_shown_before_the_commit() -> None:
    output = speak(Session(MANUAL), speech_of(SENTENCE))
    assert partials(output)[-1].stable.startswith("w1 w2")
    assert {partial.turn for partial in partials(output)} == {0}


def test_a_turn_begins_where_the_last_was_committed_speech_or_not() -> None:
    session = Session(MANUAL)
    speak(session, speech_of([(1, 0.32, 0.96)]))
    commit(session)
    begins = session.position
    speak(session, np.concatenate([silence(2), speech_of([(2, 0.32, 0.32)])]))
    [final] = finals(commit(session))
    assert (final.turn, final.start, final.end) == (
        begins,
        begins / SAMPLE_RATE,
        pytest.approx(session.position / SAMPLE_RATE, abs=0.001),
    )
    assert final.text == "w2"


def test_all_of_the_buffer_is_heard_though_it_sounds_like_no_speech() -> None:
    """The fake model hears what the voice detector was told to miss."""
    session = Session(MANUAL)
    audio = speech_of(SENTENCE)
    frames = len(audio) // FRAME
    session.feed(audio[: frames * FRAME], [0.0] * frames)
    assert session.urgency(0.5) is None
    assert text(commit(session)) == "w1 w2 w3"


def test_a_turn_that_says_nothing_is_over_too() -> None:
    session = Session(MANUAL)
    speak(session, silence(1))
    output = commit(session)
    assert kinds(output) == [SpeechStopped, TurnOver]
    assert session.settled == session.position


def test_silence_without_a_commit_asks_nothing_of_the_model_and_is_not_speech() -> None:
    session = Session(MANUAL)
    feed(session, silence(20))
    assert session.urgency(0.5) is None
    assert not session.is_speaking
    feed(session, speech_of([(1, 0.64, 0)]))
    assert session.is_speaking


def test_a_long_turn_is_cut_and_stays_one() -> None:
    session = Session(MANUAL)
    audio = speech_of([(number, 0.32, 0.128) for number in range(1, 160)])
    output = speak(session, audio) + commit(session)
    pieces = finals(output)
    assert len(pieces) > 2
    assert {piece.turn for piece in pieces} == {0}
    assert text(output) == " ".join(f"w{number}" for number in range(1, 160))
    assert over(output) == [0]
    assert isinstance(output[-2], TurnOver)
    assert kinds(output).count(SpeechStopped) == kinds(output).count(SpeechStarted) == 1


def test_long_silence_without_a_commit_is_cut_too_and_stays_one_turn() -> None:
    session = Session(MANUAL)
    output = speak(session, np.concatenate([silence(60), speech_of([(1, 0.32, 0.32)])])) + commit(session)
    assert (text(output), over(output)) == ("w1", [0])
    assert kinds(output).count(SpeechStopped) == 1


def test_a_speaker_without_a_pause_is_one_turn_of_several_segments() -> None:
    session = Session(TURNS)
    output = speak(session, speech_of([*((number, 0.32, 0.128) for number in range(1, 100)), (100, 0.32, 1.6)]))
    assert len(finals(output)) > 1
    assert len({final.turn for final in finals(output)}) == 1
    assert kinds(output).count(SpeechStarted) == kinds(output).count(SpeechStopped) == len(over(output)) == 1


def test_turns_with_endpointing_say_where_they_are() -> None:
    session = Session(SessionOptions(turns=True, prefix_s=0.32))
    output = speak(session, np.concatenate([silence(2.048), speech_of(SENTENCE), speech_of(SENTENCE)]))
    starts = [message for message in output if isinstance(message, SpeechStarted)]
    stops = [message for message in output if isinstance(message, SpeechStopped)]
    assert starts[0].turn == pytest.approx((2.048 - 0.32) * SAMPLE_RATE, abs=FRAME)
    assert [message.turn for message in starts] == [message.turn for message in stops] == over(output)
    assert stops[0].end == finals(output)[0].end


def test_noise_that_was_taken_for_speech_is_a_turn_that_is_over() -> None:
    session = Session(TURNS)
    session.feed(silence(1.024), [1.0] * 32)
    session.feed(silence(1.024), [0.0] * 32)
    task = session.take_task()
    session.complete(task, transcription_of(task))
    output = session.take_output()
    assert kinds(output)[-1] is TurnOver
    assert not finals(output)


def test_without_turns_nothing_is_told_of_them() -> None:
    session = Session(SessionOptions())
    output = speak(session, speech_of(SENTENCE))
    assert not over(output)
    assert all(getattr(message, "turn", None) is None for message in output)


def test_what_was_cleared_is_never_heard_of_again() -> None:
    session = Session(MANUAL)
    speak(session, speech_of([(1, 0.64, 0.32)]))
    session.clear()
    assert session.uncommitted == 0
    output = speak(session, speech_of([(2, 0.64, 0.32)])) + commit(session)
    assert text(output) == "w2"
    assert session.settled == session.position


def test_an_answer_about_audio_that_was_cleared_meanwhile_is_dropped() -> None:
    session = Session(TURNS)
    feed(session, speech_of([(1, 0.64, 0.256)]))
    task = session.take_task()
    session.clear()
    feed(session, speech_of([(2, 0.64, 0.96)]))
    assert session.urgency(0.5) is None, "one task at a time"
    session.complete(task, transcription_of(task))
    work(session)
    assert text(session.take_output()) == "w2"


def test_clearing_leaves_what_is_committed() -> None:
    session = Session(MANUAL)
    feed(session, speech_of([(1, 0.64, 0.32)]))
    session.commit()
    feed(session, speech_of([(2, 0.64, 0.32)]))
    session.clear()
    feed(session, speech_of([(3, 0.64, 0.32)]))
    session.commit()
    work(session)
    output = session.take_output()
    assert [final.text for final in finals(output)] == ["w1", "w3"]
    assert len(over(output)) == 2


def test_clearing_a_long_turn_forgets_what_was_cut_from_it() -> None:
    session = Session(MANUAL)
    feed(session, speech_of([(number, 0.32, 0.128) for number in range(1, 100)]))
    session.take_task()
    session.clear()
    assert not session.has_pending
    assert session.turns == []


def test_the_number_of_a_segment_that_was_seen_and_cleared_is_not_used_again() -> None:
    session = Session(MANUAL)
    before = partials(speak(session, speech_of([(1, 0.64, 0.32)])))
    session.clear()
    [final] = finals(speak(session, speech_of([(2, 0.64, 0.32)])) + commit(session))
    assert final.segment > before[-1].segment


def test_a_commit_without_speech_while_the_ends_are_found_is_a_turn_of_its_own() -> None:
    session = Session(TURNS)
    speak(session, np.concatenate([speech_of(SENTENCE), silence(1)]))
    assert kinds(commit(session)) == [SpeechStarted, SpeechStopped, TurnOver]
    assert session.uncommitted == 0


def test_the_mode_may_change_between_turns() -> None:
    session = Session(TURNS)
    speak(session, np.concatenate([speech_of(SENTENCE), silence(1)]))
    session.reconfigure(MANUAL)
    assert session.uncommitted == 0
    speak(session, speech_of([(7, 0.32, 2.0)]))
    session.reconfigure(TURNS)
    output = speak(session, silence(1))
    assert text(output) == "w7", "what was open ends by itself now"


def test_a_new_language_takes_the_place_of_the_one_that_was_found() -> None:
    session = Session(TURNS, language="de")
    session.reconfigure(SessionOptions(turns=True, language="en"))
    assert session.language == "en"
    session.reconfigure(SessionOptions(turns=True, language="en", prompt="hello"))
    assert session.language == "en"


def test_a_session_knows_its_unsettled_turns() -> None:
    session = Session(MANUAL)
    feed(session, speech_of([(1, 0.64, 0.32)]))
    session.commit()
    end = session.position
    feed(session, speech_of([(2, 0.64, 0.32)]))
    assert session.turns == [Turn(0, end), Turn(end, None)]
    work(session)
    assert session.turns == [Turn(end, None)]


def test_a_turn_whose_audio_nobody_could_hear_in_time_is_a_gap_and_over() -> None:
    session = Session(MANUAL)
    for _ in range(MAX_WAITING // MAX_SEGMENT + 2):
        feed(session, speech_of([(1, 20, 0.32)]))
        session.commit()
    output = session.take_output()
    assert gaps(output)
    assert [gap.turn for gap in gaps(output)] == over(output)
    assert isinstance(gaps(output)[0], Gap)


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_speech_begins_above_the_threshold_that_was_asked_for(threshold: float) -> None:
    for probability, begins in [(threshold - 0.02, False), (threshold + 0.02, True)]:
        session = Session(SessionOptions(threshold=threshold))
        session.feed(silence(1.024), [probability] * 32)
        assert session.is_open is begins
