"""Defines what a client may ask of its session, and the constants within which the session works."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from audio.messages import ServerMessage, TurnOver
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.text_forms import TextForms

ON = 0.5
"""The threshold of speech: a segment begins with ONSET_FRAMES frames in a row whose probability reaches it."""
OFF = 0.35
"""The threshold of silence that goes with ON: a segment is over when all frames of `endpointing_s` are below it."""
ONSET_FRAMES = 2
ONSET = ONSET_FRAMES * FRAME
LOOKBACK_FRAMES = 31
"""Frames, a second of them, over which the beginning of speech is looked back for."""
HINT, HINT_PAUSE = 0.3, 2
"""The share of the threshold from which a frame before the certain ones is speech too, and frames it may pause for."""
PREFIX = 15 * FRAME
"""Samples kept before the first frame of speech: a soft beginning is quieter than the threshold."""
TAIL = 6 * FRAME
"""Samples kept after the last frame of speech."""
MAX_SEGMENT = 24 * SAMPLE_RATE
"""Maximum length of a segment in samples, unless its client wants less; a longer one is cut in its second half."""
MAX_WAITING = 120 * SAMPLE_RATE
"""Maximum age, in samples, of a closed segment that waits for the model; past it the oldest one becomes a gap."""
SILENT_SETTLE = 5 * SAMPLE_RATE
"""Samples of silence after which a session reports again what is settled."""
MAX_PROMPT = 1000
"""Maximum number of characters of a prompt: Whisper reads 223 tokens of one."""


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that a client asks of its session."""

    interim_results: bool = True
    words: bool = False
    endpointing_s: float | None = 0.5
    """Seconds of silence that end a turn. None: only `commit` ends one, and all before it is in it, speech or not.

    Infinity: no silence ends one, only `flush`, and what is no speech is in none.
    """
    utterance_end_s: float | None = None
    """Seconds of silence after which UtteranceEnd is put out; None: it never is."""
    max_segment: int = MAX_SEGMENT
    """Maximum length of a segment in samples; it is cut at the best pause of its second half."""
    threshold: float = ON
    """The probability of speech, 0 to 1, that a segment begins with."""
    prefix_s: float = PREFIX / SAMPLE_RATE
    """Seconds kept before the first frame of speech."""
    language: str | None = None
    """The code of the language; None has it detected."""
    model: str = ""
    """The name of the speech model; empty means the default."""
    translates: bool = False
    """Whether what was said is put into English."""
    prompt: str = ""
    split: bool = False
    """Whether two channels are heard apart; then messages about speech name their channel."""
    forms: TextForms | None = None
    """The forms of text that are asked for; None: as it is heard."""
    turns: bool = False
    """Whether messages name their turn, and TurnOver is put out when all of one is settled."""

    @property
    def voices(self) -> int:
        """Returns how many may speak in the session at once."""
        return 2 if self.split else 1


def with_keywords(prompt: str | None, keywords: Sequence[str]) -> str:
    """Returns the prompt with the keywords: Whisper knows no keywords, but spells as its prompt does."""
    return " ".join(part for part in (prompt, ", ".join(keywords)) if part)


class SessionTerms(NamedTuple):
    """The terms on which a connection has its session."""

    sample_rate: int
    """The rate of the samples that its client counts."""
    options: SessionOptions


class Settled(msgspec.Struct, frozen=True):
    """The note that all before a sample is settled. The client is not sent this; it is recorded, then acknowledged."""

    position: int


Output = ServerMessage | Settled | TurnOver
