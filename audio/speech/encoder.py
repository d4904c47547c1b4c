"""Encodes speech as it is made, in one of the formats of OpenAI's speech API. This is the only encoder with PyAV.

A stream has no end that is known when it begins, so a WAV file says in its head that it is as long as can be, as
OpenAI's does. What was fed comes out at once where the format allows it: a frame of MP3 is 24 ms, a page of Ogg is
closed after PAGE_US. One call of PyAV takes a clause, a few milliseconds, and must not be made on the event loop.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE

SpeechFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
SPEECH_FORMATS: tuple[SpeechFormat, ...] = ("mp3", "opus", "aac", "flac", "wav", "pcm")
PAGE_US = 100_000
UNKNOWN = 0xFFFF_FFFF


class Container(NamedTuple):
    """How PyAV is asked for a format."""

    media_type: str
    muxer: str = ""
    codec: str = ""
    sample_format: str = ""
    rate: int = VOICE_RATE
    bit_rate: int = 0
    effort: Mapping[str, str] = {}
    """Options of the codec, such that it costs half of what it does by default, for speech that sounds the same."""


CONTAINERS: dict[SpeechFormat, Container] = {
    "mp3": Container("audio/mpeg", "mp3", "libmp3lame", "s16p", bit_rate=64_000, effort={"compression_level": "7"}),
    "opus": Container("audio/ogg", "ogg", "libopus", "s16", 48_000, 32_000, {"compression_level": "5"}),
    "aac": Container("audio/aac", "adts", "aac", "fltp", bit_rate=64_000, effort={"aac_coder": "fast"}),
    "flac": Container("audio/flac", "flac", "flac", "s16"),
    "wav": Container("audio/wav"),
    "pcm": Container("audio/pcm"),
}
MUXING = {
    "mp3": {"write_xing": "0"},
    "ogg": {"page_duration": str(PAGE_US)},
}
"""Options of the muxers that need some, so that they neither go back nor wait."""


class ByteSink:
    """A file that PyAV can write to and not go back in, so that it does not mend what has been sent."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """Returns what was written since the last call."""
        data = bytes(self._data)
        self._data.clear()
        return data


class SpeechEncoder:
    """Encodes one stream of mono speech at VOICE_RATE."""

    def __init__(self, format_: SpeechFormat) -> None:
        self._container = CONTAINERS[format_]
        self._head = _wav_head() if format_ == "wav" else b""
        self._sink = ByteSink()
        self._muxer: Any = None
        self._stream: Any = None
        self._resampler: Any = None

    @property
    def media_type(self) -> str:
        return self._container.media_type

    def feed(self, samples: Samples) -> bytes:
        """Returns the bytes that are certain by now. Blocks for milliseconds."""
        pcm = np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2")
        if not self._container.muxer:
            head, self._head = self._head, b""
            return head + pcm.tobytes()
        if self._muxer is None:
            self._open()
        import av

        frame: Any = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = VOICE_RATE
        self._encode(frame)
        return self._sink.take()

    def flush(self) -> bytes:
        """Returns the rest of the stream. To be called once."""
        if self._muxer is None:
            head, self._head = self._head, b""
            return head
        self._encode(None)
        for packet in self._stream.encode(None):
            self._muxer.mux(packet)
        self._muxer.close()
        self._muxer = None
        return self._sink.take()

    def _open(self) -> None:
        import av

        how = self._container
        options = {"flush_packets": "1", **MUXING.get(how.muxer, {})}
        self._muxer = av.open(self._sink, "w", format=how.muxer, container_options=options)
        stream: Any = self._muxer.add_stream(
            how.codec, rate=how.rate, layout="mono", format=how.sample_format, options=dict(how.effort)
        )
        if how.bit_rate:
            stream.bit_rate = how.bit_rate
        self._stream = stream
        stream.codec_context.open()
        self._resampler = av.AudioResampler(
            how.sample_format, "mono", how.rate, stream.codec_context.frame_size or None
        )

    def _encode(self, frame: Any) -> None:
        """Encodes a frame; None: the rest that waits for a whole frame."""
        for part in self._resampler.resample(frame):
            for packet in self._stream.encode(part):
                self._muxer.mux(packet)


def _wav_head() -> bytes:
    """Returns the head of a WAV file of unknown length: 16 bits, mono."""
    rate = VOICE_RATE.to_bytes(4, "little")
    bytes_a_second = (2 * VOICE_RATE).to_bytes(4, "little")
    unknown = UNKNOWN.to_bytes(4, "little")
    shape = b"\x10\0\0\0\1\0\1\0" + rate + bytes_a_second + b"\2\0\x10\0"
    return b"RIFF" + unknown + b"WAVEfmt " + shape + b"data" + unknown
