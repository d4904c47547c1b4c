"""English words for numbers, and their digits. Pure."""

import re
from collections.abc import Sequence

from audio.model.transcriber import Word

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
_SMALL = [*_UNITS.split(), "eighteen", "nineteen"]
_TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {
    **{word: value for value, word in enumerate(_SMALL)},
    **{word: value * 10 for value, word in enumerate(_TENS) if word},
    "oh": 0,
}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
MAX_SPOKEN = 999_999_999
"""The largest number that is put into words as one; a larger one is read digit by digit."""
_EDGE = re.compile(r"^[^\w]+|[^\w]+$")
_WRITTEN = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)([.,;:?!]*)")


def _parts(text: str) -> list[str]:
    """Returns the words of one, in lower case and without punctuation: `Twenty-three,` has two."""
    return _EDGE.sub("", text).lower().split("-")


def is_number_word(text: str) -> bool:
    """Tells whether a text is nothing but a number in words."""
    return all(part in VALUES or part in SCALES for part in _parts(text))


def digits_of(text: str) -> int:
    """Returns how many digits a text has, or has when its words for numbers are written."""
    written = sum(letter.isdecimal() for letter in text)
    return written + sum(len(str(VALUES.get(part, 0))) for part in _parts(text) if part in VALUES or part in SCALES)


def values_of(run: Sequence[Word]) -> list[Word]:
    """Returns words for numbers, all of a run, as digits: `twenty three` is 23, `one two` is 1 2.

    A `one`, an `oh` and a scale that stand alone are words of the language, and stay.
    """
    if len(run) == 1 and (_parts(run[0].text) in (["one"], ["oh"]) or _parts(run[0].text)[0] in SCALES):
        return list(run)
    result: list[Word] = []
    group: list[Word] = []
    for word in run:
        if group and not _continues(group, word):
            result.append(_written(group))
            group = []
        group.append(word)
    return [*result, _written(group)]


def _continues(group: Sequence[Word], word: Word) -> bool:
    """Tells whether a word belongs to the number that a group is: a unit after tens, a scale, what follows a scale."""
    if group[-1].text[-1:] in ",.;:?!":
        return False
    last, part = _parts(group[-1].text)[-1], _parts(word.text)[0]
    if part in SCALES:
        return True
    if last in SCALES:
        return VALUES.get(part, 0) > 0
    return VALUES[last] >= 20 and 0 < VALUES[part] < 10 and part != "oh"


def _written(group: Sequence[Word]) -> Word:
    total = current = 0
    for part in [part for word in group for part in _parts(word.text)]:
        if part in SCALES:
            scale = SCALES[part]
            current = max(current, 1) * scale
            if scale > 100:
                total, current = total + current, 0
        else:
            current += VALUES[part]
    ending = re.search(r"[^\w]*$", group[-1].text)
    text = f"{total + current}{ending.group() if ending else ''}"
    return Word(text, group[0].start, group[-1].end, min(word.probability for word in group))


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
