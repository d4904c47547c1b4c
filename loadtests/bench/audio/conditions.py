"""The conditions under which speech must be heard: each is a row of the accuracy case, made from clean recordings.

Digits and commands are spoken by espeak-ng (Debian's package); the rows are left out where it is not installed.
Everything else is made with numpy, soxr and PyAV from the recordings, and is the same in every run.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import av
import av.filter
import numpy as np
import soxr

from loadtests.bench.audio.speech import LONGEST_S, RATE, SEED, Recording, Samples, silence
from loadtests.bench.audio.words import normalise

VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb+f2", "en-gb-x-rp")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COMMANDS = (
    "yes",
    "no",
    "stop",
    "go back",
    "next please",
    "cancel my order",
    "speak to an agent",
    "repeat that",
    "my account",
    "turn it off",
    "pay my bill",
    "good morning",
    "open the door",
    "play some music",
    "what time is it",
    "call me back",
    "thank you",
    "help",
    "start over",
    "main menu",
)
CONDITIONS = (
    "clean",
    "long-form",
    "telephone",
    "digits",
    "commands",
    "noisy 15 dB",
    "noisy 10 dB",
    "noisy 5 dB",
    "soft -45 dBFS",
    "fast 1.8",
    "two speakers",
    "reverberant",
)
ANSWER_PAUSE_S = 1.2
"""Seconds between two short answers: longer than endpointing takes."""
TURN_PAUSE_S = 0.25
"""Seconds between two people who answer each other at once."""


def rows(recordings: Sequence[Recording], words: int) -> dict[str, list[Recording]]:
    """Returns the recordings of each condition: about so many words of each."""
    clean = _first([one for one in recordings if one.kind == "clean" and one.seconds <= LONGEST_S], words)
    long = [one for one in recordings if one.kind == "long-form"] + _chapters(recordings)
    made = (
        clean,
        _first(long, words),
        _each(clean, "telephone", telephone),
        _answers("digits", DIGITS, 10, words),
        _answers("commands", COMMANDS, 6, words),
        *(_each(clean, f"noisy{ratio}", partial(noisy, ratio_db=ratio)) for ratio in (15, 10, 5)),
        _each(clean, "soft", partial(loud, dbfs=-45.0)),
        _each(clean, "fast", partial(faster, tempo=1.8)),
        _dialogues(clean),
        _each(clean, "reverberant", reverberant),
    )
    return {name: row for name, row in zip(CONDITIONS, made, strict=True) if row}


# What is done to samples


def telephone(samples: Samples) -> Samples:
    """Returns speech as a telephone carries it: 300 to 3,400 Hz, 8,000 samples a second in 8 bits of mu-law."""
    narrow = band(soxr.resample(samples, RATE, 8000), 8000, 300, 3400)
    companded = np.sign(narrow) * np.log1p(255 * np.abs(np.clip(narrow, -1, 1))) / np.log(256)
    heard = np.round(companded * 127) / 127
    expanded = np.sign(heard) * np.expm1(np.abs(heard) * np.log(256)) / 255
    return soxr.resample(expanded.astype(np.float32), 8000, RATE).astype(np.float32)


def band(samples: Samples, rate: int, low: float, high: float) -> Samples:
    """Returns samples without what lies outside a band, in Hz."""
    spectrum = np.fft.rfft(samples)
    at = np.fft.rfftfreq(len(samples), 1 / rate)
    spectrum[(at < low) | (at > high)] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def noisy(samples: Samples, ratio_db: float) -> Samples:
    """Returns speech in pink noise, so many dB above it."""
    spectrum = np.fft.rfft(np.random.default_rng(SEED).normal(0, 1, len(samples)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(samples))
    noise *= _level(samples) * 10 ** (-ratio_db / 20) / np.sqrt(np.mean(noise**2))
    return np.clip(samples + noise, -1, 1).astype(np.float32)


def loud(samples: Samples, dbfs: float) -> Samples:
    """Returns speech of so many dB full scale, in 16 bits."""
    scaled = samples * (10 ** (dbfs / 20) / _level(samples))
    return (np.round(scaled * 32_768) / 32_768).astype(np.float32)


def reverberant(samples: Samples) -> Samples:
    """Returns speech in a room that dies away by 60 dB in 0.6 s, as loud as the direct sound."""
    t = np.arange(int(0.6 * RATE)) / RATE
    room = np.random.default_rng(SEED).normal(0, 1, len(t)) * np.exp(-6.9 * t / 0.6)
    room *= 1 / np.sqrt(np.sum(room**2))
    room[0] += 1.0
    length = len(samples) + len(room)
    wet = np.fft.irfft(np.fft.rfft(samples, length) * np.fft.rfft(room, length), length)
    return (wet * (_level(samples) / np.sqrt(np.mean(wet**2)))).astype(np.float32)


def faster(samples: Samples, tempo: float) -> Samples:
    """Returns faster speech of the same pitch."""
    graph: Any = av.filter.Graph()
    layout = {"sample_rate": RATE, "format": "flt", "layout": "mono", "time_base": Fraction(1, RATE)}
    graph.link_nodes(graph.add_abuffer(**layout), graph.add("atempo", str(tempo)), graph.add("abuffersink")).configure()
    frame: Any = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    graph.push(frame)
    graph.push(None)
    parts: list[Samples] = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray()[0])
        except (EOFError, BlockingIOError):  # PyAV's own are kinds of them
            return np.concatenate(parts).astype(np.float32)


def _level(samples: Samples) -> float:
    """Returns the level of the louder half: speech, without its pauses."""
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
    power = np.sort(np.mean(frames.astype(np.float64) ** 2, axis=1))[len(frames) // 2 :]
    return float(np.sqrt(np.mean(power))) or 1e-6


# What rows are made of


def _first(recordings: Iterable[Recording], words: int) -> list[Recording]:
    chosen: list[Recording] = []
    count = 0
    for one in recordings:
        if count < words:
            chosen.append(one)
            count += len(normalise(one.text))
    return chosen


def _each(recordings: Sequence[Recording], prefix: str, change: Callable[[Samples], Samples]) -> list[Recording]:
    return [Recording(f"{prefix} {one.name}", one.text, change(one.samples)) for one in recordings]


def _chapters(recordings: Sequence[Recording]) -> list[Recording]:
    """Returns sentences of one reader, read one after the other, in pieces of about 45 s."""
    sentences = [one for one in recordings if one.name.startswith("lj_")]
    return [_joined(f"chapter {at}", sentences[at : at + 7], 0.4) for at in range(0, len(sentences), 7)]


def _dialogues(recordings: Sequence[Recording]) -> list[Recording]:
    """Returns two speakers by turns, who hardly wait for each other."""
    half = len(recordings) // 2
    pairs = zip(recordings[:half], reversed(recordings[half:]), strict=False)
    return [_joined(f"dialogue {at}", pair, TURN_PAUSE_S) for at, pair in enumerate(pairs)]


def _joined(name: str, parts: Sequence[Recording], pause_s: float) -> Recording:
    pieces = [piece for one in parts for piece in (one.samples, silence(pause_s))]
    return Recording(name, " ".join(one.text for one in parts), np.concatenate(pieces[:-1]))


def _answers(name: str, answers: Sequence[str], of_each: int, words: int) -> list[Recording]:
    """Returns short answers, ANSWER_PAUSE_S apart, by synthetic voices; nothing where there is none."""
    if shutil.which("espeak-ng") is None:
        return []
    random = np.random.default_rng(SEED)
    made: list[Recording] = []
    count = 0
    while count < words:
        voice = VOICES[len(made) % len(VOICES)]
        spoken = [str(answers[at]) for at in random.permutation(len(answers))[:of_each]]
        parts = [Recording("", text, _spoken(text, voice)) for text in spoken]
        made.append(_joined(f"{name} {len(made)} {voice}", parts, ANSWER_PAUSE_S))
        count += len(normalise(made[-1].text))
    return made


_voiced: dict[tuple[str, str], Samples] = {}


def _spoken(text: str, voice: str) -> Samples:
    key = (text, voice)
    if key not in _voiced:
        command = ["espeak-ng", "-v", voice, "-s", "150", "--stdout", text]
        wav = subprocess.run(command, check=True, capture_output=True).stdout  # 22,050 Hz, 16 bits, a header of 44
        samples = np.frombuffer(wav[44:], "<i2").astype(np.float32) / 32_768
        heard = np.flatnonzero(np.abs(samples) > 0.002)
        _voiced[key] = soxr.resample(samples[heard[0] : heard[-1] + 1], 22_050, RATE).astype(np.float32) * np.float32(
            0.5
        )
    return _voiced[key]
