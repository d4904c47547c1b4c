"""Words of an alignment are mended: a doubled end is dropped, real repeats stay, and each word has a length."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.model.transcriber import Word
from audio.model.word_times import SHORTEST_S, joined, with_lengths, without_echo


def words(*spans: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 0.9) for text, start, end in spans]


def test_a_last_phrase_that_was_said_once_is_there_once() -> None:
    said = words(
        ("Express,", 35.2, 35.8), ("please.", 35.8, 36.2), ("Express,", 36.26, 36.26), ("please.", 36.26, 36.26)
    )
    assert without_echo(said) == said[:2]


def test_a_word_said_twelve_times_is_there_twelve_times() -> None:
    said = words(*((f"One{'.' * (at % 2)}", at * 0.4, at * 0.4 + 0.3) for at in range(12)))
    assert without_echo(said) == said


def test_only_the_last_phrase_can_be_an_echo() -> None:
    said = words(("no", 0.0, 0.3), ("no", 0.3, 0.3), ("thanks", 0.3, 0.8))
    assert without_echo(said) == said


def test_an_echo_of_three_words_goes_whole() -> None:
    said = words(*((text, 0.3 * at, 0.3 * at + 0.3) for at, text in enumerate(["call", "me", "back"])))
    assert without_echo([*said, *words(("call", 0.9, 0.9), ("me", 0.9, 0.92), ("back", 0.92, 0.92))]) == said


spans = st.lists(st.tuples(st.floats(0, 5), st.floats(0, 1)), max_size=12)


@given(spans)
def test_every_word_has_a_length_and_none_begins_before_the_one_before_it_ends(
    found: list[tuple[float, float]],
) -> None:
    starts = sorted(start for start, _ in found)
    mended = with_lengths(words(*(("a", at, at + length) for at, (_, length) in zip(starts, found, strict=True))), 7.0)
    assert all(word.end - word.start >= SHORTEST_S - 0.0015 for word in mended)
    assert all(one.end <= two.start + 0.0015 for one, two in pairwise(mended))
    assert all(word.end <= 7.0 for word in mended)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ((" black", " letter", ",", " i", ".e."), ["black", "letter,", "i.e."]),
        ((" 42", "-line", " Bible"), ["42-line", "Bible"]),
        ((" it", "'s", " $", "3", ".50", "."), ["it's", "$3.50."]),
    ],
)
def test_words_end_where_a_space_is(pieces: tuple[str, ...], words: list[str]) -> None:
    aligned = [Word(piece, float(at), at + 1.0, 0.9 - at / 10) for at, piece in enumerate(pieces)]
    result = joined(aligned, has_spaces=True)
    assert [word.text for word in result] == words


def test_a_word_of_several_pieces_is_as_long_as_all_and_as_sure_as_the_least() -> None:
    pieces = [Word(" 42", 1.0, 1.5, 0.9), Word("-line", 1.5, 2.0, 0.4), Word(",", 2.0, 2.4, 0.1)]
    assert joined(pieces, has_spaces=True) == [Word("42-line,", 1.0, 2.0, 0.4)]


def test_words_of_a_language_without_spaces_stand_alone() -> None:
    aligned = [Word(piece, float(at), at + 1.0, 0.9) for at, piece in enumerate("\u4f60\u597d\u3002")]
    assert [word.text for word in joined(aligned, has_spaces=False)] == ["\u4f60", "\u597d\u3002"]
