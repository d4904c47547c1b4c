"""Opus without a container: each binary message is one packet, as WebRTC and telephony send them (RFC 6716, RFC 7587).

Decoding takes libav 0.05 to 0.1 ms for a packet of 20 ms, so it is done on the event loop. Whatever rate a client
names, Opus is decoded at 48 kHz; the name only says in which samples its positions are counted.
"""

from typing import Any

import numpy as np

from audio.decoders.downmix import Downmix
from audio.decoders.formats import bad_audio
from audio.decoders.resample import Resampler
from audio.model.transcriber import Samples

OPUS_RATE = 48_000
MAX_PACKET_BYTES = 1275 * 6
"""Maximum size of a packet: 120 ms are six frames of 20 ms, of 1275 bytes each (RFC 6716, section 3.4)."""


class OpusPackets:
    """Decodes the packets of one client, in their order."""

    __slots__ = (
        "_channels",
        "_codec",
        "_downmix",
        "_first",
        "_is_split",
        "_named_rate",
        "_own_samples",
        "_packets",
        "_resampler",
    )

    def __init__(self, named_rate: int, channels: int, *, first: int = 0, is_split: bool = False) -> None:
        self._is_split = is_split
        self._named_rate = named_rate
        self._channels = channels
        self._first = first
        self._own_samples = 0
        """Number of samples so far, at OPUS_RATE."""
        self._packets = 0
        self._codec: Any = None
        self._downmix = Downmix()
        self._resampler = Resampler(OPUS_RATE)

    @property
    def samples(self) -> int:
        return self._first + self._own_samples * self._named_rate // OPUS_RATE

    async def feed(self, data: bytes) -> Samples:
        self._packets += 1
        if not 0 < len(data) <= MAX_PACKET_BYTES:
            raise bad_audio(
                f"packet {self._packets} of the Opus stream has {len(data)} bytes; 1 to {MAX_PACKET_BYTES} are taken, "
                "and each binary message is one packet: for Ogg name `ogg_opus`"
            )
        return self._resampler.feed(self._decoded(data))

    def _decoded(self, data: bytes) -> Samples:
        from av import Packet
        from av.error import FFmpegError

        try:
            frames = self._opened().decode(Packet(data))
        except FFmpegError as err:
            raise bad_audio(
                f"packet {self._packets} of the Opus stream ({len(data)} bytes) cannot be decoded: {err.strerror}; "
                "each binary message is one packet, without a container"
            ) from err
        pieces = [self._mixed(frame.to_ndarray().T) for frame in frames]
        self._own_samples += sum(len(piece) for piece in pieces)
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _mixed(self, frames: Any) -> Samples:
        return np.ascontiguousarray(frames) if self._is_split else self._downmix.feed(frames, OPUS_RATE)

    def _opened(self) -> Any:
        if self._codec is None:
            from av import AudioCodecContext

            codec = AudioCodecContext.create("opus", "r")
            codec.sample_rate, codec.layout = OPUS_RATE, "stereo" if self._channels == 2 else "mono"
            self._codec = codec
        return self._codec

    async def flush(self) -> Samples:
        return self._resampler.flush()

    def close(self) -> None:
        self._codec = None
