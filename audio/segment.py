"""One stretch of speech between two silences: from the first frame of speech to its final."""

from audio.policy import Agreement
from audio.transcriber import Heard

FRAME = 512
"""Samples that one speech probability is about: 32 ms."""


class Segment:
    """While it is being spoken."""

    __slots__ = ("agreement", "decoded", "guess", "last_speech", "number", "probabilities", "shown", "start")

    def __init__(self, number: int, start: int, last_speech: int) -> None:
        self.number = number
        self.start = start
        """The sample it begins with."""
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

    __slots__ = ("end", "number", "shown", "start", "tries")

    def __init__(self, segment: Segment, end: int) -> None:
        self.number = segment.number
        self.start = segment.start
        self.end = end
        self.shown = segment.shown
        self.tries = 0
