"""An answer is cut into clauses where a reader would pause, the same ones however it comes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.speech.clauses import MAX_CLAUSE, MAX_WORD, Clause, ClauseCutter, Skipped, TextPiece


def cut(*parts: str) -> list[TextPiece]:
    cutter = ClauseCutter()
    return [*(piece for part in parts for piece in cutter.feed(part)), *cutter.flush()]


def clauses(text: str) -> list[str]:
    return [piece.text for piece in cut(text) if isinstance(piece, Clause)]


# Where it is cut


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This is one sentence. And this is one.", ["This is one sentence.", "And this is one."]),
        ("Is this one a question? It is, indeed!", ["Is this one a question?", "It is, indeed!"]),
        ("Yes. That is right, it is so.", ["Yes. That is right, it is so."]),
        ("Here is what there is: a cat and a dog.", ["Here is what there is:", "a cat and a dog."]),
        (
            "When the rain had stopped at last that day, they went out and looked.",
            ["When the rain had stopped at last that day,", "they went out and looked."],
        ),
        (
            "The first sentence is here. When the rain had stopped at last that day, they went out: all.",
            ["The first sentence is here.", "When the rain had stopped at last that day, they went out: all."],
        ),
        ("He said “it is over now.” Then he left.", ["He said “it is over now.”", "Then he left."]),
        ("It is **very important.** Do it now.", ["It is **very important.**", "Do it now."]),
        ("A line without an end\n\nAnother paragraph", ["A line without an end", "Another paragraph"]),
        ("# Title\nA text that is below it.", ["# Title\nA text that is below it."]),
        ("- one\n- two\n- three", ["- one", "- two", "- three"]),
        ("A text that goes on\nin the next line here.", ["A text that goes on\nin the next line here."]),
        ("It is done now... maybe it is not.", ["It is done now... maybe it is not."]),
        (
            "会议在九点半开始请大家准时到会场参加活动。请不要迟到。",
            ["会议在九点半开始请大家准时到会场参加活动。", "请不要迟到。"],
        ),
    ],
)
def test_a_clause_ends_where_a_reader_would_pause(text: str, expected: list[str]) -> None:
    assert clauses(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The price of it is 1,234.50 dollars today",
        "It was written by Dr. Smith and Mrs. Jones",
        "It was written by J. K. Rowling in a café",
        "Use the small tools, e.g. Tom's or Ann's",
        "It was so in the U.S. Senate back then, too",
        "The address is https://a.example/b.c?d=e.f! ok",
        "There are some things: 1. Something and more"[23:],
        "Call the function `a. B(c). D` in your code",
        "Read [the first. The second](https://a.b/c) now",
        "At 10:30 we will have version 3.11 of it",
    ],
)
def test_nothing_is_cut_inside_a_number_a_name_an_address_or_code(text: str) -> None:
    assert clauses(text) == [text]


def test_a_hurried_first_clause_ends_between_two_words() -> None:
    cutter = ClauseCutter()
    text = "The quick brown fox and the slow white dog went into the forest to"
    assert cutter.feed(text) == []
    (piece,) = cutter.hurry()
    assert piece == Clause(0, 63, text[:63])
    assert cutter.feed(" find a very good place for the night and then") == []
    assert cutter.hurry() == []


def test_a_hurried_clause_that_is_short_comes_as_soon_as_it_is_long_enough() -> None:
    cutter = ClauseCutter()
    assert cutter.feed("The quick brown fox") == []
    assert cutter.hurry() == []
    (piece,) = cutter.feed(" and the slow white dog went into the forest to find a place")
    assert isinstance(piece, Clause)
    assert 60 <= len(piece.text) <= 70


def test_a_long_sentence_is_cut_at_a_pause_else_between_words() -> None:
    with_pause = "First of all. " + "word " * 30 + "here, " + "word " * 40 + "end."
    assert clauses(with_pause)[0].endswith("here,")
    without = clauses("word " * 200)
    assert all(len(clause) <= MAX_CLAUSE for clause in without)
    assert " ".join(without) == ("word " * 200).strip()


def test_an_open_mark_holds_nothing_up_for_ever() -> None:
    for mark in ("`", "[", "[[`"):
        parts = clauses(mark + "word " * 200)
        assert all(len(part) <= MAX_CLAUSE + 10 for part in parts)


def test_a_word_without_an_end_is_cut_too() -> None:
    assert [len(clause) for clause in clauses("x" * 2500 + " end")] == [MAX_WORD, MAX_WORD, 500, 3]


# What is skipped


def test_code_is_skipped_with_its_fences() -> None:
    text = "Here is some code:\n\n```python\nx = 1. Y = 2.\n\n| a |\n```\n\nThat is all there is."
    first, code, last = cut(text)
    end = "That is all there is."
    assert (first, last) == (Clause(0, 18, "Here is some code:"), Clause(text.index(end), len(text), end))
    assert isinstance(code, Skipped)
    assert (text[code.start : code.end], code.reason) == ("```python\nx = 1. Y = 2.\n\n| a |\n```", "code")


def test_a_table_is_skipped() -> None:
    text = "A table:\n| a | b |\n|---|---|\n| 1 | 2 |\nAfter it comes this text."
    pieces = cut(text)
    assert [type(piece) for piece in pieces] == [Clause, Skipped, Clause]
    assert text[pieces[1].start : pieces[1].end] == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_code_that_never_ends_is_skipped_to_the_end() -> None:
    assert [type(piece) for piece in cut("Look at this:\n~~~\nx = 1\ny")] == [Clause, Skipped]


def test_ticks_in_a_line_are_no_fence() -> None:
    assert clauses("Here it is\n``a`` is a code") == ["Here it is\n``a`` is a code"]


# However it comes

TEXTS = st.lists(
    st.sampled_from(
        [
            *(
                "word ",
                "Dr. ",
                "a. ",
                "End. ",
                "What? ",
                "1,000.5 ",
                "one, ",
                "two: ",
                "\n",
                "\n\n",
                "- ",
                "`",
                "```\n",
            ),
            *(
                "```python\n",
                "~~~\n",
                "| a | b |\n",
                "[a](http://b.c)",
                "[",
                "] ",
                "**b.** ",
                "中文。",
                "e.g. ",
                "   ",
                "# ",
            ),
            "a-very-long-word-that-goes-on-and-on ",
        ]
    ),
    max_size=60,
).map("".join)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_the_pieces_are_the_same_however_the_text_comes(text: str, size: int) -> None:
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    assert cut(*parts) == cut(text)


@settings(deadline=None)
@given(TEXTS | st.text(max_size=200))
def test_every_piece_is_where_it_says_and_nothing_but_space_is_left_out(text: str) -> None:
    pieces = cut(text)
    end = 0
    for piece in pieces:
        assert text[end : piece.start].strip() == ""
        assert end <= piece.start <= piece.end <= len(text)
        if isinstance(piece, Clause):
            assert piece.text == text[piece.start : piece.end] == piece.text.strip() != ""
        end = piece.end
    assert text[end:].strip() == ""


@pytest.mark.parametrize("unit", ["word ", "a", " ", "`", "[", "\n", "```\n", "| ", "中", "。", ". "])
def test_a_text_that_comes_in_letters_takes_time_that_grows_with_it(unit: str) -> None:
    """Ten times the text takes about ten times as long, not a hundred times."""

    def seconds(length: int) -> float:
        cutter, text = ClauseCutter(), (unit * length)[:length]
        began = time.process_time()
        for letter in text:
            cutter.feed(letter)
        return time.process_time() - began

    seconds(1000)
    assert seconds(20_000) < 40 * max(min(seconds(2000) for _ in range(3)), 0.002)
