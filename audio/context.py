"""What was said just before a short answer, which a model needs to hear it: a digit alone is any word. Pure.

A short segment is decoded together with the sound and the words of the finals before it, as many as fit the window that
it has anyway, so it costs nothing more. With the words given, a model says what follows them, and nothing twice.
"""

from collections import deque
from typing import NamedTuple

from audio.model.transcriber import SAMPLE_RATE

REACH = 9 * SAMPLE_RATE
"""Maximum samples from the beginning of the context to the end of the segment: the smallest window, less its pad."""
SHORT = 9 * SAMPLE_RATE // 4
"""Maximum samples of a segment that is decoded with a context."""
PAUSE = 4 * SAMPLE_RATE
"""Maximum samples between two segments that belong together."""
FINALS = 12
"""Maximum number of finals that are remembered."""


class EarlierFinal(NamedTuple):
    """A final, from its first sample to the one after its last."""

    start: int
    end: int
    text: str


class Context(NamedTuple):
    """Where the context of a segment begins, and what is said until the segment."""

    start: int
    text: str


class EarlierFinals:
    """The finals of a session that may be the context of its next segment."""

    __slots__ = ("_finals",)

    def __init__(self) -> None:
        self._finals: deque[EarlierFinal] = deque(maxlen=FINALS)

    def add(self, start: int, end: int, text: str) -> None:
        if text:
            self._finals.append(EarlierFinal(start, end, text))

    def before(self, start: int, end: int) -> Context:
        """Returns the context of what is spoken from `start` to `end`; none if that is not short."""
        context = Context(start, "")
        for final in reversed(self._finals) if end - start <= SHORT else ():
            if end - final.start > REACH or context.start - final.end > PAUSE or final.end > context.start:
                break
            context = Context(final.start, f"{final.text} {context.text}".strip())
        return context

    def needed_from(self, position: int) -> int:
        """Returns the first sample that the context of a segment might need which begins at `position` or later."""
        at = max(position, self._finals[-1].end) if self._finals else position
        return min(position, self.before(at, at).start)
