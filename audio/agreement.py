"""Decides when the words of a growing hypothesis become stable. Pure.

LocalAgreement-2 (Liu et al., Interspeech 2020; Macháček et al., 2023): a word is stable when two hypotheses in a row
agree on it and on all before it, and a third one too where the model doubts one of them. Words are compared without
case and punctuation, which flicker and which the final may put differently. A word that was once stable is never taken
back, even when a later hypothesis disagrees, and the final keeps it: see `kept`.

Measured with tiny.en on read speech, clean, noisy, by telephone, and on digits: two hypotheses alone were wrong about
1.0 % of stable words, by the final; with a third one in doubt .5 %, and words are stable .02 s later at the median.
"""

from collections.abc import Sequence

import msgspec

from audio.model.transcriber import Word, key_of
from audio.model.word_times import with_lengths

_SHIFTS = (0, 1, -1, 2, -2, 3, -3)
_ANCHOR = 3
SURE = 0.5
"""Confidence of hypotheses from which two of them are enough."""
LEAST_KEPT = 0.5
"""Share of the stable words that a final must have to keep all of them: below it, it is about something else."""


class Agreement:
    """The words of one segment so far: a stable prefix, and a tail that may still change."""

    __slots__ = ("_before", "_confidence", "_keys", "_last", "stable", "stable_times", "tail", "tail_times")

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self.stable_times: list[Word] = []
        """The stable words with their times, where hypotheses have them."""
        self.tail_times: list[Word] = []
        self._keys: list[str] = []
        """The stable words, as they are compared."""
        self._last: list[str] = []
        """The words of the last hypothesis after the stable ones, as they are compared."""
        self._before: list[str] = []
        """Those of the one before it."""
        self._confidence = 0.0
        """The confidence of the last hypothesis."""

    def add(self, words: Sequence[str], confidence: float = 1.0, times: Sequence[Word] = ()) -> None:
        """Takes one more hypothesis for the whole segment; `times` are those of each of the words, or nothing."""
        keys = [key_of(word) for word in words]
        at = self._end_of_stable(keys)
        rest, rest_keys, rest_times = list(words[at:]), keys[at:], list(times[at:])
        agreement = _shared(rest_keys, self._last)
        if min(confidence, self._confidence) < SURE:
            agreement = min(agreement, _shared(rest_keys, self._before))
        self.stable += rest[:agreement]
        self.stable_times += rest_times[:agreement]
        self._keys += rest_keys[:agreement]
        self.tail, self.tail_times = rest[agreement:], rest_times[agreement:]
        self._before, self._last = self._last[agreement:], rest_keys[agreement:]
        self._confidence = confidence

    @property
    def text(self) -> str:
        return " ".join(self.stable + self.tail)

    def _end_of_stable(self, keys: Sequence[str]) -> int:
        """Returns how many words of a hypothesis repeat the stable ones, which may be more or fewer than those."""
        count = len(self._keys)
        for length in range(min(_ANCHOR, count), 0, -1):
            anchor = self._keys[-length:]
            for shift in _SHIFTS:
                end = count + shift
                if end >= length and keys[end - length : end] == anchor:
                    return end
        return min(count, len(keys))


def kept(stable: Sequence[str], words: Sequence[Word]) -> list[Word]:
    """Returns a final's words so that they begin with the stable ones, which it may have heard otherwise.

    Case and punctuation are the final's, and so are times. A final that has hardly any of them stays as it is.
    """
    keys, final_keys = [key_of(word) for word in stable], [key_of(word.text) for word in words]
    if final_keys[: len(keys)] == keys:
        return list(words)
    places, end = _places(keys, final_keys)
    same = sum(at is not None and final_keys[at] == key for key, at in zip(keys, places, strict=True))
    if same < LEAST_KEPT * len(keys):
        return list(words)
    result: list[Word] = []
    for text, key, at in zip(stable, keys, places, strict=True):
        if at is None:
            before_s = result[-1].end if result else 0.0
            result.append(Word(text, before_s, before_s, 0.0))
        else:
            word = words[at]
            result.append(word if final_keys[at] == key else msgspec.structs.replace(word, text=text))
    return with_lengths([*result, *words[end:]], max([0.0, *(word.end for word in words)]))


def _places(keys: Sequence[str], final_keys: Sequence[str]) -> tuple[list[int | None], int]:
    """Returns which word of a final stands for each stable one, with the fewest edits, and the first one after them."""
    costs = [list(range(len(final_keys) + 1))]
    for i, key in enumerate(keys, 1):
        above, row = costs[-1], [i]
        for j, other in enumerate(final_keys, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (key != other)))
        costs.append(row)
    i, j = len(keys), min(range(len(final_keys) + 1), key=lambda end: (costs[-1][end], -end))
    end = j
    places: list[int | None] = [None] * len(keys)
    while i and j:
        if costs[i][j] == costs[i - 1][j - 1] + (keys[i - 1] != final_keys[j - 1]):
            i, j = i - 1, j - 1
            places[i] = j
        elif costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return places, end


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns how many words two lists begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
