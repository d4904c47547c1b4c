"""Audio users say recordings of a folder, or the one that the repository has for its own tests.

That one is eleven seconds of an inaugural address, in the public domain; twenty-two words whose errors can be counted.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.audio.client import pcm
from loadtests.bench.audio.speech import LONGEST_S, RATE, Recording, read, tracks

SAMPLE = Path(__file__).resolve().parents[2] / "tests" / "audio" / "data" / "jfk.flac"
SAMPLE_TEXT = (
    "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
)
AT_LEAST_S = 10.0
"""Seconds of speech in one session: with fewer words one error would make a bad rate."""
MOST = 32
"""Maximum speeches that are made of a folder's recordings."""
BYTES_PER_SAMPLE = 2
BYTES_PER_S = BYTES_PER_SAMPLE * RATE


class NoSpeech(Exception):
    """There is nothing to say; the message names the folder and what was wanted."""


class Speech(NamedTuple):
    """Holds what one session says: 16-bit samples at 16 kHz, with pauses, and its words."""

    pcm: bytes
    text: str

    @property
    def seconds(self) -> float:
        return len(self.pcm) / BYTES_PER_S


@cache
def speeches(folder: str) -> list[Speech]:
    """Returns speeches of a folder with `transcripts.tsv`, or of the repository's sample. Raises NoSpeech.

    Sentences of up to LONGEST_S, joined until there are AT_LEAST_S. Recordings whose names tell that they are noisy,
    telephone speech or long-form are left out: their words are wrong more often than a bound allows.
    """
    recordings = _recordings(Path(folder)) if folder else [_sample()]
    if not any(one.kind == "clean" and one.seconds <= LONGEST_S for one in recordings):
        raise NoSpeech(f"--speech {folder}: no clean recording of up to {LONGEST_S:g} s among {len(recordings)}")
    parts = tracks(recordings, min(MOST, len(recordings)), AT_LEAST_S)
    return [Speech(pcm(track.samples), " ".join(part.text for _, part in track.parts)) for track in parts]


def _sample() -> Recording:
    """Returns the repository's sample. Raises NoSpeech."""
    import soundfile  # comes with the extra `audio`, which a client of a foreign gateway may lack

    try:
        samples, _ = soundfile.read(SAMPLE, dtype="float32")
    except (OSError, RuntimeError) as err:
        raise NoSpeech(f"the sample is not where it should be ({err}): give recordings with --speech DIR") from err
    return Recording(SAMPLE.name, SAMPLE_TEXT, samples)


def _recordings(folder: Path) -> list[Recording]:
    try:
        return read(folder)
    except (OSError, ValueError, KeyError, RuntimeError) as err:
        advice = f"want recordings of {RATE} Hz, mono, and a transcripts.tsv with the columns file and text"
        raise NoSpeech(f"--speech {folder}: {advice}: {err!r}") from err
