"""Decides when an utterance is over: when nobody has spoken for longer than the pause that ends a segment. Pure.

A client that wants to know says after how long (`utterance_end_s`). It is told once for each utterance, after the
finals of what was said in it, and in silence not again.
"""

from collections.abc import Sequence

from audio.messages import SpeechStarted, UtteranceEnd
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.options import Output, SessionOptions
from audio.policy import is_speech
from audio.segment import seconds


class UtteranceWatch:
    """Follows the speech of one session, for a client that wants to know the ends of its utterances."""

    __slots__ = ("_end", "is_open")

    def __init__(self) -> None:
        self._end = 0
        """The sample after the last frame of speech."""
        self.is_open = False
        """Whether there was speech since the last end that was told."""

    def feed(self, probabilities: Sequence[float], first: int, options: SessionOptions) -> None:
        """Takes the probabilities of speech of frames, the first of which begins at the sample `first`."""
        for number, probability in enumerate(probabilities, 1):
            if is_speech(probability, options):
                self._end = first + number * FRAME

    def note(self, outputs: Sequence[Output]) -> None:
        """Takes what the session puts out: an utterance begins with the first speech that is a segment."""
        if any(isinstance(output, SpeechStarted) for output in outputs):
            self.is_open = True

    def silent_s(self, position: int) -> float:
        """Returns the seconds of audio without speech until a position."""
        return (position - self._end) / SAMPLE_RATE

    def close(self) -> UtteranceEnd:
        """Ends the utterance, and returns the message that says so."""
        self.is_open = False
        return UtteranceEnd(at=seconds(self._end))
