"""One stretch of speech between two silences: from the first frame of speech to its final."""

from typing import NamedTuple

from audio.policy import Agreement
from audio.transcriber import Heard

FRAME = 512
"""Samples that one speech probability is about: 32 ms."""


class Segment:
    """While it is being spoken."""

    __slots__ = ("agreement", "decoded", "guess", "last_speech", "number", "probabilities", "shown", "start", "turn")

    def __init__(self, number: int, start: int, last_speech: int) -> None:
        self.number = number
        self.start = start
        """The sample it begins with."""
        self.turn = start
        """That with which its turn begins: an earlier one, when it is the rest of a segment that was cut."""
        self.last_speech = last_speech
        """The sample after the last frame that was speech."""
        self.decoded = start
        """The sample after the last that a hypothesis is about."""
        self.probabilities: list[float] = []
        """Of each frame since `start`."""
        self.agreement = Agreement()
        self.shown = False
        """A partial was sent."""
        self.guess: tuple[int, Heard] | None = None
        """A final decode made before the silence was long enough, and the `last_speech` it was made for."""


class Closed:
    """A segment that waits for its final."""

    __slots__ = ("end", "is_last", "number", "shown", "start", "tries", "turn")

    def __init__(self, segment: Segment, end: int, *, is_last: bool = True) -> None:
        self.number = segment.number
        self.turn = segment.turn
        self.is_last = is_last
        """Of its turn."""
        self.start = segment.start
        self.end = end
        self.shown = segment.shown
        self.tries = 0


class Turn(NamedTuple):
    """What was spoken without an end between."""

    start: int
    end: int | None
    """None: it is not over."""
