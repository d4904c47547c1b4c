"""Says which of what is heard is meant to be answered: not what only accompanies an answer, nor the end of it. Pure."""

from collections.abc import Sequence
from math import inf

from gateway.voice.barge_in import is_echo, words_of
from gateway.voice.turns import TurnTaker, UserTurn

TAIL_S = 1.0
"""Seconds after an answer in which what a microphone picks up may be the end of it."""


class Attention:
    """Makes turns of what is meant."""

    def __init__(self, turns: TurnTaker) -> None:
        self._turns = turns
        self._beside: set[int] = set()
        """The stretches of speech that began while an answer was spoken, or just after, by their first samples."""
        self._last_words: Sequence[str] = ()
        """The last words of the answer that was spoken to its end."""
        self._spoken_at = -inf

    def begin(self, first: int, now: float, *, is_spoken: bool) -> None:
        """Notes that somebody has begun to speak; `is_spoken`: an answer is on its way."""
        self._turns.begin(first)
        if is_spoken or now < self._spoken_at + TAIL_S:
            self._beside.add(first)

    def hear(self, first: int, end: int, text: str) -> None:
        """Takes a final of the stretch that began with the sample `first`."""
        self._turns.hear(first, end, text)

    def close(self, first: int, now: float, *, is_ignored: bool = False) -> bool:
        """Ends a stretch; returns whether it may be answered. `is_ignored`: what it was beside goes on."""
        is_beside = first in self._beside
        self._beside.discard(first)
        if is_beside and (is_ignored or is_echo(words_of(self._turns.text_of(first)), self._last_words)):
            self._turns.dismiss(first)
            return False
        self._turns.close(first, now)
        return True

    def note_spoken(self, words: Sequence[str], now: float) -> None:
        """Notes that an answer, which the microphone picks up, was spoken to its end: these words."""
        self._last_words, self._spoken_at = words, now

    @property
    def due_at(self) -> float | None:
        """Returns when a turn is over if nobody goes on; None while there is none."""
        return self._turns.due_at

    def take(self, now: float) -> UserTurn | None:
        """Returns the turn that is over by now."""
        return self._turns.take(now)
