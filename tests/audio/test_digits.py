"""English numbers are written in digits as people write them, and stay words where they are none."""

import pytest

from audio.digits import in_digits
from audio.model.transcriber import Word


def written(text: str) -> str:
    words = [Word(word, float(at), at + 1.0, 0.9) for at, word in enumerate(text.split())]
    return " ".join(word.text for word in in_digits(words))


YEARS = [
    ("It was nineteen eighty four.", "It was 1984."),
    ("nineteen eighty-four, and twenty twenty six", "1984, and 2026"),
    ("in nineteen oh five", "in 1905"),
    ("eighteen hundred and twelve", "1812"),
    ("ten sixty six", "1066"),
    ("two thousand and five", "2005"),
    ("two thousand seventeen", "2017"),
    ("the nineteen eighties, or the eighties", "the 1980s, or the eighties"),
    ("fourteen fifteen sixteen", "14 15 16"),
]
TIMES = [
    ("meet me at three thirty", "meet me at 3:30"),
    ("ten fifteen", "10:15"),
    ("at five oh five pm", "at 5:05 pm"),
    ("eleven forty two a.m.", "11:42 a.m."),
    ("six o'clock", "6 o'clock"),
    ("four twenty", "4 20"),
    ("at seven pm", "at 7 pm"),
]
ORDINALS = [
    ("the twenty first century", "the 21st century"),
    ("her thirty-second birthday", "her 32nd birthday"),
    ("a twenty second delay", "a 20 second delay"),
    ("the twenty second of May", "the 22nd of May"),
    ("May third, nineteen sixty", "May 3rd, 1960"),
    ("July fourth seventeen seventy six", "July 4th 1776"),
    ("the fourth of July", "the 4th of July"),
    ("first of all, the third one", "first of all, the third one"),
    ("the eleventh hour", "the 11th hour"),
    ("the one hundred and first", "the 101st"),
    ("two thirds, one half and three quarters", "two thirds, one half and three quarters"),
    ("one third of it", "one third of it"),
]
MONEY = [
    ("five dollars", "$5"),
    ("twenty three dollars and fifty cents,", "$23.50,"),
    ("nine dollars ninety nine cents", "$9.99"),
    ("two point five million dollars", "$2.5 million"),
    ("one hundred euros", "€100"),
    ("ten pounds", "10 pounds"),
    ("a million dollars", "a million dollars"),
    ("five dollars and two friends", "$5 and 2 friends"),
]
CODES = [
    ("double five one two", "5512"),
    ("Room double five.", "Room 55."),
    ("a double bed", "a double bed"),
    ("oh seven seven double one triple two", "07711222"),
    ("five five five, one two three four.", "555, 1234."),
    ("one two or three", "1 2 or 3"),
    ("five-five-five", "555"),
    ("eight hundred five five five one two one two", "800 5551212"),
    ("two twenty-one twenty-twos", "2 21 twenty-twos"),
]
PLAIN = [
    ("three point one four", "3.14"),
    ("zero point five percent", "0.5 percent"),
    ("the point five people made", "the point 5 people made"),
    ("two hundred and fifty", "250"),
    ("a hundred and twenty people", "120 people"),
    ("a hundred people and a thousand dogs", "a hundred people and a thousand dogs"),
    ("one million two hundred thousand", "1200000"),
    ("salt and pepper and two hundred and more", "salt and pepper and 200 and more"),
    ("one of them, no one else, oh dear", "one of them, no one else, oh dear"),
    ("thirteen, fourteen", "13, 14"),
    ("a two-year plan for twenty-three-year-olds", "a two-year plan for twenty-three-year-olds"),
    ("", ""),
]


@pytest.mark.parametrize(("heard", "digits"), [*YEARS, *TIMES, *ORDINALS, *MONEY, *CODES, *PLAIN])
def test_numbers_are_written_as_people_write_them(heard: str, digits: str) -> None:
    assert written(heard) == digits


def test_a_number_has_the_times_of_its_words() -> None:
    words = [Word(text, float(at), at + 1.0, 0.9) for at, text in enumerate(["in", "nineteen", "eighty", "four", "."])]
    assert [(word.text, word.start, word.end) for word in in_digits(words)][:2] == [("in", 0, 1), ("1984", 1, 4)]
