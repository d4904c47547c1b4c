"""The language of a session is what most of its first five seconds were in."""

import numpy as np
import pytest

from audio.driver import SessionDriver
from audio.language_lock import LOCK_S, LanguageLock
from audio.messages import Final
from audio.model.desk import Desk
from audio.model.fake import FakeSpeechDetector, FakeTranscriber, speech_of
from audio.model.models import Models
from audio.model.transcriber import SAMPLE_RATE, Transcription, TranscriptionTask
from audio.options import Output, SessionOptions
from audio.session import Session
from tests.support.virtual_time import simulated


def final(language: str, seconds: float, text: str = "word") -> Final:
    return Final(segment=0, text=text, start=1.0, end=1.0 + seconds, confidence=1, language=language)


def heard(lock: LanguageLock, language: str, seconds: float, probability: float = 0.9) -> str | None:
    """Has a lock hear a final of so many seconds."""
    audio = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    answer = Transcription(text="word", language=language, language_probability=probability, unsure=probability < 0.5)
    return lock.hear(TranscriptionTask(audio=audio), answer) or lock.pass_on([final(language, seconds)])


def test_short_finals_settle_it_together() -> None:
    lock = LanguageLock()
    assert (lock.leading, heard(lock, "nl", 1.5)) == (None, None)
    assert (heard(lock, "de", 2.0), lock.leading) == (None, "de")
    assert heard(lock, "de", 1.6) == "de"


def test_what_was_doubtful_weighs_less() -> None:
    lock = LanguageLock()
    heard(lock, "th", 2.6, 0.4)
    assert heard(lock, "ar", 2.4, 0.9) == "ar"


def test_one_long_answer_is_enough_unless_it_is_doubtful() -> None:
    assert heard(LanguageLock(), "es", LOCK_S) == "es"
    lock, audio = LanguageLock(), np.zeros(int(6 * SAMPLE_RATE), np.float32)
    partial = TranscriptionTask(audio=audio, is_final=False)
    assert lock.hear(partial, Transcription(text="word", language="th", unsure=True)) is None
    assert lock.hear(partial, Transcription(text="", language="th")) is None
    assert lock.hear(partial, Transcription(text="word", language="ru")) == "ru"


def test_silence_and_gaps_say_nothing() -> None:
    lock = LanguageLock()
    assert lock.pass_on([final("de", 9.0, text="")]) is None
    assert lock.leading is None


class Polyglot(FakeTranscriber):
    """Hears the languages that it was told, one after the other."""

    def __init__(self, *heard: str) -> None:
        super().__init__(languages=("de", "en", "fr"))
        self.heard = list(heard)


@simulated
@pytest.mark.parametrize("asked", [None, "en"])
async def test_a_session_is_heard_in_its_language_from_then_on(asked: str | None) -> None:
    model = Polyglot()
    steps: list[Output] = []
    models = Models(model, Desk(model), FakeSpeechDetector(), name="fake")
    session = Session(SessionOptions(language=asked, interim_results=False))
    driver = SessionDriver(session, models, steps.extend)
    languages: list[str | None] = []
    for number, language in enumerate(["fr", "de", "de", "de", "fr"], 1):
        session.feed(*driver.ear.feed(speech_of([(number, 2.0, 1.0)])))
        while driver.urgency(0.5) is not None:
            task = driver.take_task()
            languages.append(task.language)
            driver.complete(task, Transcription(text=f"w{number}", language=task.language or language))
    finals = [step.language for step in steps if isinstance(step, Final)]
    if asked is None:
        assert finals == ["fr", "de", "de", "de", "de"], "the last one is taken for what the session is in"
        assert (session.language, languages[0], languages[-1]) == ("de", None, "de")
    else:
        assert finals == ["en"] * 5
    driver.close()


@simulated
async def test_a_session_is_greeted_with_what_is_known_of_its_language() -> None:
    for languages, asked, told in ((("en",), None, "en"), (("en", "de"), None, None), (("en", "de"), "de", "de")):
        model = FakeTranscriber(languages=languages)
        models = Models(model, Desk(model), FakeSpeechDetector(), name="fake")
        driver = SessionDriver(Session(SessionOptions(language=asked)), models, lambda output: None)
        ready = driver.ready("s", 0, "c")
        assert (ready.language, ready.model) == (told, "fake")
