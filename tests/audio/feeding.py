"""Helpers of the decoders' tests make streams of sound and feed them into a decoder."""

import asyncio
import io
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from itertools import pairwise

import av
import numpy as np
import soundfile
from hypothesis import strategies as st

from audio.decoders.decoder import decoder
from audio.decoders.formats import Decoder, Encoding
from audio.model.transcriber import Samples

DEADLINE_S = 10.0
"""Seconds after which a decoder counts as hung."""

cuts = st.lists(st.integers(0, 2**16), max_size=12)
"""Places at which a stream is cut; each counts modulo the stream's length."""


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


async def decode_stream(one: Decoder, pieces: Iterable[bytes]) -> Samples:
    """Returns all samples that a decoder makes of these pieces, and closes the decoder in any case."""
    parts: list[Samples] = []
    try:
        for piece in pieces:
            if len(samples := await asyncio.wait_for(one.feed(piece), DEADLINE_S)):
                parts.append(samples)
        while len(rest := await asyncio.wait_for(one.flush(), DEADLINE_S)):
            parts.append(rest)
    finally:
        one.close()
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def decode_all(encoding: Encoding, pieces: Iterable[bytes], rate: int = 16_000, channels: int = 1) -> Samples:
    return asyncio.run(decode_stream(decoder(encoding, rate, channels), pieces))


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@cache
def opus(container: str, seconds: float = 1.0, layout: str = "mono", page_ms: int = 20) -> bytes:
    return mux(container, "libopus", tone(seconds, 48_000), 48_000, layout, page_ms)


def mux(
    container: str,
    codec: str,
    samples: Samples,
    rate: int,
    layout: str = "mono",
    page_ms: int = 20,
    film: bool = False,
    opposed: bool = False,
) -> bytes:
    """Encodes samples, the same in each channel unless they have a column for each.

    Where they are `opposed`, every other channel is turned around.
    """
    file = io.BytesIO()
    options = {"page_duration": str(1000 * page_ms)} if container == "ogg" else {"live": "1"}
    with av.open(file, "w", container, container_options=options) as file_out:
        pictures = file_out.add_stream("libvpx", rate=25, width=64, height=64, pix_fmt="yuv420p") if film else None
        sound = file_out.add_stream(codec, rate=rate, layout=layout)
        if pictures is not None:
            file_out.mux([*pictures.encode(av.VideoFrame(64, 64, "yuv420p")), *pictures.encode(None)])
        count = sound.codec_context.channels if samples.ndim == 1 else 1
        sides = np.repeat((samples * 32767).astype(np.int16).reshape(-1), count)
        if opposed:
            sides[1::2] *= -1
        frame = av.AudioFrame.from_ndarray(sides[None], "s16", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        file_out.mux([*sound.encode(frame), *sound.encode(None)])
    return file.getvalue()


@cache
def film() -> bytes:
    """Returns WebM with a picture and a second of sound."""
    return mux("webm", "libopus", tone(1.0, 48_000), 48_000, film=True)


@cache
def video() -> bytes:
    """Returns WebM without sound."""
    file = io.BytesIO()
    with av.open(file, "w", "webm") as file_out:
        pictures = file_out.add_stream("libvpx", rate=25, width=64, height=64, pix_fmt="yuv420p")
        file_out.mux([*pictures.encode(av.VideoFrame(64, 64, "yuv420p")), *pictures.encode(None)])
    return file.getvalue()


def encode_file(
    samples: Samples, rate: int, container: str, subtype: str | None = None, endian: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype, endian=endian)
    return file.getvalue()


@cache
def flac(seconds: float = 1.0, rate: int = 16_000) -> bytes:
    return encode_file(tone(seconds, rate), rate, "FLAC")
