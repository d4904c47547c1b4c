"""Decides what there is to doubt about the language of an answer. Pure.

An English-only model makes English of everything, and is less sure of it where it was none. A model of many languages
says how probable the one is that it took the audio for.
"""

from typing import NamedTuple

import msgspec

from audio.model.transcriber import Transcription

LEAST_CERTAIN = 0.5
"""The probability that a detected language has at the least."""
LEAST_ENGLISH, SHORT_LEAST_ENGLISH = -0.72, -1.1
"""The mean log probability of a final of an English-only model below which it is probably not English, and that of one
with less than FEW_WORDS.

Of 24 finals of twelve languages, spoken by espeak-ng, 23 were below; of 68 of read English, noisy ones and telephones
among them, none was. A few words are less probable, also where they are right: "Ask not!" has -0.81.
"""
FEW_WORDS = 4


class Tongue(NamedTuple):
    """The language of one task."""

    language: str
    probability: float | None
    """How probable it is, 0 to 1; None where the model knows no other."""


ENGLISH = Tongue("en", None)
"""The language of all tasks of an English-only model."""


def doubted(answer: Transcription, log_probability: float, tongue: Tongue) -> Transcription:
    """Returns an answer with what there is to doubt about its language; `log_probability` is the mean of its tokens."""
    if not answer.text:
        return answer
    if tongue.probability is None:
        is_short = len(answer.text.split()) < FEW_WORDS
        is_unsure = log_probability < (SHORT_LEAST_ENGLISH if is_short else LEAST_ENGLISH)
        return msgspec.structs.replace(answer, unsure=True) if is_unsure else answer
    is_unsure = tongue.probability < LEAST_CERTAIN
    return msgspec.structs.replace(answer, unsure=is_unsure, language_probability=tongue.probability)
