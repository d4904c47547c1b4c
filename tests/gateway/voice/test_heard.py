"""The words that were heard of an answer end with the last one that was played whole."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.voice.heard import SpokenClause, chars_heard

FIRST, SECOND = "Good morning to you.", "It rains."
CLAUSES = [
    SpokenClause(number=1, start=0, end=20, at=0, samples=16_000, text=FIRST, written=FIRST),
    SpokenClause(number=2, start=21, end=30, at=16_000, samples=7000, text=SECOND, written=SECOND),
]
TEXT = f"{FIRST} {SECOND}"


def heard(played: int) -> str:
    return TEXT[: chars_heard(CLAUSES, played)]


def test_nothing_is_heard_before_the_first_word_is_over() -> None:
    assert heard(0) == heard(3999) == ""
    assert heard(4000) == "Good"


def test_a_words_share_of_the_sound_is_that_of_its_letters() -> None:
    assert heard(10_999) == "Good"
    assert heard(11_000) == "Good morning"
    assert heard(13_000) == "Good morning to"


def test_a_clause_that_was_played_is_heard_whole_and_the_next_not_at_all() -> None:
    assert heard(16_000) == FIRST
    assert heard(17_999) == FIRST
    assert heard(18_000) == f"{FIRST} It"
    assert heard(99_000) == TEXT


def test_marks_alone_are_no_word_that_could_divide_by_nothing() -> None:
    clause = SpokenClause(number=1, start=5, end=8, at=0, samples=100, text="-", written="---")
    assert chars_heard([clause], 50) in (5, 8)
    assert chars_heard([clause], 100) == 8


@settings(deadline=None)
@given(st.lists(st.integers(0, 30_000), min_size=2))
def test_what_is_heard_never_falls_and_ends_between_words(places: list[int]) -> None:
    ends = [chars_heard(CLAUSES, played) for played in sorted(places)]
    assert ends == sorted(ends)
    assert all(end in (0, len(TEXT)) or TEXT[end] == " " for end in ends)
