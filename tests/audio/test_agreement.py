"""Agreement decides which words become stable, and when."""

import pytest

from audio.agreement import ENOUGH, ENOUGH_S, UNKNOWN, Agreement, end_of_stable
from audio.model.transcriber import Word, key_of

STEP_S = ENOUGH_S / (ENOUGH - 1)
"""Seconds between two hypotheses of which ENOUGH are enough."""


def heard(text: str, *probabilities: float) -> list[Word]:
    """Returns words, the last ones of which have these probabilities."""
    words = text.split()
    known = [UNKNOWN] * (len(words) - len(probabilities)) + list(probabilities)
    return [Word(word, 0.5 * at, 0.5 * at + 0.4, one) for at, (word, one) in enumerate(zip(words, known, strict=True))]


def text_of(words: list[Word]) -> str:
    return " ".join(word.text for word in words)


def stable_after(*hypotheses: list[Word], is_cut: bool = False) -> str:
    agreement = Agreement()
    for number, hypothesis in enumerate(hypotheses):
        agreement.add(hypothesis, number * STEP_S, is_cut=is_cut)
    return text_of(agreement.stable)


@pytest.mark.parametrize(
    ("hypotheses", "stable", "tail"),
    [
        (["and so"], "", "and so"),
        (["and so", "and so my"], "and so", "my"),
        (["And so,", "and so my"], "and so", "my"),
        (["and so my", "and sew my"], "and", "sew my"),
        (["and so", "and so my", "and so my fellow"], "and so my", "fellow"),
        (["one two", "one two", "won two three"], "one two", "three"),
        (["one two", "one two three", "one"], "one two", ""),
        (["", "one"], "", "one"),
        (["i am going", "i am going to", "i'm going to go"], "i am going to", "go"),
        (["gonna go now", "gonna go now", "going to go now then", "going to go now then"], "gonna go now then", ""),
    ],
)
def test_words_are_stable_when_two_hypotheses_agree(hypotheses: list[str], stable: str, tail: str) -> None:
    agreement = Agreement()
    for number, hypothesis in enumerate(hypotheses):
        agreement.add(heard(hypothesis), number * STEP_S, is_cut=False)
    assert (text_of(agreement.stable), text_of(agreement.tail)) == (stable, tail)
    assert text_of(agreement.words) == f"{stable} {tail}".strip()


@pytest.mark.parametrize(
    ("hypotheses", "stable"),
    [
        ([heard("the first", 1.0, 1.0)], "the first"),
        ([heard("the first", 0.9, 1.0)], ""),
        ([heard("the first", 1.0, 0.7), heard("the first", 1.0, 0.7)], "the"),
        ([heard("the first", 1.0, 0.7), heard("the first", 1.0, 0.9)], "the first"),
        ([heard("the first", 0.3, 1.0), heard("the first", 0.3, 1.0)], ""),
        ([heard("the first", 0.3, 0.3)] * 3, "the first"),
        ([heard("may justly", 1.0, 0.5), heard("may just", 1.0, 0.5), heard("may justly", 1.0, 0.5)], "may"),
    ],
)
def test_the_more_a_word_is_doubted_the_more_hypotheses_it_needs(hypotheses: list[list[Word]], stable: str) -> None:
    assert stable_after(*hypotheses) == stable


def test_hypotheses_of_one_moment_are_no_better_than_one() -> None:
    doubted = heard("the first", 0.3, 0.3)
    agreement = Agreement()
    for number in range(9):
        agreement.add(doubted, number * ENOUGH_S / 8, is_cut=False)
        assert bool(agreement.stable) is (number == 8), number


def test_few_hypotheses_are_not_enough_however_far_apart() -> None:
    agreement = Agreement()
    for number in range(ENOUGH):
        agreement.add(heard("the first", 0.3, 0.3), 10.0 * number, is_cut=False)
        assert bool(agreement.stable) is (number == ENOUGH - 1)


def test_a_word_that_the_audio_cuts_is_in_doubt() -> None:
    assert stable_after(heard("their production", 1.0, 1.0), is_cut=True) == "their"
    assert stable_after(heard("their production", 1.0, 1.0), is_cut=False) == "their production"


def test_who_contradicts_a_stable_word_needs_one_more_witness() -> None:
    said, other = heard("go to the bank", 1.0, 1.0, 1.0, 1.0), heard("go to a bank now please", *[1.0] * 6)
    agreement = Agreement()
    agreement.add(said[:3], 0.5, is_cut=False)
    agreement.add(other, 1.0, is_cut=False)
    assert text_of(agreement.stable) == "go to the"
    agreement.add(other, 1.5, is_cut=False)
    assert text_of(agreement.stable) == "go to the bank now please"


def test_stable_words_never_change() -> None:
    agreement = Agreement()
    before: list[Word] = []
    for at_s, hypothesis in enumerate(
        ("a b", "a b c", "x b c d", "a b c d e", "", "q", "a b c d e f", "a b c d e f g")
    ):
        agreement.add(heard(hypothesis), at_s, is_cut=False)
        assert agreement.stable[: len(before)] == before
        before = list(agreement.stable)
    assert text_of(before) == "a b c d e f"


@pytest.mark.parametrize(
    ("stable", "heard_words", "at", "agrees"),
    [
        ("", "a b", 0, True),
        ("a b", "a b c", 2, True),
        ("a b c", "a b", 2, False),
        ("i am going", "i'm going to", 2, True),
        ("him with the", "him with thousands of", 3, False),
        ("a b c d e f g h i j k l", "x b c d e f g h i j k l m", 12, True),
        ("a b c d e f g h i j k l", "z a b c d e f g h i j k l m", 13, True),
        ("no no no", "no no no no", 3, True),
    ],
)
def test_the_end_of_the_stable_words_is_found(stable: str, heard_words: str, at: int, agrees: bool) -> None:
    assert end_of_stable(stable.split(), heard_words.split()) == (at, agrees)


def test_case_and_punctuation_do_not_count() -> None:
    assert key_of("Country,") == key_of("country") == "country"
    assert key_of("don't") == "don't"
    assert key_of("--") == ""
