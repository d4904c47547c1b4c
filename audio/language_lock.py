"""Decides in which language a session is heard, where its client has not said: what most of its first speech was in.

Whisper detects the language of each piece of audio anew, and of short ones badly: "no" is a word of four languages. So
each final of the first LOCK_S of speech may be in another one; then the language is settled.
"""

from collections.abc import Sequence

from audio.messages import Final
from audio.model.transcriber import Transcription, TranscriptionTask
from audio.options import Output

LOCK_S = 5.0
"""Seconds of speech after which the language is settled."""


class LanguageLock:
    """Collects what is known of the language, until that is enough."""

    __slots__ = ("_probability", "_spoken_s", "_weights")

    def __init__(self) -> None:
        self._spoken_s = 0.0
        """The seconds of all finals so far."""
        self._weights: dict[str, float] = {}
        """The seconds of finals in each language, each by how probable the language was."""
        self._probability = 1.0
        """The probability of the language of the newest answer for a final."""

    @property
    def leading(self) -> str | None:
        """Returns the language that most speech was in so far; None before there was any."""
        return max(self._weights, key=self._weights.__getitem__, default=None)

    def hear(self, task: TranscriptionTask, answer: Transcription) -> str | None:
        """Takes an answer of the model. Returns the language once one long answer alone is enough to settle it."""
        if task.is_final:
            self._probability = answer.language_probability
        is_enough = bool(answer.text) and task.seconds >= LOCK_S and not answer.unsure
        return answer.language if is_enough else None

    def pass_on(self, outputs: Sequence[Output]) -> str | None:
        """Takes what a session puts out. Returns the language once its finals are enough to settle it."""
        for final in outputs:
            if isinstance(final, Final) and final.text:
                length_s = final.end - final.start
                self._spoken_s += length_s
                self._weights[final.language] = self._weights.get(final.language, 0.0) + length_s * self._probability
        return self.leading if self._spoken_s >= LOCK_S else None
