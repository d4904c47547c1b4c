"""Defines what a client may ask of its session, and the constants within which the session works."""

from typing import NamedTuple

import msgspec

from audio.messages import ServerMessage, TurnOver
from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME

ON = 0.5
"""The threshold of speech: a segment begins with ONSET_FRAMES frames in a row whose probability reaches it."""
OFF = 0.35
"""The threshold of silence that goes with ON: a segment is over when all frames of `endpointing_s` are below it."""
ONSET_FRAMES = 2
PREFIX = 15 * FRAME
"""Samples kept before the first frame of speech: a soft beginning is quieter than the threshold."""
TAIL = 6 * FRAME
"""Samples kept after the last frame of speech."""
MIN_CUT = 12 * SAMPLE_RATE
"""Samples that the first part of a segment has at the least, when the segment is cut because it is too long."""
MAX_SEGMENT = 24 * SAMPLE_RATE
"""Maximum length of a segment in samples; a longer one is cut at its best pause after MIN_CUT."""
MAX_WAITING = 120 * SAMPLE_RATE
"""Maximum age, in samples, of a closed segment that waits for the model; past it the oldest one becomes a gap."""
LANGUAGE_SAMPLES = 3 * SAMPLE_RATE
"""Samples of speech from which a language is detected before the first final; then it is the session's."""
SILENT_SETTLE = 5 * SAMPLE_RATE
"""Samples of silence after which a session reports again what is settled."""
MAX_PROMPT = 1000
"""Maximum number of characters of a prompt: Whisper reads 223 tokens of one."""


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that a client asks of its session."""

    interim_results: bool = True
    words: bool = False
    endpointing_s: float | None = 0.5
    """Seconds of silence that end a turn. None: only `commit` ends one, and all before it is in it, speech or not."""
    threshold: float = ON
    prefix_s: float = PREFIX / SAMPLE_RATE
    language: str | None = None
    prompt: str = ""
    turns: bool = False
    """Whether messages name their turn, and TurnOver is put out when all of one is settled."""


class SessionTerms(NamedTuple):
    """The terms on which a connection has its session."""

    sample_rate: int
    """The rate of the samples that its client counts."""
    options: SessionOptions


class Settled(msgspec.Struct, frozen=True):
    """The note that all before a sample is settled. The client is not sent this; it is recorded, then acknowledged."""

    position: int


Output = ServerMessage | Settled | TurnOver
