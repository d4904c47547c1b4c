"""Puts the text of finals into the form that a client asks for: one form of numbers, no profanity, no secrets. Pure.

Redaction errs on the side of leaving out: numbers are said in groups and cut by pauses, so few digits in a row count.
It knows digits in every language and words for numbers in English; what it takes for no number stays as it is.
"""

import re
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from audio.digits import in_digits
from audio.messages import Final, Partial
from audio.model.transcriber import Word
from audio.numerals import MULTIPLES, digits_of, is_number_word, merged, spoken

Numerals = Literal["digits", "words", "as-heard"]
Secret = Literal["number", "card", "email", "phone"]

LEAST_DIGITS: dict[Secret, int] = {"card": 4, "phone": 5, "number": 1}
"""Digits in a row from which they are redacted, for each kind that was asked for; the first that fits is told."""
LEAST_CARD_DIGITS = 12
"""Digits of a whole card: fewer are a phone's, where both were asked for."""
_PROFANE = re.compile(
    r"(?:mother|bull|horse|dog|dumb|jack)?(?:fuck|shit)(?:s|ed|er|ers|ing|in|y|ty|head|heads|face)?|bitch(?:es|y|ing)?|"
    r"cunts?|(?:ass|arse)holes?|bastards?|wank(?:er|ers|ing)?|whores?|sluts?|twats?|pricks?|dickheads?|cock(?:sucker)s?|"
    r"niggers?|niggas?|faggots?|goddamn",
    re.IGNORECASE,
)
_PUNCTUATION = ".,;:?!\"'()[]-"
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")


class TextForms(msgspec.Struct, frozen=True, kw_only=True):
    """The forms of text that a client asks for."""

    numerals: Numerals = "as-heard"
    masks_profanity: bool = False
    redact: tuple[Secret, ...] = ()

    def final(self, final: Final) -> Final:
        """Returns a final in these forms; the times of words that become one are those of all of them."""
        words = final.words or [Word(text, 0.0, 0.0, 0.0) for text in final.text.split()]
        is_english = final.language == "en"
        if self.redact:
            words = _redacted(words, self.redact, is_english=is_english)
        if is_english and self.numerals == "digits":
            words = in_digits(words)
        elif is_english and self.numerals == "words":
            words = [word for whole in words for word in spoken(whole)]
        if self.masks_profanity:
            words = [_masked(word) for word in words]
        text = " ".join(word.text for word in words)
        return msgspec.structs.replace(final, text=text, words=words if final.words is not None else None)

    def partial(self, partial: Partial) -> Partial:
        """Returns a partial without profanity. Nothing is redacted in one: who asks for that has none."""
        if not self.masks_profanity:
            return partial
        text, stable = (" ".join(map(masked, one.split())) for one in (partial.text, partial.stable))
        return msgspec.structs.replace(partial, text=text, stable=stable)


def masked(word: str) -> str:
    """Returns a word, of which nothing but its first letter is left if it is profane."""
    core = word.strip(_PUNCTUATION)
    if not _PROFANE.fullmatch(core):
        return word
    before, _, after = word.partition(core)
    return f"{before}{core[0]}{'*' * (len(core) - 1)}{after}"


def _masked(word: Word) -> Word:
    return msgspec.structs.replace(word, text=masked(word.text))


def _each_run(
    words: Sequence[Word], belongs: Callable[[str], bool], change: Callable[[list[Word]], list[Word]]
) -> list[Word]:
    """Returns the words, with every run of those that belong together changed."""
    result: list[Word] = []
    run: list[Word] = []
    for word in [*words, None]:
        if word is not None and belongs(word.text):
            run.append(word)
            continue
        if run:
            result += change(run)
            run = []
        if word is not None:
            result.append(word)
    return result


# Redaction


def _redacted(words: list[Word], kinds: Sequence[Secret], *, is_english: bool) -> list[Word]:
    if "email" in kinds:
        words = _without_emails(words)

    def belongs(text: str) -> bool:
        return any(letter.isdecimal() for letter in text) or (
            is_english and (is_number_word(text) or text.lower() in MULTIPLES)
        )

    def change(run: list[Word]) -> list[Word]:
        count = sum(digits_of(word.text) for word in run)
        fitting = [kind for kind in LEAST_DIGITS if kind in kinds and count >= LEAST_DIGITS[kind]]
        is_call = "phone" in fitting and count < LEAST_CARD_DIGITS
        kind = "phone" if is_call else next(iter(fitting), None)
        return run if kind is None else [merged(run, f"[{kind}]")]

    return _each_run(words, belongs, change)


def _without_emails(words: list[Word]) -> list[Word]:
    """Returns the words without addresses, be they written (`a@b.c`) or said (`a at b dot c`)."""
    plain = [word.text.strip(_PUNCTUATION).lower() for word in words]
    result: list[Word] = []
    at = 0
    while at < len(words):
        end = _email_end(plain, at)
        if _EMAIL.search(words[at].text):
            end = at + 1
        if end is None:
            result.append(words[at])
            at += 1
        else:
            result.append(merged(words[at:end], "[email]"))
            at = end
    return result


def _email_end(plain: Sequence[str], first: int) -> int | None:
    """Returns the place after an address that is said from a word on: `jo dot doe at example dot com`."""
    at = first + 1
    while at + 1 < len(plain) and plain[at] in ("dot", "underscore", "dash", "hyphen"):
        at += 2
    if at >= len(plain) or plain[at] != "at":
        return None
    at += 2  # `at`, and a name
    dots = 0
    while at < len(plain) and plain[at] == "dot":
        at, dots = at + 2, dots + 1
    is_written = not dots and at - 1 < len(plain) and re.fullmatch(r"[\w-]+(\.[\w-]+)+", plain[at - 1]) is not None
    return min(at, len(plain)) if dots or is_written else None
