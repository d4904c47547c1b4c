"""Finals that are joined read as prose, and nothing is changed that is not certain."""

import pytest

from audio.messages import Final
from audio.model.transcriber import Word
from audio.prose import GrowingProse, as_prose, seam


def final(
    text: str, start: float = 0.0, end: float = 1.0, *, channel: int | None = None, language: str = "en"
) -> Final:
    words = [Word(word, start, end, 0.9) for word in text.split()]
    return Final(segment=0, text=text, start=start, end=end, confidence=1, language="en", words=words, channel=channel)


CUT, PAUSE = 0.0, 2.0
SEAMS = [
    # a small letter goes on with the sentence, whatever the pause
    ("We went home.", "and slept.", PAUSE, "We went home and slept."),
    ("He said...", "nothing at all.", PAUSE, "He said nothing at all."),
    ("Ask Mr.", "quilter.", PAUSE, "Ask Mr. quilter."),
    ("Really?", "he asked.", PAUSE, "Really? he asked."),
    # no sentence ends with such a word
    ("This is the.", "Best of all.", PAUSE, "This is the Best of all."),
    ("I came because.", "She was late.", PAUSE, "I came because she was late."),
    # a comma, or no mark where there was no pause
    ("When he came,", "The door was shut.", PAUSE, "When he came, the door was shut."),
    ("We saw the house", "Where he was born.", CUT, "We saw the house where he was born."),
    ("We drove to", "London.", CUT, "We drove to London."),
    # a cut before or after a word that joins
    ("The drops are as big.", "Of which we spoke.", CUT, "The drops are as big of which we spoke."),
    ("What we talked of.", "The rest is clear.", PAUSE, "What we talked of. The rest is clear."),
    # two sentences
    ("He left.", "The door closed.", CUT, "He left. The door closed."),
    ("He left.", "And so did she.", PAUSE, "He left. And so did she."),
    ("This was all he said", "The door closed.", PAUSE, "This was all he said. The door closed."),
    # answers and numbers are no sentences
    ("Four", "Five", PAUSE, "Four Five"),
    ("Yes.", "No.", PAUSE, "Yes. No."),
    ("My number is", "555", PAUSE, "My number is 555"),
]


@pytest.mark.parametrize(("before", "after", "pause_s", "text"), SEAMS)
def test_two_texts_meet_as_in_one(before: str, after: str, pause_s: float, text: str) -> None:
    assert " ".join(seam(before, after, pause_s, is_english=True)) == text


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("Guten Tag.", "und willkommen.", "Guten Tag und willkommen."),
        ("Das ist der.", "The Mann.", "Das ist der. The Mann."),
        ("你好。", "再见。", "你好。 再见。"),
    ],
)
def test_words_of_other_languages_stay_as_they_are(before: str, after: str, text: str) -> None:
    assert " ".join(seam(before, after, PAUSE, is_english=False)) == text


def test_words_are_changed_as_the_text_is_and_so_is_what_comes_piece_by_piece() -> None:
    finals = [
        final("It is of the.", 0, 28),
        final("", 28, 28.5),
        final("And so on...", 28.5, 30),
        final("we go.", 33, 34),
    ]
    prose = as_prose(finals)
    assert [one.text for one in prose] == ["It is of the", "", "and so on", "we go."]
    assert [[word.text for word in one.words or []] for one in prose] == [one.text.split() for one in prose]
    growing = GrowingProse()
    pieces = [*[growing.add(one) for one in finals if one.text], growing.end()]
    assert "".join(pieces) == growing.text == "It is of the and so on we go."
    assert as_prose(prose) == prose


def test_two_people_do_not_go_on_with_each_others_sentences() -> None:
    finals = [final("We went to the.", channel=0), final("and then?", 1, 2, channel=1)]
    assert as_prose(finals) == finals
    growing = GrowingProse()
    assert "".join([*map(growing.add, finals), growing.end()]) == "We went to the. and then?"


def test_nothing_is_nothing() -> None:
    assert as_prose([]) == []
    assert GrowingProse().end() == ""
