"""Recorded speech with its exact text is spoken to the servers, and sounds that are no speech.

A folder of speech has `transcripts.tsv` with the columns `file` and `text`, and those files, 16 kHz mono.
"""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

RATE = 16_000
PAUSE_S = 1.5
"""Seconds between two recordings of a track: more than endpointing takes."""
LONGEST_S = 15.0
"""Seconds of the longest recording in a track: one sentence or two, as people speak to a machine."""
SEED = 20

Samples = npt.NDArray[np.float32]


class Recording(NamedTuple):
    """Speech, and what is said in it."""

    name: str
    text: str
    samples: Samples

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    @property
    def kind(self) -> str:
        if "noisy" in self.name:
            return "noisy"
        if self.name.startswith("ls8k"):
            return "8 kHz"
        return "long-form" if self.name.startswith("sonnet") else "clean"


class Track(NamedTuple):
    """Recordings one after the other, with pauses, and where each begins."""

    samples: Samples
    parts: list[tuple[float, Recording]]


def read(folder: Path) -> list[Recording]:
    """Returns all recordings of a folder. Raises OSError, ValueError."""
    with (folder / "transcripts.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [Recording(row["file"], row["text"], _samples(folder / row["file"])) for row in rows]


def tracks(recordings: Sequence[Recording], count: int, seconds: float) -> list[Track]:
    """Returns so many tracks of about so many seconds, none like the other: clean speech in sentences."""
    usable = [one for one in recordings if one.kind == "clean" and one.seconds <= LONGEST_S]
    return [_track(random.Random(SEED + number).sample(usable, len(usable)), seconds) for number in range(count)]


def deal(recordings: Sequence[Recording], hands: int) -> list[list[Recording]]:
    """Deals all recordings into hands of nearly equal length; those with the most recordings first."""
    piles: list[list[Recording]] = [[] for _ in range(hands)]
    for recording in sorted(recordings, key=lambda one: one.seconds, reverse=True):
        min(piles, key=lambda hand: sum(one.seconds for one in hand)).append(recording)
    return sorted(piles, key=len, reverse=True)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)


def sounds(seconds: float) -> dict[str, Samples]:
    """Returns sounds without a word."""
    makers: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
        "silence": np.zeros_like,
        "white noise": lambda t: np.random.default_rng(SEED).normal(0, 0.05, len(t)),
        "50 Hz hum": lambda t: 0.1 * sum(np.sin(2 * np.pi * 50 * n * t) / n for n in (1, 2, 3, 5)),
        "clicks": _clicks,
        "tones": _tones,
    }
    t = np.arange(int(seconds * RATE)) / RATE
    return {name: make(t).astype(np.float32) for name, make in makers.items()}


def _clicks(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns about three clicks a second, each of 2 ms, like those of keys."""
    rng = np.random.default_rng(SEED)
    clicks = np.zeros_like(t)
    for at in rng.integers(0, len(t) - 32, int(3 * len(t) / RATE)):
        clicks[at : at + 32] += rng.normal(0, 0.5, 32) * np.linspace(1, 0, 32)
    return clicks


def _tones(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns sound like music: two plucked notes a second of a minor scale, with overtones, over a held chord."""
    rng = np.random.default_rng(SEED)
    scale = 220 * 2 ** (np.array([0, 2, 3, 5, 7, 8, 10, 12]) / 12)
    tones = 0.03 * sum(np.sin(2 * np.pi * scale[n] * t / 2) for n in (0, 2, 4))
    for begin in range(0, len(t), RATE // 2):
        note, since = rng.choice(scale), t[begin : begin + RATE] - t[begin]
        tones[begin : begin + RATE] += sum(
            0.15 / n * np.sin(2 * np.pi * note * n * since) * np.exp(-4 * n * since) for n in (1, 2, 3, 4)
        )
    return tones


def _samples(path: Path) -> Samples:
    samples, rate = soundfile.read(path, dtype="float32")
    if rate != RATE or samples.ndim != 1:
        raise ValueError(f"{path.name}: want {RATE} Hz mono")
    return samples


def _track(recordings: Sequence[Recording], seconds: float) -> Track:
    pieces: list[Samples] = [silence(0.5)]
    parts: list[tuple[float, Recording]] = []
    at_s = 0.5
    while at_s < seconds:
        recording = recordings[len(parts) % len(recordings)]
        parts.append((at_s, recording))
        pieces += [recording.samples, silence(PAUSE_S)]
        at_s = sum(map(len, pieces)) / RATE
    return Track(np.concatenate(pieces), parts)
