"""Writes the English numbers of a text in digits: years, times, dates, sums of money, decimals, codes. Pure.

What is said as one number is written as one: "nineteen eighty four" is 1984, and "double five one two" is 5512. Where
words mean two things and what stands around them does not tell which, they stay apart or as they were heard: "four
twenty" is 4 20, which may be a time or 420, and "two thirds" stays.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from audio.model.transcriber import Word
from audio.numerals import MULTIPLES, SCALES, TENS, VALUES, merged, parts_of

_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth"
)
ORDINALS = {
    **{word: value for value, word in enumerate(_ORDINALS.split()) if value},
    **{f"{name[:-1]}ieth": value for name, value in TENS.items()},
}
DECADES = {f"{name[:-1]}ies": value for name, value in TENS.items()}
_MONTHS = "january february march april may june july august september october november december"
MONTHS = frozenset(_MONTHS.split())
FRACTIONS = frozenset(("half", "halves", "quarter", "quarters", "third", "thirds", "fifth", "fifths", "tenth"))
CURRENCIES = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€"}
"""Money whose sign stands before the sum. A pound may be a weight."""
PARTS_OF_DAY = frozenset(("am", "pm", "a.m", "p.m"))
BEFORE_TIMES = frozenset(("at", "by", "until", "till", "around"))
QUARTERS = (15, 30, 45)
"""Minutes that make a time of an hour before them, whatever stands around."""
CODE_DIGITS = 3
"""Number of digits, said one by one, from which they are written together."""


class Token(NamedTuple):
    """A word in lower case and without marks, or a part of one with hyphens when its parts are numbers."""

    text: str
    word: int
    """The place of its word."""
    is_end: bool
    """Whether a mark follows; no number goes on behind one."""


class Figure(NamedTuple):
    """A number that was said, from its first token to the one after its last."""

    kind: Literal["digits", "cardinal", "ordinal", "decade", "written"]
    """`digits` are said one by one; `written` is whatever has its last form."""
    text: str
    start: int
    end: int

    @property
    def value(self) -> int:
        """Returns the number of digits or a cardinal."""
        return int(self.text)


def in_digits(words: Sequence[Word]) -> list[Word]:
    """Returns the words with their numbers in digits; the times of words that become one are those of all of them."""
    tokens = list(_tokens(words))
    result: list[Word] = []
    done = 0
    for figure in _joined(list(_figures(tokens)), tokens):
        first, last = tokens[figure.start].word, tokens[figure.end - 1].word
        result += words[done:first]
        result.append(merged(words[first : last + 1], figure.text))
        done = last + 1
    return [*result, *words[done:]]


def _tokens(words: Sequence[Word]) -> Iterator[Token]:
    for at, word in enumerate(words):
        parts = parts_of(word.text)
        if not all(part in VALUES or part in SCALES or part in ORDINALS for part in parts):
            parts = ["-".join(parts)]
        for part in parts[:-1]:
            yield Token(part, at, is_end=False)
        yield Token(parts[-1], at, is_end=word.text[-1:] in (",", ";", ":", ".", "?", "!"))


def _figures(tokens: Sequence[Token]) -> Iterator[Figure]:
    """Yields the numbers that are written in digits."""
    at = 0
    while at < len(tokens):
        run = _run(tokens, at)
        at = run[-1].end if run else at + 1
        for figure in _written(run, tokens) if run else ():
            yield figure
            at = max(at, figure.end)


def _joined(figures: Sequence[Figure], tokens: Sequence[Token]) -> list[Figure]:
    """Returns the figures; those that share a word with hyphens are one."""
    result: list[Figure] = []
    for figure in figures:
        last = result[-1] if result else None
        if last is not None and tokens[last.end - 1].word == tokens[figure.start].word:
            result[-1] = Figure("written", f"{last.text}-{figure.text}", last.start, figure.end)
        else:
            result.append(figure)
    return result


def _text(tokens: Sequence[Token], at: int) -> str:
    """Returns the token at a place; nothing where there is none, or a mark stands before it."""
    if not 0 <= at < len(tokens) or (at > 0 and tokens[at - 1].is_end):
        return ""
    return tokens[at].text


# Which numbers are said


def _run(tokens: Sequence[Token], at: int) -> list[Figure]:
    """Returns the numbers that follow each other from a token on."""
    run: list[Figure] = []
    while (figure := _figure(tokens, at)) is not None:
        run.append(figure)
        at = figure.end
        if tokens[at - 1].is_end:
            break
    return run


def _figure(tokens: Sequence[Token], at: int) -> Figure | None:
    """Returns the number that begins at a token."""
    text = tokens[at].text if at < len(tokens) else ""
    following = _text(tokens, at + 1)
    if text in MULTIPLES and VALUES.get(following, 10) < 10:
        return Figure("digits", str(VALUES[following]) * MULTIPLES[text], at, at + 2)
    if text in ORDINALS:
        return Figure("ordinal", _ordinal(ORDINALS[text]), at, at + 1)
    if text in DECADES:
        return Figure("decade", f"{DECADES[text]}s", at, at + 1)
    if text == "a" and following in SCALES and _continues(tokens, at + 2):
        return _cardinal(tokens, at, at + 1)
    return _cardinal(tokens, at, at) if text in VALUES or text in SCALES else None


def _cardinal(tokens: Sequence[Token], start: int, at: int) -> Figure:
    """Returns the number whose words begin at a token, an ordinal where that is its last."""
    total = current = 0
    while True:
        text = tokens[at].text
        if text in SCALES:
            current = max(current, 1) * SCALES[text]
            if text != "hundred":
                total, current = total + current, 0
        current += VALUES.get(text, 0) + ORDINALS.get(text, 0)
        at += 1
        if text in ORDINALS:
            return Figure("ordinal", _ordinal(total + current), start, at)
        if not _continues(tokens, at):
            break
    if _text(tokens, at) == "point" and VALUES.get(_text(tokens, at + 1), 10) < 10:
        return _decimal(tokens, start, at + 1, total + current)
    is_digit = at == start + 1 and current < 10 and not total
    return Figure("digits" if is_digit else "cardinal", str(total + current), start, at)


def _decimal(tokens: Sequence[Token], start: int, at: int, whole: int) -> Figure:
    """Returns a number with the digits that are said behind its point, and the scale that may follow."""
    places = ""
    while (value := VALUES.get(_text(tokens, at), 10)) < 10:
        places += str(value)
        at += 1
    scale = _text(tokens, at)
    if scale in SCALES:
        return Figure("written", f"{whole}.{places} {scale}", start, at + 1)
    return Figure("written", f"{whole}.{places}", start, at)


def _continues(tokens: Sequence[Token], at: int) -> bool:
    """Tells whether a token belongs to the number before it."""
    text, last = _text(tokens, at), tokens[at - 1].text
    if last == "and":
        return True  # it was looked behind already
    if text in SCALES:
        return last in VALUES or SCALES.get(last, SCALES[text]) < SCALES[text]
    if last in SCALES:
        at, text = (at + 1, _text(tokens, at + 1)) if text == "and" else (at, text)
        is_code = VALUES.get(text, 10) < 10 and VALUES.get(_text(tokens, at + 1), 10) < 10  # eight hundred five five
        return (VALUES.get(text, 0) > 0 and not is_code) or text in ORDINALS
    return VALUES.get(last, 0) >= 20 and (0 < VALUES.get(text, 0) < 10 or _is_unit_ordinal(tokens, at))


def _is_unit_ordinal(tokens: Sequence[Token], at: int) -> bool:
    """Tells whether a token makes an ordinal of the tens before it. A second may be a time."""
    text = _text(tokens, at)
    if text != "second":
        return 0 < ORDINALS.get(text, 0) < 10
    is_one_word = tokens[at - 1].word == tokens[at].word
    return is_one_word or _text(tokens, at + 1) == "of" or _text(tokens, at - 2) in {"the", *MONTHS}


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


# How they are written


def _written(run: Sequence[Figure], tokens: Sequence[Token]) -> Iterator[Figure]:
    """Yields the numbers of a run as they are written, less those that stay words."""
    before, after = _text(tokens, run[0].start - 1), _text(tokens, run[-1].end)
    is_date = after == "of" and _text(tokens, run[-1].end + 1) in MONTHS
    time = _time(run, before, after)
    figures = _years(_codes(run)) if time is None else [time]
    if after in CURRENCIES and figures[-1].kind != "ordinal" and not _is_scale(figures[-1], tokens):
        figures[-1] = _money(figures[-1], CURRENCIES[after], tokens)
    for at, figure in enumerate(figures):
        if not _stays(figures, at, tokens, after) or (
            figure.kind == "ordinal" and (is_date or (before in MONTHS and not at))
        ):
            yield figure


def _codes(run: Sequence[Figure]) -> list[Figure]:
    """Returns the numbers, those that are said digit by digit as one."""
    result: list[Figure] = []
    at = 0
    while at < len(run):
        end = at
        while end < len(run) and run[end].kind == "digits":
            end += 1
        text = "".join(figure.text for figure in run[at:end])
        if len(text) >= CODE_DIGITS:
            result.append(Figure("written", text, run[at].start, run[end - 1].end))
            at = end
        else:
            end = max(end, at + 1)
            result += run[at:end]
            at = end
    return result


def _time(figures: Sequence[Figure], before: str, after: str) -> Figure | None:
    """Returns the time that the numbers are: an hour and its minutes, "three thirty" or "five oh five"."""
    kinds = {figure.kind for figure in figures}
    is_told = after in PARTS_OF_DAY or before in BEFORE_TIMES
    if len(figures) not in (2, 3) or not kinds <= {"digits", "cardinal"}:
        return None
    hour, *rest = (figure.value for figure in figures)
    has_zero = len(rest) == 2 and figures[1].text == "0" and figures[2].kind == "digits"
    minutes = rest[-1] if has_zero or (len(rest) == 1 and rest[0] >= 10) else 60
    if not (1 <= hour <= 12 and minutes < 60 and (is_told or minutes in QUARTERS)):
        return None
    return Figure("written", f"{hour}:{minutes:02}", figures[0].start, figures[-1].end)


def _years(figures: Sequence[Figure]) -> list[Figure]:
    """Returns the numbers, two of them as one where they are a year: "nineteen eighty four", "nineteen oh five"."""
    result = list(figures)
    for first, second in pairwise(figures):
        at = result.index(first)
        others = [one for one in (*result[max(0, at - 1) : at], *result[at + 2 : at + 3]) if one.kind == "cardinal"]
        if first.kind != "cardinal" or others:
            continue
        if second.kind == "decade" and 10 <= first.value <= 20:
            result[at : at + 2] = [Figure("written", f"{first.value}{second.text}", first.start, second.end)]
        elif second.kind == "cardinal" and _is_year(first.value, second.value):
            result[at : at + 2] = [Figure("written", f"{first.value}{second.value}", first.start, second.end)]
        elif second.text == "0" and len(result) == at + 3 and result[at + 2].kind == "digits" and first.value <= 20:
            text = f"{first.value}0{result[at + 2].text}"
            result[at:] = [Figure("written", text, first.start, result[at + 2].end)]
            break
    return result


def _is_year(century: int, year: int) -> bool:
    is_century = 13 <= century <= 20 or (10 <= century <= 12 and year >= 60)
    return is_century and 10 <= year < 100


def _money(figure: Figure, sign: str, tokens: Sequence[Token]) -> Figure:
    """Returns a sum of money, with its cents where they follow."""
    at = figure.end + 1
    at += _text(tokens, at) == "and"
    cents = _figure(tokens, at)
    is_sum = cents is not None and cents.kind in ("digits", "cardinal") and cents.value < 100
    if cents is not None and is_sum and _text(tokens, cents.end) in ("cent", "cents"):
        return Figure("written", f"{sign}{figure.text}.{cents.value:02}", figure.start, cents.end + 1)
    return Figure("written", f"{sign}{figure.text}", figure.start, figure.end + 1)


def _stays(figures: Sequence[Figure], at: int, tokens: Sequence[Token], after: str) -> bool:
    """Tells whether a number stays a word: a lonely `one`, a first, a third of something, a hundred."""
    figure = figures[at]
    words = [token.text for token in tokens[figure.start : figure.end]]
    following = after if at + 1 == len(figures) else tokens[figures[at + 1].start].text
    if figure.kind == "ordinal":
        is_part = at > 0 and tokens[figures[at - 1].end - 1].text in VALUES
        return len(words) == 1 and (ORDINALS[words[0]] < 10 or is_part)
    if len(words) > 1 or figure.kind == "written":
        return False
    is_alone = sum(other.kind != "ordinal" for other in figures) == 1
    is_word = words[0] == "oh" or (words[0] == "one" and is_alone) or following in FRACTIONS
    return is_word or figure.kind == "decade" or _is_scale(figure, tokens)


def _is_scale(figure: Figure, tokens: Sequence[Token]) -> bool:
    """Tells whether a number is a hundred, a thousand ... and nothing more."""
    return figure.end - figure.start == 1 and tokens[figure.start].text in SCALES
