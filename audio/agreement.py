"""Decides when the words of a growing hypothesis become stable. Pure.

LocalAgreement-2 (Liu et al., Interspeech 2020; Macháček et al., 2023): a word is stable when two hypotheses in a row
agree on it and on all before it. Words are compared without case and punctuation, which flicker. A word that was once
stable is never taken back before the final, even when a later hypothesis disagrees: the final may correct it.
"""

from collections.abc import Sequence

from audio.model.transcriber import key_of

_SHIFTS = (0, 1, -1, 2, -2, 3, -3)
_ANCHOR = 3


class Agreement:
    """The words of one segment so far: a stable prefix, and a tail that may still change."""

    __slots__ = ("_keys", "_last", "stable", "tail")

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self._keys: list[str] = []
        """The stable words, as they are compared."""
        self._last: list[str] = []
        """The words of the last hypothesis after the stable ones, as they are compared."""

    def add(self, words: Sequence[str]) -> None:
        """Takes one more hypothesis for the whole segment."""
        keys = [key_of(word) for word in words]
        at = self._end_of_stable(keys)
        rest, rest_keys = list(words[at:]), keys[at:]
        agreement = 0
        for one, other in zip(rest_keys, self._last, strict=False):
            if one != other:
                break
            agreement += 1
        self.stable += rest[:agreement]
        self._keys += rest_keys[:agreement]
        self.tail = rest[agreement:]
        self._last = rest_keys[agreement:]

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
