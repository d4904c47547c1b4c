"""English words for numbers, and what they are worth. Pure."""

import re
from collections.abc import Sequence

from audio.model.transcriber import Word

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_SMALL = [*_UNITS.split(), "eighteen", "nineteen"]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
TENS = {word: value * 10 for value, word in enumerate(_TENS) if word}
VALUES = {
    **{word: value for value, word in enumerate(_SMALL)},
    **TENS,
    "oh": 0,
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
MULTIPLES = {"double": 2, "triple": 3}
"""Words that say how often the next digit comes: `double five`."""
MAX_SPOKEN = 999_999_999
"""The largest number that is put into words as one; a larger one is read digit by digit."""
_EDGE = re.compile(r"^[^\w]+|[^\w]+$")
_ENDING = re.compile(r"[.,;:?!]*$")
_WRITTEN = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)([.,;:?!]*)")


def parts_of(text: str) -> list[str]:
    """Returns the words of one, in lower case and without punctuation: `Twenty-three,` has two."""
    return _EDGE.sub("", text).lower().split("-")


def is_number_word(text: str) -> bool:
    """Tells whether a text is nothing but a number in words."""
    return all(part in VALUES or part in SCALES for part in parts_of(text))


def digits_of(text: str) -> int:
    """Returns how many digits a text has, or has when its words for numbers are written."""
    written = sum(letter.isdecimal() for letter in text)
    return written + sum(len(str(VALUES.get(part, 0))) for part in parts_of(text) if part in VALUES or part in SCALES)


def merged(words: Sequence[Word], text: str) -> Word:
    """Returns several words as one with another text, and the punctuation behind the last of them."""
    ending = _ENDING.search(words[-1].text)
    probability = min(word.probability for word in words)
    return Word(text + (ending.group() if ending else ""), words[0].start, words[-1].end, probability)


def spoken(word: Word) -> list[Word]:
    """Returns a whole number in digits as words, which share its time; any other word as it is."""
    match = _WRITTEN.fullmatch(word.text)
    if match is None:
        return [word]
    digits = match.group(1).replace(",", "")
    is_read = (len(digits) > 1 and digits[0] == "0") or int(digits) > MAX_SPOKEN
    texts = [_SMALL[int(digit)] for digit in digits] if is_read else words_of(int(digits))
    texts[-1] += match.group(2)
    length_s = (word.end - word.start) / len(texts)
    return [
        Word(text, round(word.start + at * length_s, 3), round(word.start + (at + 1) * length_s, 3), word.probability)
        for at, text in enumerate(texts)
    ]


def words_of(number: int) -> list[str]:
    """Returns a number up to MAX_SPOKEN in words; 1984 is a year."""
    if 1100 <= number < 2000 and number % 100 >= 10:
        return [*words_of(number // 100), *words_of(number % 100)]
    for name, scale in reversed(SCALES.items()):
        if number >= scale:
            rest = number % scale
            return [*words_of(number // scale), name, *(words_of(rest) if rest else [])]
    if number < len(_SMALL):
        return [_SMALL[number]]
    return [_TENS[number // 10], *([_SMALL[number % 10]] if number % 10 else [])]
