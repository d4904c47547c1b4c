"""Finals come in the form that was asked for, with the times of their words."""

from typing import Any

import pytest

from audio.messages import Final, Partial
from audio.model.transcriber import Word
from audio.text_forms import TextForms, masked


def final(text: str, language: str = "en") -> Final:
    """Returns a final whose words last a second each."""
    words = [Word(word, float(at), at + 1.0, 0.9) for at, word in enumerate(text.split())]
    return Final(segment=0, text=text, start=0, end=len(words), confidence=1, language=language, words=words)


def formed(text: str, language: str = "en", **forms: Any) -> str:
    return TextForms(**forms).final(final(text, language)).text


@pytest.mark.parametrize(
    ("heard", "digits"),
    [
        ("I have twenty-three cats and one dog.", "I have 23 cats and one dog."),
        ("My PIN is one two three four.", "My PIN is 1234."),
        ("Two hundred thousand, or three.", "200000, or 3."),
        ("One of them is number nine.", "One of them is number 9."),
        ("A hundred people, oh dear", "A hundred people, oh dear"),
        ("It costs forty two", "It costs 42"),
        ("Room 12", "Room 12"),
    ],
)
def test_numbers_become_digits(heard: str, digits: str) -> None:
    assert formed(heard, numerals="digits") == digits
    assert formed(heard) == heard


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        ("I have 23 cats, 1,200 dogs.", "I have twenty three cats, one thousand two hundred dogs."),
        ("In 1984, 007 and 2024.", "In nineteen eighty four, zero zero seven and two thousand twenty four."),
        ("$5, 3.5 and 10%", "$5, 3.5 and 10%"),
        ("9999999999", "nine " * 9 + "nine"),
        ("0 100", "zero one hundred"),
    ],
)
def test_digits_become_words(heard: str, words: str) -> None:
    assert formed(heard, numerals="words") == words


def test_another_language_keeps_its_numbers_as_they_were_heard() -> None:
    assert formed("siete 23", "es", numerals="words") == "siete 23"


def test_words_keep_their_times() -> None:
    merged = TextForms(numerals="digits").final(final("is twenty three now"))
    assert [(word.text, word.start, word.end) for word in merged.words or []] == [
        ("is", 0, 1),
        ("23", 1, 3),
        ("now", 3, 4),
    ]
    split = TextForms(numerals="words").final(final("is 23 now"))
    assert [(word.text, word.start, word.end) for word in split.words or []][1:3] == [
        ("twenty", 1, 1.5),
        ("three", 1.5, 2),
    ]


SECRETS = [
    ("My card is 4111 1111 1111 1111, thanks.", "My card is [card], thanks."),
    ("four one one one, one one one one, one one one two okay", "[card] okay"),
    ("Call 555-1234 now", "Call [phone] now"),
    ("Mail john dot doe at example dot com, please", "Mail [email], please"),
    ("Write to a.b@c.org.", "Write to [email]."),
    ("It is jo at example.com", "It is [email]"),
    ("I have 3 cats, meet me at noon", "I have 3 cats, meet me at noon"),
]


@pytest.mark.parametrize(("heard", "told"), SECRETS)
def test_secrets_are_left_out(heard: str, told: str) -> None:
    changed = TextForms(redact=("card", "phone", "email")).final(final(heard))
    assert changed.text == told
    assert " ".join(word.text for word in changed.words or []) == told


def test_each_kind_is_left_out_where_it_was_asked_for() -> None:
    heard = "I have three cats, 12 dogs, call 555 1234 or jo@example.com"
    assert formed(heard, redact=("number",)) == "I have [number] cats, [number] dogs, call [number] or jo@example.com"
    assert formed(heard, redact=("email",)) == heard.replace("jo@example.com", "[email]")
    assert formed(heard, redact=("card",)) == heard.replace("555 1234", "[card]")
    assert formed("drei Katzen, 12 Hunde", "de", redact=("number",)) == "drei Katzen, [number] Hunde"


def test_profanity_keeps_its_first_letter() -> None:
    assert formed("Well, fuck! You bastards.", masks_profanity=True) == "Well, f***! You b*******."
    assert [masked(word) for word in ("Shit,", "Scunthorpe", "class", "")] == ["S***,", "Scunthorpe", "class", ""]
    partial = Partial(segment=0, text="oh shit no", stable="oh shit", start=0, end=1)
    shown = TextForms(masks_profanity=True).partial(partial)
    assert (shown.text, shown.stable) == ("oh s*** no", "oh s***")
    assert TextForms(numerals="digits").partial(partial) is partial
