"""Words that were heard are compared with those said: how many are wrong, and when each was there for good. Pure.

Words are compared as `normalise` leaves them. Which word of one text is which of the other is told by the alignment
with the fewest edits, so one wrong word does not make all that follow it wrong or late.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_PUNCTUATION = re.compile(r"[^\w\s]")
_SPELLINGS = {"mr": "mister"}


class TimedWord(NamedTuple):
    """A word and a time in seconds: the word's end in the audio, or when it was shown."""

    word: str
    at_s: float


class WordDelay(NamedTuple):
    """A delay in seconds, and the moment of the audio that it belongs to."""

    seconds: float
    end_s: float


@dataclass
class WordTally:
    """Counts the errors among the words of a reference."""

    errors: int = 0
    words: int = 0

    def count(self, reference: str, transcript: str) -> None:
        expected = normalise(reference)
        self.errors += edits(expected, normalise(transcript))
        self.words += len(expected)

    @property
    def rate(self) -> float | None:
        """Returns the word error rate, 0 to 1 and beyond; None without words."""
        return self.errors / self.words if self.words else None


def normalise(text: str) -> list[str]:
    """Returns words in lower case: hyphens become spaces, other punctuation and apostrophes go, digits stay."""
    plain = _PUNCTUATION.sub("", text.lower().replace("-", " ")).replace("colored", "coloured")
    return [_SPELLINGS.get(word, word) for word in plain.split()]


def edits(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the fewest words put in, left out or replaced that make one the other."""
    return _costs(one, other)[-1][-1]


def align(one: Sequence[str], other: Sequence[str], *, so_far: bool = False) -> list[tuple[int, int]]:
    """Returns the places of the words that are the same in both, in an alignment with the fewest edits.

    `so_far`: one is as far as the other had come at some time, so what follows in the other is no edit.
    """
    costs = _costs(one, other)
    pairs: list[tuple[int, int]] = []
    i, j = len(one), len(other)
    if so_far:
        j = max(range(j + 1), key=lambda end: (-costs[i][end], end))
    while i and j:
        here, same = costs[i][j], one[i - 1] == other[j - 1]
        if here == costs[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            if same:
                pairs.append((i, j))
        elif here == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def timed_words(words: Iterable[tuple[str, float]]) -> list[TimedWord]:
    """Returns words with their times as they are compared: a written word may be two, or none."""
    return [TimedWord(word, at_s) for text, at_s in words for word in normalise(text)]


def settle_times(stable: Iterable[TimedWord], final: TimedWord) -> list[TimedWord]:
    """Returns each word of a final, with the time when a stable prefix first had it, or else the final's.

    `stable` holds the prefixes in the order they came, each with its time; `final` the text that followed.
    """
    words = normalise(final.word)
    times: list[float | None] = [None] * len(words)
    length = -1
    for prefix in stable:
        stable_words = normalise(prefix.word)
        if len(stable_words) == length:
            continue  # the prefix never changes: it only grows
        length = len(stable_words)
        for _, at in align(stable_words, words, so_far=True):
            if times[at] is None:
                times[at] = prefix.at_s
    return [TimedWord(word, final.at_s if at is None else at) for word, at in zip(words, times, strict=True)]


def for_good(texts: Sequence[TimedWord]) -> list[TimedWord]:
    """Returns each word of the last text, with the time since when it was shown without a break: hindsight only.

    Serves every server alike, also one that never says which words it will not change.
    """
    if not texts:
        return []
    words = normalise(texts[-1].word)
    since = [texts[-1].at_s] * len(words)
    standing = set(range(len(words)))
    for text in reversed(texts):
        standing &= {at for _, at in align(normalise(text.word), words, so_far=True)}
        for at in standing:
            since[at] = text.at_s
    return [TimedWord(word, at_s) for word, at_s in zip(words, since, strict=True)]


def delays(
    transcript: Sequence[TimedWord], reference: Sequence[TimedWord], *, missing_s: float | None = None
) -> list[WordDelay]:
    """Returns the delays from the end of each word of the reference until the word was there.

    Words heard wrong have none; with `missing_s`, they are there at that time.
    """
    pairs = dict(align([word for word, _ in reference], [word for word, _ in transcript]))
    times = [(transcript[pairs[i]].at_s if i in pairs else missing_s, end_s) for i, (_, end_s) in enumerate(reference)]
    return [WordDelay(at_s - end_s, end_s) for at_s, end_s in times if at_s is not None]


def quantile(values: Sequence[float], share: float) -> float | None:
    """Returns the value that so many of the values are not above; None without values."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def summary(values: Sequence[float]) -> dict[str, float | int | None]:
    """Returns what a result keeps of many delays."""
    return {"p50": quantile(values, 0.5), "p90": quantile(values, 0.9), "n": len(values)}


def _costs(one: Sequence[str], other: Sequence[str]) -> list[list[int]]:
    """Returns the edits between each prefix of one and each of the other."""
    rows = [list(range(len(other) + 1))]
    for i, word in enumerate(one, 1):
        above, row = rows[-1], [i]
        for j, their in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != their)))
        rows.append(row)
    return rows
