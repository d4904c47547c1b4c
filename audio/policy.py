"""When the words of a growing hypothesis become stable, and how often to make one. Pure.

LocalAgreement-2 (Liu et al., Interspeech 2020; Macháček et al., 2023): a word is stable when two hypotheses in a row
agree on it and on all before it. Words are compared without case and punctuation, which flicker. What was once called
stable is never taken back before the final, even when a later hypothesis disagrees: the final may correct it.
"""

import re
from collections.abc import Sequence

NARROWEST_S, WIDEST_S = 0.4, 2.0
"""New audio between two hypotheses of a session: the wider, the busier the machine is,"""
WIDER = 1.25
"""a little at a time: work falls and rises by as much, so it comes to rest where they have a little time left."""
TOO_BUSY, IDLE = 0.9, 0.7
"""Shares of the workers' time."""

_NOT_SPOKEN = re.compile(r"[^\w']+")
_SHIFTS = (0, 1, -1, 2, -2, 3, -3)
_ANCHOR = 3


class Agreement:
    """The words of one segment so far: a stable prefix, and a tail that may still change."""

    __slots__ = ("_keys", "_last", "stable", "tail")

    def __init__(self) -> None:
        self.stable: list[str] = []
        self.tail: list[str] = []
        self._keys: list[str] = []
        """Of `stable`."""
        self._last: list[str] = []
        """Of what the last hypothesis says after the stable words."""

    def hear(self, words: Sequence[str]) -> None:
        """One more hypothesis for the whole segment."""
        keys = [key_of(word) for word in words]
        at = self._end_of_stable(keys)
        rest, rest_keys = list(words[at:]), keys[at:]
        agreed = 0
        for one, other in zip(rest_keys, self._last, strict=False):
            if one != other:
                break
            agreed += 1
        self.stable += rest[:agreed]
        self._keys += rest_keys[:agreed]
        self.tail = rest[agreed:]
        self._last = rest_keys[agreed:]

    @property
    def text(self) -> str:
        return " ".join(self.stable + self.tail)

    def _end_of_stable(self, keys: Sequence[str]) -> int:
        """How many words of a hypothesis say what is stable already: it may say that in more or fewer words."""
        count = len(self._keys)
        for length in range(min(_ANCHOR, count), 0, -1):
            anchor = self._keys[-length:]
            for shift in _SHIFTS:
                end = count + shift
                if end >= length and keys[end - length : end] == anchor:
                    return end
        return min(count, len(keys))


def key_of(word: str) -> str:
    """A word as it is compared."""
    return _NOT_SPOKEN.sub("", word).lower()


def step_s(step: float, busy: float) -> float:
    """The next step after `step`, where the workers were busy for a share of the last second (0 to 1)."""
    if busy > TOO_BUSY:
        return min(step * WIDER, WIDEST_S)
    if busy < IDLE:
        return max(step / WIDER, NARROWEST_S)
    return step
