"""A session tells the times of its words, in partials and finals, and which answer is about which speech."""

import numpy as np
import pytest

from audio.messages import SpeechStarted
from audio.model.fake import speech_of, transcription_of
from audio.model.transcriber import SAMPLE_RATE
from audio.options import MAX_WAITING, SessionOptions
from audio.session import Session
from tests.audio.listening import feed, finals, gaps, partials, run_session, text, work

SENTENCE = [(1, 0.3, 0.1), (2, 0.3, 0.1), (3, 0.4, 1.0)]


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def test_partials_have_times_and_confidence_with_words_and_only_then() -> None:
    audio = np.concatenate([silence(1), speech_of([(number, 0.4, 0.1) for number in range(1, 6)]), silence(1)])
    for partial in partials(run_session(audio, SessionOptions(words=True))):
        assert partial.words is not None
        assert [word.text for word in partial.words] == partial.text.split()
        assert partial.words[0].start == pytest.approx(1.0, abs=0.05)
        assert partial.confidence == 1.0
    assert all(partial.words is None is partial.confidence for partial in partials(run_session(audio)))


def test_the_first_word_begins_where_speech_was_said_to() -> None:
    audio = np.concatenate([silence(2), speech_of(SENTENCE)])
    output = run_session(audio, SessionOptions(words=True))
    [started] = [message for message in output if isinstance(message, SpeechStarted)]
    [final] = finals(output)
    assert final.words is not None
    assert final.words[0].start == pytest.approx(started.at, abs=0.05)


def test_an_answer_about_speech_that_was_given_up_meanwhile_says_nothing_of_the_next() -> None:
    session = Session(SessionOptions(interim_results=False))
    feed(session, speech_of([(1, 0.4, 1.0)]))
    task = session.take_task()
    feed(session, np.concatenate([silence(MAX_WAITING / SAMPLE_RATE), speech_of([(2, 0.4, 1.0)])]))
    assert [gap.reason for gap in gaps(session.take_output())] == ["overload"]
    session.complete(task, transcription_of(task))
    work(session)
    assert text(session.take_output()) == "w2"
