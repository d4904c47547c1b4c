"""The transcribing gateway and the speech that its clients send, faster than real time as far as the allowance goes."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from loadtests.bench.audio.words import edits, normalise
from tests.conftest import Gateway

JFK = Path(__file__).parents[2] / "audio" / "data" / "jfk.flac"
TEXT = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country. "
KEY = "an-api-key-of-alice-that-is-long-enough"
RATE = 24_000
CHUNK_S = 0.2
PACE = 6.0
"""Times real time: the tests wait for the model more than for the speech."""


@cache
def speech() -> bytes:
    """Returns 11 s of PCM at 24 kHz, and a second and a half of silence."""
    samples, rate = soundfile.read(JFK, dtype="float32")
    at_24_khz = soxr.resample(samples, rate, RATE)
    pcm = np.rint(np.clip(at_24_khz, -1, 1) * 32_767).astype("<i2").tobytes()
    return pcm + bytes(3 * RATE)


async def chunks(pcm: bytes) -> AsyncIterator[str]:
    """Yields audio as base64, at PACE."""
    size = int(CHUNK_S * RATE) * 2
    for at in range(0, len(pcm), size):
        yield base64.b64encode(pcm[at : at + size]).decode()
        await asyncio.sleep(CHUNK_S / PACE)


async def speak(append: Callable[..., Awaitable[None]], pcm: bytes) -> None:
    async for chunk in chunks(pcm):
        await append(audio=chunk)


def errors(text: str) -> int:
    """Counts the words that are wrong, missing or too many."""
    return edits(normalise(TEXT), normalise(text))


def transcribing_gateway(folder: Path) -> Gateway:
    """Returns a gateway that asks for a key; it is not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    return Gateway(folder, {"TRILANE_API_KEYS": f"alice:{KEY}"}, unit="audio")
