"""Agreement decides which words become stable, and when."""

import pytest

from audio.agreement import SURE, Agreement
from audio.model.transcriber import Word, key_of


def stable_after(*hypotheses: str) -> tuple[str, str]:
    agreement = Agreement()
    for hypothesis in hypotheses:
        agreement.add(hypothesis.split())
    return " ".join(agreement.stable), " ".join(agreement.tail)


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
    assert stable_after(*hypotheses) == (stable, tail)


def test_stable_words_never_change() -> None:
    agreement = Agreement()
    before: list[str] = []
    for hypothesis in ("a b", "a b c", "x b c d", "a b c d e", "", "q", "a b c d e f", "a b c d e f g"):
        agreement.add(hypothesis.split())
        assert agreement.stable[: len(before)] == before
        before = list(agreement.stable)
    assert before == ["a", "b", "c", "d", "e", "f"]


def test_text_is_stable_words_then_the_others() -> None:
    agreement = Agreement()
    agreement.add(["Ask", "what"])
    agreement.add(["Ask", "what", "you"])
    assert agreement.text == "Ask what you"


def test_case_and_punctuation_do_not_count() -> None:
    assert key_of("Country,") == key_of("country") == "country"
    assert key_of("don't") == "don't"
    assert key_of("--") == ""


def timed(text: str) -> list[Word]:
    return [Word(word, 0.5 * at, 0.5 * at + 0.4, 0.9) for at, word in enumerate(text.split())]


def test_in_doubt_a_third_hypothesis_is_needed() -> None:
    agreement = Agreement()
    for count, confidence in enumerate((SURE, SURE - 0.1, SURE), 1):
        agreement.add(["one", "two", "three"][:count], confidence)
    assert agreement.stable == ["one"]
    agreement.add(["one", "two", "three", "four"], SURE)
    assert agreement.stable == ["one", "two", "three"]


def test_times_go_with_their_words() -> None:
    agreement = Agreement()
    for text in ("one two", "one two three"):
        agreement.add(text.split(), 1.0, timed(text))
    assert [word.text for word in agreement.stable_times] == agreement.stable == ["one", "two"]
    assert [word.text for word in agreement.tail_times] == agreement.tail == ["three"]
