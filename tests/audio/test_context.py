"""A short answer is heard together with what was said just before it; that is neither repeated nor kept for long."""

import numpy as np
import pytest

from audio.context import FINALS, PAUSE, REACH, SHORT, Context, EarlierFinals
from audio.model.fake import speech_of, transcription_of
from audio.model.transcriber import SAMPLE_RATE, TranscriptionTask
from audio.options import SessionOptions
from audio.session import Session
from audio.tape import Tape
from tests.audio.listening import feed, text, work

S = SAMPLE_RATE


def earlier(*spans: tuple[float, float]) -> EarlierFinals:
    finals = EarlierFinals()
    for at, (start, end) in enumerate(spans, 1):
        finals.add(int(start * S), int(end * S), f"w{at}")
    return finals


@pytest.mark.parametrize(
    ("spans", "start", "end", "expected"),
    [
        ([], 5.0, 6.0, (5.0, "")),
        ([(1, 2), (3, 4)], 5.0, 6.0, (1.0, "w1 w2")),
        ([(1, 2), (3, 4)], 5.0, 5.0 + 1.01 * SHORT / S, (5.0, "")),
        ([(1, 2), (6, 7)], 8.0, 8.0 + 2, (1.0, "w1 w2")),
        ([(0.5, 2), (6, 7)], 8.0, 8.0 + 2, (6.0, "w2")),
        ([(1, 2)], 2.0 + PAUSE / S + 0.1, 7.0, (6.1, "")),
    ],
)
def test_as_much_is_known_as_fits_and_belongs_together(
    spans: list[tuple[float, float]], start: float, end: float, expected: tuple[float, str]
) -> None:
    context = earlier(*spans).before(int(start * S), int(end * S))
    assert (context.start / S, context.text) == (pytest.approx(expected[0], abs=0.01), expected[1])


def test_silence_is_no_context_and_old_finals_are_forgotten() -> None:
    finals = EarlierFinals()
    finals.add(0, S, "")
    assert finals.before(2 * S, 3 * S) == Context(2 * S, "")
    for at in range(3 * FINALS):
        finals.add(at * S // 10, (at + 1) * S // 10, "w")
    now = 3 * FINALS * S // 10
    assert finals.before(now, now).text.split() == ["w"] * FINALS


def test_the_tape_keeps_what_is_context_and_no_more() -> None:
    tape = Tape()
    for at in range(10):
        tape.append(np.full(100, at / 100, np.float32))
    tape.drop(500, 300)
    assert tape.first == 500
    assert np.rint(tape.read(300, 700)[::100] * 100).astype(int).tolist() == [3, 4, 5, 6]
    tape.drop(600, 600)
    assert len(tape.read(0, 1000)) == 400


def tasks_of(audio: np.ndarray) -> tuple[Session, list[TranscriptionTask]]:
    session, tasks = Session(SessionOptions(interim_results=False)), []
    for at in range(0, len(audio), 2560):
        feed(session, audio[at : at + 2560])
        while session.urgency(0.5) is not None:
            tasks.append(session.take_task())
            session.complete(tasks[-1], transcription_of(tasks[-1]))
    return session, tasks


def test_digits_are_heard_with_those_before_them_and_each_is_said_once() -> None:
    session, tasks = tasks_of(speech_of([(number, 0.4, 1.2) for number in range(1, 8)]))
    work(session)
    assert text(session.take_output()) == "w1 w2 w3 w4 w5 w6 w7"
    assert tasks[-1].known_text.endswith("w5 w6")
    known = tasks[-1].audio[: tasks[-1].known_samples]
    assert set(np.rint(known[known > 0] * 1000).astype(int)) == {int(word[1:]) for word in tasks[-1].known_text.split()}
    assert all(len(task.audio) <= REACH + S for task in tasks)


def test_after_a_long_silence_nothing_is_kept() -> None:
    session, _ = tasks_of(np.concatenate([speech_of([(1, 0.4, 1.0)]), np.zeros(2 * REACH, np.float32)]))
    assert len(session._tape.read(0, session.position)) < 2 * S  # pyright: ignore[reportPrivateUsage]
