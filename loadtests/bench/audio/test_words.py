"""Words are compared, aligned, and timed since they were shown."""

import pytest

from loadtests.bench.audio.words import (
    TimedWord,
    WordTally,
    align,
    delays,
    edits,
    for_good,
    normalise,
    quantile,
    settle_times,
    timed_words,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" ... ", []),
        ("Ask not, what", ["ask", "not", "what"]),
        ("Mr. Quilter's a mrs", ["mister", "quilters", "a", "mrs"]),
        ("don't don’t", ["dont", "dont"]),  # noqa: RUF001 - as it is printed
        ("twenty-first century - now", ["twenty", "first", "century", "now"]),
        ("a colored, DISCOLORED rose", ["a", "coloured", "discoloured", "rose"]),
        ("in 1776", ["in", "1776"]),
        ("Überraschung café", ["überraschung", "café"]),
    ],
)
def test_words_are_compared_without_case_and_punctuation(text: str, words: list[str]) -> None:
    assert normalise(text) == words


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ("", "", 0),
        ("a b c", "a b c", 0),
        ("a b c", "", 3),
        ("", "a b", 2),
        ("a b c", "a x c", 1),
        ("a b c", "a c", 1),
        ("a b c", "a b x c", 1),
        ("a b c d", "b c d e", 2),
        ("a b", "c d e", 3),
    ],
)
def test_edits_are_the_fewest(one: str, other: str, count: int) -> None:
    assert edits(one.split(), other.split()) == edits(other.split(), one.split()) == count


@pytest.mark.parametrize(
    ("one", "other", "pairs"),
    [
        ("", "a", []),
        ("a b c", "a b c", [(0, 0), (1, 1), (2, 2)]),
        ("a b c", "a x c", [(0, 0), (2, 2)]),
        ("a b c", "b c", [(1, 0), (2, 1)]),
        ("the cat the dog", "the dog", [(2, 0), (3, 1)]),
        ("b c", "a b c", [(0, 1), (1, 2)]),
        ("x y", "a b", []),
    ],
)
def test_the_same_words_are_paired_around_wrong_ones(one: str, other: str, pairs: list[tuple[int, int]]) -> None:
    assert align(one.split(), other.split()) == pairs


@pytest.mark.parametrize(
    ("one", "other", "pairs"),
    [
        ("", "a b", []),
        ("the size of the", "the size of the drops as the size of the drop", [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ("b", "a b c", [(0, 1)]),
        ("a x", "a b c a", [(0, 0)]),
        ("a b c", "a b", [(0, 0), (1, 1)]),
    ],
)
def test_what_was_said_so_far_is_the_beginning_of_the_whole(one: str, other: str, pairs: list[tuple[int, int]]) -> None:
    assert align(one.split(), other.split(), so_far=True) == pairs


def test_a_tally_sums_errors_and_words_over_texts() -> None:
    tally = WordTally()
    assert tally.rate is None
    tally.count("Ask not what", "ask not that")
    tally.count("a", "a b c")
    assert (tally.errors, tally.words, tally.rate) == (3, 4, 0.75)


def test_a_written_word_may_be_two_or_none() -> None:
    assert timed_words([("Twenty-first", 1.0), ("—", 2.0), ("rose.", 3.0)]) == [
        ("twenty", 1),
        ("first", 1),
        ("rose", 3),
    ]


FINAL = TimedWord("Ask not what your country.", 9.0)


@pytest.mark.parametrize(
    ("stable", "times"),
    [
        ([], [9, 9, 9, 9, 9]),
        ([("Ask not", 1.0), ("Ask not what", 2.0)], [1, 1, 2, 9, 9]),
        ([("", 1.0), ("Ask", 2.0), ("Ask", 3.0)], [2, 9, 9, 9, 9]),
        ([("ask nod", 1.0), ("ask nod what your", 2.0)], [1, 9, 2, 2, 9]),  # the final corrects one
        ([("Well ask not", 1.0)], [1, 1, 9, 9, 9]),
        ([("Ask what your country", 1.0)], [1, 9, 1, 1, 1]),
        ([("Ask your", 1.0)], [1, 9, 9, 9, 9]),
    ],
)
def test_a_word_is_settled_when_a_stable_prefix_has_it_or_by_the_final(
    stable: list[tuple[str, float]], times: list[float]
) -> None:
    result = settle_times([TimedWord(*one) for one in stable], FINAL)
    assert [word for word, _ in result] == normalise(FINAL.word)
    assert [at_s for _, at_s in result] == times


@pytest.mark.parametrize(
    ("texts", "result"),
    [
        ([], []),
        ([("a b", 1.0)], [("a", 1), ("b", 1)]),
        ([("a", 1.0), ("a b", 2.0)], [("a", 1), ("b", 2)]),
        ([("a x", 1.0), ("a b", 2.0), ("a b c", 3.0)], [("a", 1), ("b", 2), ("c", 3)]),
        ([("a b", 1.0), ("b", 2.0), ("a b", 3.0)], [("a", 3), ("b", 1)]),  # flickered: what counts is the last time
        ([("a b", 1.0), ("", 2.0)], []),
        ([("b c", 1.0), ("a b c", 2.0)], [("a", 2), ("b", 1), ("c", 1)]),
    ],
)
def test_a_word_is_there_for_good_since_it_was_shown_without_a_break(
    texts: list[tuple[str, float]], result: list[tuple[str, float]]
) -> None:
    assert for_good([TimedWord(*text) for text in texts]) == result


def test_delays_are_those_of_the_words_that_were_heard_right() -> None:
    reference = [TimedWord("ask", 1.0), TimedWord("not", 1.5), TimedWord("what", 2.0), TimedWord("what", 3.0)]
    transcript = [
        TimedWord("ask", 1.25),
        TimedWord("nod", 2.0),
        TimedWord("what", 2.5),
        TimedWord("what", 3.75),
        TimedWord("else", 4.0),
    ]
    assert delays(transcript, reference) == [(0.25, 1.0), (0.5, 2.0), (0.75, 3.0)]
    assert delays(transcript, reference, missing_s=10.0) == [(0.25, 1.0), (8.5, 1.5), (0.5, 2.0), (0.75, 3.0)]
    assert delays([], reference) == delays(transcript, []) == []


@pytest.mark.parametrize(
    ("values", "share", "result"),
    [([], 0.5, None), ([3.0], 0.9, 3), ([3.0, 1.0, 2.0], 0.5, 2), (list(range(10)), 0.9, 9), ([1.0, 2.0], 1.0, 2)],
)
def test_quantiles_are_values_that_occurred(values: list[float], share: float, result: float | None) -> None:
    assert quantile(values, share) == result
