"""What a client asked of its session, and the bounds within which it gets it."""

import msgspec

from audio.messages import ServerMessage, TurnOver
from audio.model.transcriber import SAMPLE_RATE
from audio.segment import FRAME

ON = 0.5
"""Speech begins with ONSET_FRAMES frames above it,"""
OFF = 0.35
"""and is over when all are below this for `endpointing_s`."""
ONSET_FRAMES = 2
PREFIX = 15 * FRAME
"""Kept before the first frame of speech: a soft beginning is quieter than the threshold."""
TAIL = 6 * FRAME
"""Kept after the last one."""
MIN_CUT = 12 * SAMPLE_RATE
MAX_SEGMENT = 24 * SAMPLE_RATE
"""A longer one is cut at its best pause, between the two."""
MAX_WAITING = 120 * SAMPLE_RATE
"""Audio of closed segments that waits for the model; past it the oldest segment becomes a gap."""
LANGUAGE_SAMPLES = 3 * SAMPLE_RATE
"""Before a final, a language is only told from so much speech; then it is the session's."""
SILENT_SETTLE = 5 * SAMPLE_RATE
"""In silence, what is settled is said this often."""


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked of its session."""

    interim_results: bool = True
    words: bool = False
    endpointing_s: float | None = 0.5
    """None: whoever listens says where a turn ends, by `commit`, and all before that is the turn, speech or not."""
    threshold: float = ON
    prefix_s: float = PREFIX / SAMPLE_RATE
    language: str | None = None
    prompt: str = ""
    turns: bool = False
    """Messages say of which turn they are, and TurnOver is told."""


class Settled(msgspec.Struct, frozen=True):
    """Everything before this sample is settled: not for the client as it is, but to be recorded and acknowledged."""

    position: int


Output = ServerMessage | Settled | TurnOver
