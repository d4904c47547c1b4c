"""Opus packets without a container become samples; what is none is refused in a sentence."""

import asyncio
from functools import cache

import av
import numpy as np
import pytest

from audio.decoders.opus_packets import MAX_PACKET_BYTES, OPUS_RATE, OpusPackets
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest
from tests.audio.decoders.test_files import pitch
from tests.audio.feeding import decode_all, decode_stream, tone


@cache
def packets(layout: str = "mono") -> list[bytes]:
    """Returns a second of a tone as packets."""
    return packets_of(tone(1.0, OPUS_RATE), OPUS_RATE, layout)


def packets_of(samples: Samples, rate: int, layout: str = "mono") -> list[bytes]:
    """Returns samples as packets of 20 ms, the same in each channel."""
    codec = av.AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = rate, layout, "s16"
    sides = np.repeat((samples * 32767).astype(np.int16), codec.channels)
    encoded: list[bytes] = []
    size = rate // 50
    for at in range(0, len(samples), size):
        piece = sides[at * codec.channels : (at + size) * codec.channels]
        frame = av.AudioFrame.from_ndarray(piece[None], "s16", layout)
        frame.sample_rate, frame.pts = rate, at
        encoded += [bytes(packet) for packet in codec.encode(frame)]
    return encoded + [bytes(packet) for packet in codec.encode(None)]


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("channels", [1, 2])
def test_packets_become_what_was_encoded_whatever_channels_were_named(layout: str, channels: int) -> None:
    samples = decode_all("opus", packets(layout), channels=channels)
    assert len(samples) == pytest.approx(1.0 * SAMPLE_RATE, rel=0.03)
    assert pitch(samples) == pytest.approx(440, abs=3)
    assert 0.4 < np.abs(samples).max() < 0.6


def test_positions_are_counted_at_the_rate_that_the_client_named() -> None:
    for rate in (8000, 16_000, 48_000):
        decoder = OpusPackets(rate, 1, first=100)
        asyncio.run(decode_stream(decoder, packets()[:25]))
        assert decoder.samples == pytest.approx(100 + rate // 2, abs=rate // 100)


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        (b"", "packet 2 of the Opus stream has 0 bytes; 1 to 7650 are taken"),
        (bytes(MAX_PACKET_BYTES + 1), "has 7651 bytes"),
        (b"OggS" + bytes(60), r"packet 2 of the Opus stream \(64 bytes\) cannot be decoded"),
        (b"\xff" * 40, "each binary message is one packet"),
    ],
)
def test_what_is_no_packet_is_refused_with_its_number_and_size(packet: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as error:
        decode_all("opus", [packets()[0], packet])
    assert error.value.code == "bad_audio"
