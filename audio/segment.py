"""One stretch of speech between two silences: from the first frame of speech to its final."""

from typing import NamedTuple

from audio.messages import Final, Gap, Partial, Word
from audio.model.transcriber import SAMPLE_RATE, Transcription
from audio.policy import Agreement

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
        self.guess: tuple[int, Transcription | None] | None = None
        """A final decode made before the silence was long enough: the `last_speech` it is about, and its answer."""

    @property
    def is_guessed(self) -> bool:
        """A guess was asked for, and nothing was said since."""
        return self.guess is not None and self.guess[0] == self.last_speech

    @property
    def guessed(self) -> Transcription | None:
        """Its final, if that is known already."""
        return self.guess[1] if self.guess is not None and self.is_guessed else None

    def rest(self, end: int) -> "Segment":
        """What follows when it is cut at `end`: a segment of the same turn."""
        rest = Segment(self.number + 1, end, self.last_speech)
        rest.turn = self.turn
        rest.probabilities = self.probabilities[(end - self.start) // FRAME :]
        return rest

    def partial(self, turn: int | None) -> Partial:
        """What is heard of it so far."""
        return Partial(
            turn=turn,
            segment=self.number,
            text=self.agreement.text,
            stable=" ".join(self.agreement.stable),
            start=seconds(self.start),
            end=seconds(self.decoded),
        )


class ClosedSegment:
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

    def final(self, answer: Transcription, turn: int | None, *, words: bool) -> Final:
        """What was said in it."""
        start_s = seconds(self.start)
        return Final(
            turn=turn,
            segment=self.number,
            text=answer.text,
            start=start_s,
            end=seconds(self.end),
            words=[_moved(word, start_s) for word in answer.words] if words else None,
            confidence=round(answer.confidence, 3),
            language=answer.language,
        )

    def gap(self, turn: int | None, reason: str) -> Gap:
        """That it has no final."""
        return Gap(turn=turn, start=seconds(self.start), end=seconds(self.end), reason=reason)


class Turn(NamedTuple):
    """What was spoken without an end between."""

    start: int
    end: int | None
    """None: it is not over."""


def seconds(position: int) -> float:
    """A position in seconds."""
    return round(position / SAMPLE_RATE, 3)


def _moved(word: Word, by_s: float) -> Word:
    return Word(word.text, round(word.start + by_s, 3), round(word.end + by_s, 3), word.probability)
