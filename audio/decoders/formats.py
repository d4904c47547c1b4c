"""Turns a client's bytes into samples at 16 kHz: the decoders' one surface, and raw PCM.

However the bytes of a stream are cut, the samples are the same, and there are as many as the stream lasts. What cannot
be used is refused in a sentence (`bad_audio`), never guessed at. Raw PCM and WAV are decoded on the event loop: in
pieces of 20 ms that takes 0.2 ms per second of audio at 16 kHz (float 0.7), 0.5 to 1.3 at other rates, and a third of
it in pieces of 100 ms. A decoder that needs a library is imported when its encoding is named.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np

from audio.decoders.downmix import Downmix
from audio.decoders.resample import Resampler
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest

MAX_FRAME_BYTES = 65_536
"""Maximum size of what a decoder is fed at once."""
MIN_RATE, MAX_RATE = 8000, 48_000
MAX_CHANNELS = 2
STALL_BYTES = 256 * 1024
"""Maximum bytes of a stream with a header that may bring no sample; a stream with more of them is no audio."""


class Decoder(Protocol):
    """The decoder of one client's stream. One task feeds it, and calls `close` in the end.

    The caller must feed MAX_FRAME_BYTES at once at most, and end the session when `bad_audio` is raised. The
    implementer must block no event loop with a call, and keep its memory bounded whatever the bytes are.
    """

    @property
    def samples(self) -> int:
        """Returns the number of the client's samples taken in so far, per channel, at the rate that it named."""
        ...

    async def feed(self, data: bytes) -> Samples:
        """Returns what these bytes and those before make: 30 s and a bit at most; more comes with the next call.

        Raises BadRequest (`bad_audio`).
        """
        ...

    async def flush(self) -> Samples:
        """Returns what is still inside, 30 s at a time: call it until it returns nothing. No more bytes follow."""
        ...

    def close(self) -> None:
        """Frees threads and buffers, in whatever state they are. May be called again."""
        ...


Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "opus", "ogg_opus", "webm_opus", "flac", "wav"]
"""The encodings that there is a decoder for; `opus` is packets without a container, one in each binary message."""


def bad_audio(detail: str) -> BadRequest:
    """Returns the error for audio that cannot be decoded."""
    return BadRequest(detail, code="bad_audio")


def unlike(expected: str, beginning: bytes) -> BadRequest:
    """Returns the error for a stream that is not of the kind that the client named."""
    return bad_audio(f"expected {expected}, but the stream begins with {beginning[:16]!r}")


def check(sample_rate: int, channels: int, *, is_split: bool = False) -> None:
    """Raises BadRequest (`bad_audio`) for a header with a rate or channels that this lane does not take.

    `is_split`: the channels are heard apart, so there must be two.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise bad_audio(f"the audio has {sample_rate} samples a second; {MIN_RATE} to {MAX_RATE} are taken")
    if not 1 <= channels <= MAX_CHANNELS:
        raise bad_audio(f"the audio has {channels} channels; 1 or {MAX_CHANNELS} are taken")
    if is_split and channels != MAX_CHANNELS:
        raise bad_audio(f"the audio has {channels} channel; split=true wants {MAX_CHANNELS}")


class SampleFormat(NamedTuple):
    """The way in which one sample is written."""

    width: int
    """Bytes of one sample."""
    parse: Callable[[bytes], Samples]


def _s16(data: bytes) -> Samples:
    return np.frombuffer(data, "<i2").astype(np.float32) * np.float32(2**-15)


def _f32(data: bytes) -> Samples:
    return tame(np.frombuffer(data, "<f4").astype(np.float32))


def tame(samples: Samples) -> Samples:
    """Makes silence of what is no number, and limits what is too loud, in place."""
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(samples, -1.0, 1.0, out=samples)


def _mulaw_table() -> Samples:
    """Returns the sample of each code (ITU-T G.711).

    A code has a sign, three bits of exponent and four of mantissa, all inverted, with a bias of 33 (132 in 16 bits).
    """
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 15).astype(np.int32) << 3) + 132 << (code >> 4 & 7)) - 132
    return (np.where(code & 128, -magnitude, magnitude) / 2**15).astype(np.float32)


MULAW = _mulaw_table()


def _mulaw(data: bytes) -> Samples:
    return MULAW[np.frombuffer(data, np.uint8)]


def _alaw_table() -> Samples:
    """Returns the sample of each code (ITU-T G.711).

    It is built like mu-law, but every other bit is inverted, and the lowest of the eight steps has no hidden bit.
    """
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


class PcmDecoder:
    """Decodes samples without a header. The bytes of a sample, or of a pair, that is not whole yet are kept."""

    __slots__ = ("_channels", "_downmix", "_form", "_is_split", "_rate", "_remainder", "_resampler", "samples")

    def __init__(
        self, form: SampleFormat, sample_rate: int, channels: int, *, first: int = 0, is_split: bool = False
    ) -> None:
        self._form = form
        self._is_split = is_split
        self._channels = channels
        self._rate = sample_rate
        self._downmix = Downmix()
        self._resampler = None if sample_rate == SAMPLE_RATE else Resampler(sample_rate)
        self._remainder: bytes = b""
        self.samples = first

    def decode(self, data: bytes) -> Samples:
        """Does what `feed` does, for a caller that does not wait."""
        size = self._form.width * self._channels
        data = self._remainder + data if self._remainder else data
        count = len(data) // size
        self._remainder = data[count * size :]
        self.samples += count
        samples = self._form.parse(data[: count * size])
        if self._channels > 1:
            samples = samples.reshape(count, self._channels)
            samples = samples if self._is_split else self._downmix.feed(samples, self._rate)
        return samples if self._resampler is None else self._resampler.feed(samples)

    async def feed(self, data: bytes) -> Samples:
        return self.decode(data)

    def drain(self) -> Samples:
        """Does what `flush` does, for a caller that does not wait."""
        self._remainder = b""
        return np.zeros(0, np.float32) if self._resampler is None else self._resampler.flush()

    async def flush(self) -> Samples:
        return self.drain()

    def close(self) -> None:
        self._remainder, self._resampler = b"", None
