"""Decides whether what is heard while an answer is spoken interrupts it: a pause at once, the interruption on words.

A fifth of a second of speech pauses the answer, so that whoever interrupts is not talked over. What is said then
decides. Words that only show that somebody listens, and the answer's own words that a microphone has picked up, are no
interruption: after a silence the answer goes on where it was. Pure: times are those of a clock that never goes back.
"""

import re
from collections.abc import Sequence
from typing import Literal

from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME

BargeInMode = Literal["off", "speech", "words"]
"""What interrupts an answer: nothing, speech that lasts, or words."""
Verdict = Literal["pause", "interrupt", "resume"]

SPEECH = 0.6
"""The probability from which a frame is speech."""
NO_SPEECH = 0.35
"""The probability below which a frame is none."""
PAUSE_S = 0.2
"""Seconds of speech that pause an answer."""
CONFIRM_S = 0.7
"""Seconds of speech that interrupt it, where no words of it are known that say otherwise."""
GAP_S = 0.15
"""Seconds without speech that end a stretch of it."""
RESUME_S = 1.5
"""Seconds of silence after which a paused answer goes on."""
ECHO = 0.7
"""The share of the words heard that stand, in order, in what was spoken just now, and make them an echo."""
ECHO_WORDS = 8
"""The newest words that are compared: as many as were spoken just now, whatever was heard before them."""
MISHEARD = 2
"""The newest words that may be misheard of an echo that is known: as much does not interrupt."""
FRAME_S = FRAME / SAMPLE_RATE

_BACK_CHANNELS = "uh huh um mm mmm mhm hm hmm hum ah aha oh ok okay yeah yep yes right sure"
BACK_CHANNELS = frozenset(_BACK_CHANNELS.split())
"""Words with which somebody shows that they listen."""
_NUMBERS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion first second third
"""
NUMBERS = frozenset(_NUMBERS.split())
"""Words that may be heard as digits, and so are not compared."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")  # noqa: RUF001 - an apostrophe


def words_of(text: str) -> list[str]:
    """Returns the words of a text, as they are compared."""
    words = [word.replace("’", "'") for word in _WORD.findall(text.lower())]  # noqa: RUF001 - an apostrophe
    return [word for word in words if word not in NUMBERS and not word[0].isdigit()]


def is_back_channel(words: Sequence[str]) -> bool:
    """Tells whether words only show that somebody listens."""
    return all(word in BACK_CHANNELS for word in words)


def is_echo(words: Sequence[str], spoken: Sequence[str]) -> bool:
    """Tells whether the newest words were picked up from the speaker, which has `spoken` just now."""
    newest = words[-ECHO_WORDS:]
    return bool(newest) and _common(newest, spoken) >= ECHO * len(newest)


def _is_misheard(words: Sequence[str], spoken: Sequence[str]) -> bool:
    """Tells whether so few words are not those that were spoken that they may be misheard."""
    newest = words[-ECHO_WORDS:]
    return len(newest) - _common(newest, spoken) <= MISHEARD


def _common(words: Sequence[str], spoken: Sequence[str]) -> int:
    """Returns the number of words that stand in both, in the same order."""
    counts = [0] * (len(spoken) + 1)
    for word in words:
        before = 0
        for place, other in enumerate(spoken, 1):
            above = counts[place]
            counts[place] = before + 1 if word == other else max(above, counts[place - 1])
            before = above
    return counts[-1]


class BargeIn:
    """Listens while one answer is spoken, or about to be."""

    def __init__(self, mode: BargeInMode, *, has_echo: bool = False) -> None:
        """`has_echo`: the microphone picks the answer up, as it did before."""
        self.has_echo = has_echo
        """Whether it does: then speech alone pauses nothing, or the answer would pause itself for ever."""
        self._mode = mode
        self._speech_s = 0.0
        """Seconds of speech in the stretch that is heard."""
        self._gap_s = 0.0
        """Seconds since its last frame of speech."""
        self._spoke_at = 0.0
        """The time of the newest frame of speech."""
        self._has_words = False
        """Whether words were said that interrupt."""
        self._is_dismissed = False
        """Whether words of the stretch are known, and do not interrupt."""

    def listen(self, probabilities: Sequence[float], now: float) -> None:
        """Takes the probability of speech of frames that have just come."""
        for probability in probabilities:
            if probability >= SPEECH:
                self._speech_s += FRAME_S
                self._gap_s = 0.0
                self._spoke_at = now
            elif probability < NO_SPEECH:
                self._gap_s += FRAME_S
                if self._gap_s >= GAP_S:
                    self._speech_s, self._is_dismissed = 0.0, False

    def hear(self, text: str, spoken: Sequence[str]) -> None:
        """Takes what the words are, as far as is known; `spoken`: the answer's own words of the last seconds."""
        words = words_of(text)
        if not words:
            return
        if is_echo(words, spoken):
            self._is_dismissed = self.has_echo = True
        elif is_back_channel(words) or (self.has_echo and _is_misheard(words, spoken)):
            self._is_dismissed = True
        else:
            self._has_words = True

    def judge(self, now: float, *, is_paused: bool, is_decoding: bool) -> Verdict | None:
        """Says what becomes of the answer now; `is_decoding`: whether words may still come of what was said."""
        if self._mode == "off":
            return None
        is_long = self._speech_s >= CONFIRM_S
        may_be_speech = not (self._is_dismissed or self.has_echo)
        if self._has_words or (is_long and (self._mode == "speech" or may_be_speech)):
            return "interrupt"
        if not is_paused:
            return "pause" if self._speech_s >= PAUSE_S and may_be_speech else None
        return "resume" if not is_decoding and now >= self.resume_at else None

    @property
    def resume_at(self) -> float:
        """Returns when a paused answer goes on, if nothing more is said."""
        return self._spoke_at + RESUME_S
