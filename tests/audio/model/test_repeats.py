"""A word that was said many times has its times; what a decoder adds to that has none."""

import pytest

from audio.model.repeats import are_said, said_of
from audio.model.transcriber import Word


def spoken(*lengths_s: float, texts: tuple[str, ...] = ("no",)) -> list[Word]:
    words: list[Word] = []
    at_s = 0.0
    for at, length_s in enumerate(lengths_s):
        words.append(Word(texts[at % len(texts)], at_s, at_s + length_s, 0.9))
        at_s += length_s
    return words


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (spoken(*[0.4] * 12), 12),
        (spoken(*[0.4] * 7, 0.02, 0.3, 0.0, 0.0), 8),
        (spoken(0.4, 0.4, 0.4, 0.0, 0.0, 0.0), 3),
        (spoken(0.4, 0.4, 0.4, 0.0, 0.0, 0.0, texts=("so", "it", "is")), None),  # a phrase that was doubled
        (spoken(*[0.1] * 60), None),  # faster than anybody speaks
        ([], None),
    ],
)
def test_what_was_said_took_its_time(words: list[Word], count: int | None) -> None:
    assert are_said(words) == (count is not None)
    if count is not None:
        assert len(said_of(words)) == count


def test_a_word_that_comes_once_is_said_even_in_no_time() -> None:
    words = [*spoken(0.4, 0.4, 0.0), Word("sir", 0.8, 0.8, 0.9)]
    assert [word.text for word in said_of(words)] == ["no", "no", "sir"]
