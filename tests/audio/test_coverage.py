"""Every second of speech is a word or a gap: words are laid beside the speech, and what is lost is decoded again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.coverage import (
    FRAME_S,
    LOST_S,
    UNINTELLIGIBLE,
    HeardSegment,
    Stretch,
    merged,
    stretched,
    trimmed,
    uncovered,
)
from audio.messages import Final, Gap
from audio.model.fake import speech_of, transcription_of
from audio.model.transcriber import SAMPLE_RATE, Transcription, TranscriptionTask, Word
from audio.model.vad import FRAME
from audio.options import SessionOptions
from audio.session import Session
from tests.audio.listening import feed, finals, gaps


def word(text: str, start: float, end: float) -> Word:
    return Word(text, start, end, 0.9)


def heard(*words: Word, confidence: float = 0.9) -> Transcription:
    return Transcription(text=" ".join(one.text for one in words), words=list(words), confidence=confidence)


def speech(*spans: tuple[float, float], of: float) -> list[bool]:
    frames = np.arange(round(of / FRAME_S)) * FRAME_S
    return [any(start <= at < end for start, end in spans) for at in frames]


def test_words_are_as_long_as_the_speech_in_them() -> None:
    [first, second] = trimmed([word("one", 0.0, 0.9), word("two", 0.95, 2.0)], speech((0.48, 0.9), (1.2, 1.8), of=2))
    assert (first.start, first.end) == pytest.approx((0.48, 0.9), abs=FRAME_S)
    assert (second.start, second.end) == pytest.approx((1.2, 1.8), abs=FRAME_S)


def test_a_word_that_the_detector_does_not_hear_keeps_its_time() -> None:
    assert trimmed([word("hm", 0.2, 0.4)], speech(of=1)) == [word("hm", 0.2, 0.4)]


def test_a_little_speech_beside_a_word_belongs_to_it_and_more_is_lost() -> None:
    said = speech((0, 1.3), of=3)
    assert stretched([word("one", 0.0, 0.95)], said)[0].end == pytest.approx(1.3, abs=FRAME_S)
    assert stretched([word("one", 0.0, 0.7)], said)[0].end == 0.7
    assert uncovered([word("one", 0.0, 0.7)], said) == [Stretch(22 * FRAME_S, 41 * FRAME_S)]


@pytest.mark.parametrize(("pause_s", "count"), [(0.3, 1), (0.9, 2)])
def test_lost_speech_is_decoded_together_over_short_pauses(pause_s: float, count: int) -> None:
    spans = [Stretch(1.0, 2.0), Stretch(2.0 + pause_s, 4.0)]
    assert len(merged(spans, [])) == count


def test_a_word_in_between_keeps_lost_speech_apart() -> None:
    assert len(merged([Stretch(1.0, 2.0), Stretch(2.3, 4.0)], [word("one", 2.0, 2.3)])) == 2


def test_a_word_of_many_seconds_covers_only_as_much_as_a_word_takes() -> None:
    [lost] = uncovered([word("so", 0.0, 9.0)], speech((0, 9), of=10))
    assert lost.start < 2.0
    assert lost.end == pytest.approx(9, abs=FRAME_S)


def test_what_was_lost_is_decoded_again_and_put_where_it_belongs() -> None:
    hearing = HeardSegment(speech((0, 7), of=8))
    hearing.take(heard(word("one", 0.0, 1.0), word("three", 6.0, 7.0)))
    again = hearing.again
    assert again is not None
    assert again == pytest.approx((0.8, 6.2), abs=2 * FRAME_S)
    hearing.take(heard(*(word(f"two{at}", at + 0.3, at + 1.3) for at in range(5))))
    assert hearing.again is None
    assert hearing.answer.text == "one two0 two1 two2 two3 two4 three"
    assert [one.start for one in hearing.answer.words] == sorted(one.start for one in hearing.answer.words)
    assert not hearing.lost


def test_words_that_a_second_decode_repeats_from_beside_it_are_there_once() -> None:
    hearing = HeardSegment(speech((0, 6), of=6))
    hearing.take(heard(word("one", 0.0, 1.0), word("four", 5.0, 6.0)))
    hearing.take(heard(word("One,", 0.2, 0.6), word("two", 0.6, 2.2), word("three", 2.2, 4.0), word("four.", 4.0, 4.4)))
    assert hearing.answer.text == "one two three four"


def test_what_says_nothing_twice_is_a_gap() -> None:
    hearing = HeardSegment(speech((0, 8), of=8))
    hearing.take(heard(word("one", 0.0, 1.0)))
    hearing.take(heard())
    [lost] = hearing.lost
    assert lost.reason == UNINTELLIGIBLE
    assert (lost.start, lost.end) == pytest.approx((1.0, 8.0), abs=2 * FRAME_S)


def test_doubtful_words_of_a_second_decode_are_not_believed() -> None:
    hearing = HeardSegment(speech((0, 8), of=8))
    hearing.take(heard(word("one", 0.0, 1.0)))
    hearing.take(heard(word("bye", 1.0, 6.0), confidence=0.2))
    assert hearing.answer.text == "one"
    assert len(hearing.lost) == 1


def test_the_same_audio_is_not_decoded_twice() -> None:
    hearing = HeardSegment(speech((0.2, 3), of=3))
    hearing.take(heard())
    assert hearing.again is None
    assert len(hearing.lost) == 1


def test_a_cough_is_neither_a_word_nor_a_gap() -> None:
    hearing = HeardSegment(speech((0.5, 0.7), of=2))
    hearing.take(heard())
    assert hearing.again is None
    assert not hearing.lost


def test_a_model_without_times_is_believed() -> None:
    hearing = HeardSegment(speech((0, 8), of=8))
    hearing.take(Transcription(text="one", confidence=0.9))
    assert (hearing.answer.text, hearing.again, hearing.lost) == ("one", None, [])


def deaf(task: TranscriptionTask, words: set[int]) -> Transcription:
    """Returns what a model hears of a task that knows no other words than these."""
    answer = transcription_of(task)
    known = [one for one in answer.words if int(one.text[1:]) in words]
    return heard(*known, confidence=1.0)


def run(audio: np.ndarray, words: set[int], options: SessionOptions) -> list[object]:
    session = Session(options)
    output: list[object] = []
    for at in range(0, len(audio), 5 * FRAME):
        feed(session, audio[at : at + 5 * FRAME])
        while session.urgency(0.5) is not None:
            task = session.take_task()
            session.complete(task, deaf(task, words))
        output += session.take_output()
    session.stop()
    while session.urgency(0.5) is not None:
        task = session.take_task()
        session.complete(task, deaf(task, words))
    return output + session.take_output()


lengths = st.sampled_from([0.1, 0.25, 0.4, 0.7, 1.5, 4.0])


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(st.tuples(st.integers(1, 9), lengths, st.sampled_from([0.0, 0.1, 0.4, 1.0])), min_size=1, max_size=8),
    known=st.sets(st.integers(1, 9)),
    live=st.booleans(),
)
def test_all_speech_is_a_word_or_a_gap(said: list[tuple[int, float, float]], known: set[int], live: bool) -> None:
    audio = np.concatenate([np.zeros(SAMPLE_RATE, np.float32), speech_of(said), np.zeros(SAMPLE_RATE, np.float32)])
    output = run(audio, known, SessionOptions(words=True, interim_results=live, endpointing_s=0.5 if live else 2.0))
    spans = [(one.start, one.end) for final in finals(output) for one in final.words or []]
    spans += [(gap.start, gap.end) for gap in gaps(output)]
    alone = 0
    for at in range(len(audio) // FRAME):
        is_speech = np.abs(audio[at * FRAME : (at + 1) * FRAME]).max() > 0
        middle = (at + 0.5) * FRAME_S
        alone = alone + 1 if is_speech and not any(start <= middle <= end for start, end in spans) else 0
        assert alone * FRAME_S <= LOST_S + 2 * FRAME_S, f"{at * FRAME_S:.2f} s is lost: {spans}"
    ends = [message.end for message in output if isinstance(message, Final | Gap)]
    assert all(end <= len(audio) / SAMPLE_RATE + FRAME_S for end in ends)


def test_what_dies_away_after_a_word_is_missed_by_nobody() -> None:
    hearing = HeardSegment(speech((0, 3), of=3), certain=speech((0, 1.2), of=3))
    hearing.take(Transcription(text="go", words=[Word("go", 0.1, 1.1, 0.9)], confidence=0.9))
    while hearing.again is not None:
        hearing.take(Transcription(text=""))
    assert hearing.lost == []
