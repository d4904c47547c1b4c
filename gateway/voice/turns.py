"""Says when a user's turn is over: what they said until they stopped, by silence and punctuation. Pure.

The session ends a stretch of speech with a silence, and its finals come then. A stretch that ends as a sentence does is
a turn at once; one that does not waits as long again, because whoever paused in the middle of a sentence goes on. That
is a delay and no veto: after `max_s` of silence any turn is over.
"""

import re

import msgspec

_SENTENCE_END = re.compile(r"[.!?…。！？][\"”’)\]]*$")  # noqa: RUF001 - as Chinese and Japanese write them


class UserTurn(msgspec.Struct, frozen=True):
    """What a user has said."""

    first: int
    """The first sample of it, at 16 kHz, in its session."""
    end: int
    """The sample at which its last stretch of speech ended."""
    text: str


class SpokenStretch(msgspec.Struct):
    """Speech without a long silence in it."""

    first: int
    end: int
    texts: list[str]
    is_over: bool = False


class TurnTaker:
    """Makes turns of stretches of speech."""

    def __init__(self, endpointing_s: float, max_s: float) -> None:
        """`endpointing_s`: the silence that ends a stretch; `max_s`: the silence that ends any turn. Seconds."""
        self._patience_s = max(0.0, min(endpointing_s, max_s - endpointing_s))
        self._stretches: list[SpokenStretch] = []
        self._over_at = 0.0
        """The time at which the newest stretch was over."""

    def begin(self, first: int) -> None:
        """Notes that somebody has begun to speak."""
        self._stretch(first)

    def hear(self, first: int, end: int, text: str) -> None:
        """Takes a final of the stretch that began with the sample `first`."""
        stretch = self._stretch(first)
        stretch.end = end
        if text.strip():
            stretch.texts.append(text.strip())

    def close(self, first: int, now: float) -> None:
        """Notes that all of a stretch is heard."""
        stretch = self._stretch(first)
        stretch.is_over = True
        self._over_at = now
        if not stretch.texts:
            self._stretches.remove(stretch)  # it was no speech

    def text_of(self, first: int) -> str:
        """Returns what was said in a stretch so far."""
        return " ".join(text for stretch in self._stretches if stretch.first == first for text in stretch.texts)

    def dismiss(self, first: int) -> None:
        """Forgets a stretch, which was not meant to be answered."""
        self._stretches = [stretch for stretch in self._stretches if stretch.first != first]

    @property
    def due_at(self) -> float | None:
        """Returns when the turn is over if nobody goes on; None while somebody speaks, or nobody has spoken."""
        if not self._stretches or not all(stretch.is_over for stretch in self._stretches):
            return None
        is_sentence = _SENTENCE_END.search(self._stretches[-1].texts[-1])
        return self._over_at + (0.0 if is_sentence else self._patience_s)

    def take(self, now: float) -> UserTurn | None:
        """Returns the turn that is over by now."""
        due_at = self.due_at
        if due_at is None or now < due_at:
            return None
        stretches, self._stretches = self._stretches, []
        text = " ".join(text for stretch in stretches for text in stretch.texts)
        return UserTurn(stretches[0].first, stretches[-1].end, text)

    def _stretch(self, first: int) -> SpokenStretch:
        for stretch in self._stretches:
            if stretch.first == first:
                return stretch
        self._stretches.append(SpokenStretch(first, first, []))
        return self._stretches[-1]
