"""One stretch of speech between two silences, from its first frame to its final."""

from collections.abc import Sequence
from typing import NamedTuple

from audio.agreement import UNKNOWN, Agreement
from audio.coverage import HeardSegment, shifted
from audio.messages import Final, Gap, Partial
from audio.model.transcriber import SAMPLE_RATE, Transcription, Word
from audio.model.vad import FRAME
from audio.options import TAIL


class Segment:
    """A segment that is being spoken."""

    __slots__ = (
        "agreement",
        "confidence",
        "decoded",
        "guess",
        "is_shown",
        "last_speech",
        "number",
        "probabilities",
        "start",
        "turn",
    )

    def __init__(self, number: int, start: int, last_speech: int) -> None:
        self.number = number
        self.start = start
        """The segment's first sample."""
        self.turn = start
        """The first sample of its turn; it is an earlier one when the segment is the rest of one that was cut."""
        self.last_speech = last_speech
        """The sample after the last frame of speech."""
        self.decoded = start
        """The sample after the last one that a hypothesis is about."""
        self.probabilities: list[float] = []
        """The probability of speech of each frame since `start`."""
        self.agreement = Agreement()
        self.confidence = 0.0
        """The confidence of the last hypothesis."""
        self.is_shown = False
        """Whether a partial of the segment was put out."""
        self.guess: tuple[int, Transcription | None] | None = None
        """A final decode begun before the silence was long enough: the `last_speech` it is about, and its answer."""

    @property
    def is_guessed(self) -> bool:
        """Returns whether a guess was begun, and nobody has spoken since."""
        return self.guess is not None and self.guess[0] == self.last_speech

    @property
    def early_answer(self) -> Transcription | None:
        """Returns the segment's final, if a guess has made it already."""
        return self.guess[1] if self.guess is not None and self.is_guessed else None

    def take_guess(self, last_speech: int, answer: Transcription, position: int) -> None:
        """Notes what a guess heard, at a `position` of the session; it may be the final if nobody has spoken since."""
        if self.is_guessed and self.last_speech == last_speech:
            self.guess, self.decoded = (last_speech, answer), position
        else:
            self.decoded = max(self.decoded, last_speech + TAIL)

    def rest(self, end: int) -> "Segment":
        """Returns what follows when the segment is cut at `end`: another segment of the same turn."""
        rest = Segment(self.number + 1, end, self.last_speech)
        rest.turn = self.turn
        rest.probabilities = self.probabilities[(end - self.start) // FRAME :]
        return rest

    def show(self, answer: Transcription, words: Sequence[Word], *, is_cut: bool) -> None:
        """Takes a hypothesis about all of the segment, and its words with their times, where the model told them.

        `is_cut`: somebody still spoke where its audio ends.
        """
        known = words or [Word(text, 0.0, 0.0, UNKNOWN) for text in answer.text.split()]
        self.agreement.add(known, seconds(self.decoded), is_cut=is_cut)
        self.is_shown = True
        self.confidence = round(answer.confidence, 3)

    def partial(self, turn: int | None, *, words: bool) -> Partial:
        """Returns the message with the segment's words so far, with their times where `words` says so."""
        start_s, agreement = seconds(self.start), self.agreement
        return Partial(
            turn=turn,
            segment=self.number,
            text=" ".join(word.text for word in agreement.words),
            stable=" ".join(word.text for word in agreement.stable),
            start=start_s,
            end=seconds(self.decoded),
            words=[shifted(word, start_s) for word in agreement.words] if words else None,
            confidence=self.confidence if words else None,
        )


class ClosedSegment:
    """A segment that waits for its final."""

    __slots__ = ("end", "hearing", "is_last", "is_shown", "number", "start", "tries", "turn")

    def __init__(
        self, segment: Segment, end: int, speech: Sequence[bool], certain: Sequence[bool], *, is_last: bool = True
    ) -> None:
        """`speech` tells of each frame before `end` whether it is speech, `certain` whether it may begin a segment."""
        self.number = segment.number
        self.turn = segment.turn
        self.is_last = is_last
        """Whether the segment is the last one of its turn."""
        self.start = segment.start
        self.end = end
        self.hearing = HeardSegment(speech, certain)
        self.is_shown = segment.is_shown
        self.tries = 0

    @property
    def to_decode(self) -> tuple[int, int]:
        """Returns the first sample, and the one after the last, of what is to be decoded next."""
        again = self.hearing.again
        if again is None:
            return self.start, self.end
        return self.start + round(again.start * SAMPLE_RATE), self.start + round(again.end * SAMPLE_RATE)

    def hear(self, answer: Transcription) -> None:
        """Takes the model's answer about `to_decode`."""
        self.hearing.take(answer)
        self.tries = 0

    def final(self, turn: int | None, *, words: bool) -> Final:
        """Returns the message with the segment's words."""
        start_s, answer = seconds(self.start), self.hearing.answer
        return Final(
            turn=turn,
            segment=self.number,
            text=answer.text,
            start=start_s,
            end=seconds(self.end),
            words=[shifted(word, start_s) for word in answer.words] if words else None,
            confidence=round(answer.confidence, 3),
            language=answer.language,
            unsure=answer.unsure,
            no_speech_prob=round(answer.no_speech_prob, 3) if words else None,
        )

    def gaps(self, turn: int | None) -> list[Gap]:
        """Returns the messages about speech of the segment that has no words."""
        start_s = seconds(self.start)
        return [
            Gap(turn=turn, start=round(start_s + lost.start, 3), end=round(start_s + lost.end, 3), reason=lost.reason)
            for lost in self.hearing.lost
        ]


class Turn(NamedTuple):
    """Speech without an end in between, by its samples."""

    start: int
    end: int | None
    """The end of the turn; None when it is not over."""


def seconds(position: int) -> float:
    """Returns a position in seconds."""
    return round(position / SAMPLE_RATE, 3)
