"""From a client's bytes to samples at 16 kHz: the decoders' one surface, and raw PCM.

However the bytes of a stream are cut, the samples are the same, and there are as many as the stream lasts. What cannot
be used is refused in a sentence (`bad_audio`), never guessed at. Raw PCM and WAV are decoded on the event loop: in
pieces of 20 ms that is 0.2 ms per second of audio at 16 kHz (float 0.7), 0.5 to 1.3 at other rates, and a third of it
in pieces of 100 ms. What needs a library is imported when it is named.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np

from audio.decoders.resample import Resampler
from audio.messages import Encoding
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest

MIN_RATE, MAX_RATE = 8000, 48_000
MAX_CHANNELS = 2
STALL_BYTES = 256 * 1024
"""Of a stream with a header: more than this without one sample is no audio."""


class Decoder(Protocol):
    """One stream of a client. One task feeds it, and calls `close` in the end.

    The caller must hand over frames of 64 KiB at most (`MAX_FRAME_BYTES`), and end the session when `bad_audio` is
    raised. The implementer owes: a call blocks no event loop; whatever the bytes are, memory stays bounded.
    """

    @property
    def samples(self) -> int:
        """Samples of the client's, per channel, at the rate named in `start`, that were taken in so far."""
        ...

    async def feed(self, data: bytes) -> Samples:
        """What these bytes and those before make, at once: at most 30 s and a bit; more comes with the next call.

        Raises BadRequest (`bad_audio`).
        """
        ...

    async def end(self) -> Samples:
        """What is still inside; no more bytes follow. To be called until it returns nothing: 30 s at a time."""
        ...

    def close(self) -> None:
        """Frees threads and buffers, in whatever state they are. May be called again."""
        ...


KnownEncoding = Encoding | Literal["alaw"]
"""A-law comes with OpenAI's dialect only."""


def decoder(encoding: KnownEncoding, sample_rate: int, channels: int, *, first: int = 0) -> Decoder:
    """For one stream, as named in `start`, whose sample `first` comes first. A container's header has the last word."""
    match encoding:
        case "pcm_s16le" | "pcm_f32le" | "mulaw" | "alaw":
            return PcmDecoder(RAW[encoding], sample_rate, channels, first=first)
        case "wav":
            from audio.decoders.wav import Wav

            return Wav(sample_rate, first=first)
        case "ogg_opus" | "webm_opus" | "flac":
            from audio.decoders.containers import container

            return container(encoding, sample_rate, first=first)


def bad_audio(detail: str) -> BadRequest:
    """Audio that cannot be heard, and why."""
    return BadRequest(detail, code="bad_audio")


def unlike(expected: str, seen: bytes) -> BadRequest:
    """A stream that is not what `start` named."""
    return bad_audio(f"expected {expected}, but the stream begins with {seen[:16]!r}")


def check(sample_rate: int, channels: int) -> None:
    """Raises `bad_audio` for what a header names and this lane does not take."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise bad_audio(f"the audio has {sample_rate} samples a second; {MIN_RATE} to {MAX_RATE} are taken")
    if not 1 <= channels <= MAX_CHANNELS:
        raise bad_audio(f"the audio has {channels} channels; 1 or {MAX_CHANNELS} are taken")


class SampleFormat(NamedTuple):
    """How one sample is written."""

    width: int
    """Bytes."""
    parse: Callable[[bytes], Samples]


def _s16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(2**-15)


def _f32(data: bytes) -> Samples:
    return tame(np.frombuffer(data, "<f4").astype(np.float32))


def tame(samples: Samples) -> Samples:
    """In place: what is no number is silence, what is too loud is as loud as can be."""
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(samples, -1.0, 1.0, out=samples)


def _mulaw_table() -> Samples:
    """ITU-T G.711: sign, three bits of exponent, four of mantissa, all inverted, with a bias of 33 (132 in 16 bits)."""
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 15).astype(np.int32) << 3) + 132 << (code >> 4 & 7)) - 132
    return (np.where(code & 128, -magnitude, magnitude) / 2**15).astype(np.float32)


MULAW = _mulaw_table()


def _mulaw(data: bytes) -> Samples:
    return MULAW[np.frombuffer(data, np.uint8)]


def _alaw_table() -> Samples:
    """ITU-T G.711: as above, but every other bit is inverted, and the lowest of the eight steps has no hidden bit."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4 & 7).astype(np.int32)
    magnitude = ((code & 15).astype(np.int32) << 4) + 8 + np.where(exponent, 256, 0) << np.maximum(exponent - 1, 0)
    return (np.where(code & 128, magnitude, -magnitude) / 2**15).astype(np.float32)


ALAW = _alaw_table()


def _alaw(data: bytes) -> Samples:
    return ALAW[np.frombuffer(data, np.uint8)]


RAW: dict[Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"], SampleFormat] = {
    "pcm_s16le": SampleFormat(2, _s16),
    "pcm_f32le": SampleFormat(4, _f32),
    "mulaw": SampleFormat(1, _mulaw),
    "alaw": SampleFormat(1, _alaw),
}


def mono(interleaved: Samples, channels: int) -> Samples:
    """The mean of the channels, 1 or 2."""
    return interleaved if channels == 1 else (interleaved[::2] + interleaved[1::2]) * np.float32(0.5)


class PcmDecoder:
    """Samples without a header. Keeps the bytes of a sample, or of a pair, that is not whole yet."""

    __slots__ = ("_channels", "_form", "_resampler", "_rest", "samples")

    def __init__(self, form: SampleFormat, sample_rate: int, channels: int, *, first: int = 0) -> None:
        self._form = form
        self._channels = channels
        self._resampler = None if sample_rate == SAMPLE_RATE else Resampler(sample_rate)
        self._rest: bytes = b""
        self.samples = first

    def take(self, data: bytes) -> Samples:
        """`feed`, for a caller that does not wait."""
        size = self._form.width * self._channels
        data = self._rest + data if self._rest else data
        count = len(data) // size
        self._rest = data[count * size :]
        self.samples += count
        samples = mono(self._form.parse(data[: count * size]), self._channels)
        return samples if self._resampler is None else self._resampler.feed(samples)

    async def feed(self, data: bytes) -> Samples:
        return self.take(data)

    def rest(self) -> Samples:
        """`end`, for a caller that does not wait."""
        self._rest = b""
        return np.zeros(0, np.float32) if self._resampler is None else self._resampler.end()

    async def end(self) -> Samples:
        return self.rest()

    def close(self) -> None:
        self._rest, self._resampler = b"", None
