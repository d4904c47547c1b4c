"""The port to a voice, which speaks, and the values that pass through it."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

import msgspec
import numpy as np

from audio.model.transcriber import Samples

CLOSING = "\"')]”’"  # noqa: RUF001 - marks that may follow the stop of a sentence, a quotation's among them
VOICE_RATE = 24_000
"""Samples a second of all speech, which is mono, float32 and between -1 and 1, whichever voice made it."""
MAX_TASK_CHARS = 1000
"""Maximum characters of one task: a minute of speech, which takes a core half a second."""
MIN_SPEED, MAX_SPEED = 0.25, 4.0
"""The speeds that a client may ask for; 1 is the voice's own."""
PROBE = "The voice of this probe is known by its bits, all 24,000 a second."
"""A phrase that has numbers, a comma and an end, so that all of a voice's parts take part in it."""


class SpeechTask(msgspec.Struct, frozen=True, kw_only=True):
    """A text that a voice is to say."""

    text: str
    """MAX_TASK_CHARS at most, made speakable before (`audio.speech.speakable`)."""
    voice: str = ""
    """One of the voice's names; empty means the first."""
    speed: float = 1.0
    seed: int = 0
    """The seed of what is random in it: the same task with the same seed is the same sound."""
    instructions: str = ""
    """How it is to be said, for a voice that takes such words."""


class Voice(Protocol):
    """One voice, or one model with several, shared by whoever speaks in the process.

    The caller must keep at most `workers` calls in flight, and give only what `can_say`. The implementer must block no
    event loop with a call, let nothing of one task touch another, and keep nothing of a task.
    """

    model: str
    """The name of the model, as clients, usage rows and prices name it."""
    names: Sequence[str]
    """The names of its voices, the default's first. Where it is empty, any name is tried."""
    is_repeatable: bool
    """Whether the same task is the same samples, bit for bit, in every process on one kind of processor."""
    workers: int
    """Number of calls that run at once."""

    async def open(self) -> None:
        """Loads the model. Raises ConfigurationError when that cannot be done."""
        ...

    async def close(self) -> None: ...

    def can_say(self, text: str) -> bool:
        """Tells whether any sound would come of a text, and nearly all of it be said."""
        ...

    async def speak(self, task: SpeechTask) -> Samples:
        """Returns the speech. Raises TrilaneError (`voice_failed`) when there is none to be had."""
        ...


LOUD = 0.01
"""The level from which a sample is speech and no silence: of full scale, 30 dB below what is loud in speech."""
LEAD_S = 0.06
"""Seconds kept before the first of them: a soft consonant may begin there."""
PAUSE_S, SENTENCE_PAUSE_S = 0.18, 0.4
"""Seconds kept behind the last of them, and behind that of a sentence: the pause before what is said next."""


def without_silence(sound: Samples, task: SpeechTask) -> Samples:
    """Returns a clause's sound with a reader's pauses around it, where the voice has made longer ones.

    `heart` begins each clause with a third of a second of silence, which whoever asked would wait for, and ends it with
    almost half a second, at a comma too.
    """
    loud = np.flatnonzero(np.abs(sound) >= LOUD)
    if not len(loud):
        return sound
    is_sentence = task.text.rstrip(CLOSING).endswith((".", "!", "?", "…"))
    pause_s = SENTENCE_PAUSE_S if is_sentence else PAUSE_S
    lead, pause = round(LEAD_S * VOICE_RATE), round(pause_s / task.speed * VOICE_RATE)
    return sound[max(0, loud[0] - lead) : loud[-1] + 1 + pause]


async def fingerprint(voice: Voice) -> str:
    """Returns what tells whether two processes speak with the same bits; empty for a voice that never does."""
    if not voice.is_repeatable:
        return ""
    samples = await voice.speak(SpeechTask(text=PROBE))
    return sha256(f"{voice.model}\n".encode() + samples.tobytes()).hexdigest()[:16]
