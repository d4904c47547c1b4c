"""An answer in a language that was probably not spoken says so."""

import pytest

from audio.model.tongues import ENGLISH, LEAST_CERTAIN, LEAST_ENGLISH, SHORT_LEAST_ENGLISH, Tongue, doubted
from audio.model.transcriber import Transcription

SENTENCE, FEW = "thank you so much for watching", "ask not"


@pytest.mark.parametrize(
    ("text", "log_probability", "is_unsure"),
    [
        (SENTENCE, LEAST_ENGLISH - 0.01, True),
        (SENTENCE, LEAST_ENGLISH, False),
        (FEW, LEAST_ENGLISH - 0.1, False),
        (FEW, SHORT_LEAST_ENGLISH - 0.01, True),
        ("one two three", SHORT_LEAST_ENGLISH, False),
        ("one two three four", LEAST_ENGLISH - 0.01, True),
        ("", -9.0, False),
    ],
)
def test_english_that_the_model_is_not_sure_of_is_doubted(text: str, log_probability: float, is_unsure: bool) -> None:
    answer = doubted(Transcription(text=text), log_probability, ENGLISH)
    assert (answer.text, answer.unsure, answer.language_probability) == (text, is_unsure, 1.0)


def test_a_language_that_was_hardly_detected_is_doubted_however_sure_the_words_are() -> None:
    thai = doubted(Transcription(text=FEW, language="th"), -0.1, Tongue("th", LEAST_CERTAIN - 0.01))
    assert (thai.unsure, thai.language_probability) == (True, LEAST_CERTAIN - 0.01)
    german = doubted(Transcription(text=FEW, language="de"), -2.0, Tongue("de", LEAST_CERTAIN))
    assert (german.unsure, german.language_probability) == (False, LEAST_CERTAIN)
    named = doubted(Transcription(text=FEW, language="de"), -2.0, Tongue("de", 1.0))
    assert not named.unsure
