"""Raw PCM is decoded to 16 kHz, and the resampler behind it keeps up."""

import asyncio
import subprocess
import sys
import tracemalloc
from typing import get_args

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.decoders.decoder import decoder
from audio.decoders.formats import ALAW, MULAW, Decoder, Encoding, bad_audio
from audio.decoders.formats import RAW as RAW_FORMS
from audio.decoders.resample import Resampler
from tests.audio.feeding import cut, cuts, decode_all, decode_stream, tone

RAW: list[Encoding] = ["pcm_s16le", "pcm_f32le", "mulaw"]
RATES = [8000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000]
WIDTHS = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1}


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le", "mulaw", "alaw"])
@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_channels_apart_are_what_each_of_them_is_alone(encoding: Encoding, rate: int) -> None:
    form = RAW_FORMS[encoding]  # type: ignore[index]
    codes = np.random.default_rng(0).integers(0, 100, (2, rate // 2, form.width), np.uint8)
    both = np.stack([codes[0], codes[1]], axis=1).tobytes()
    pieces = [both[at : at + 999] for at in range(0, len(both), 999)]
    split = asyncio.run(decode_stream(decoder(encoding, rate, 2, is_split=True), pieces))
    for channel in range(2):
        alone = decode_all(encoding, [codes[channel].tobytes()], rate)
        np.testing.assert_allclose(split[:, channel], alone, atol=1e-6)


@pytest.mark.parametrize("encoding", get_args(Encoding))
def test_every_encoding_of_the_protocol_has_a_decoder(encoding: Encoding) -> None:
    one: Decoder = decoder(encoding, 48_000, 2, first=7)
    assert one.samples == 7
    one.close()
    one.close()


def test_bad_audio_is_reported_as_not_retryable() -> None:
    error = bad_audio("too loud")
    assert (error.code, error.detail, error.retryable) == ("bad_audio", "too loud", False)


def test_16_bits_are_exact() -> None:
    values = np.arange(-(2**15), 2**15, dtype="<i2")
    np.testing.assert_array_equal(decode_all("pcm_s16le", [values.tobytes()]), values / np.float32(2**15))


def test_mu_law_is_decoded_as_libav_does() -> None:
    codec = av.CodecContext.create("pcm_mulaw", "r")
    codec.sample_rate, codec.layout = 8000, "mono"
    [frame] = codec.decode(av.Packet(bytes(range(256))))
    np.testing.assert_array_equal(MULAW * 2**15, frame.to_ndarray()[0])


def test_non_numbers_become_silence_and_loud_samples_are_clipped() -> None:
    data = np.array([0.5, np.nan, np.inf, -np.inf, 1.5, -7e30, -1.0], "<f4").tobytes()
    np.testing.assert_array_equal(decode_all("pcm_f32le", [data]), np.array([0.5, 0, 0, 0, 1, -1, -1], np.float32))


@given(st.binary(max_size=4000), st.sampled_from(RAW), st.sampled_from(RATES), st.integers(1, 2))
@settings(deadline=None, max_examples=60)
def test_garbage_stays_bounded(data: bytes, encoding: Encoding, rate: int, channels: int) -> None:
    samples_out = decode_all(encoding, [data], rate, channels)
    assert samples_out.dtype == np.float32
    assert np.all(np.abs(samples_out) <= 1.0)


def test_two_channels_are_heard_as_their_mean() -> None:
    pairs = np.array([[100, 300], [-32768, 32767], [5, -5]], "<i2")
    np.testing.assert_array_equal(decode_all("pcm_s16le", [pairs.tobytes()], channels=2) * 2**15, [200, -0.5, 0])


@given(st.binary(min_size=1, max_size=6000), cuts, st.sampled_from(RAW), st.sampled_from(RATES), st.integers(1, 2))
@settings(deadline=None, max_examples=120)
def test_where_the_bytes_are_cut_changes_nothing(
    data: bytes, places: list[int], encoding: Encoding, rate: int, channels: int
) -> None:
    whole = decoder(encoding, rate, channels)
    pieces = decoder(encoding, rate, channels)
    samples_out = asyncio.run(decode_stream(whole, [data]))
    np.testing.assert_array_equal(asyncio.run(decode_stream(pieces, cut(data, places))), samples_out)
    count = len(data) // (WIDTHS[encoding] * channels)
    assert whole.samples == pieces.samples == count, "what is not a whole sample is no sample"
    assert abs(len(samples_out) - count * 16_000 / rate) < 1


@pytest.mark.parametrize("rate", RATES)
def test_a_stream_is_as_long_and_sounds_the_same_at_16_khz(rate: int) -> None:
    samples = tone(1.0, rate)[:-7]
    one = decoder("pcm_f32le", rate, 1, first=1000)
    data = samples.astype("<f4").tobytes()
    samples_out = asyncio.run(decode_stream(one, [data[at : at + 640] for at in range(0, len(data), 640)]))
    assert one.samples == 1000 + len(samples)
    assert abs(len(samples_out) - len(samples) * 16_000 / rate) < 1
    inner = slice(1600, 14_000)
    np.testing.assert_allclose(samples_out[inner], tone(1.0, 16_000)[: len(samples_out)][inner], atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_the_resampler_is_never_far_behind(rate: int) -> None:
    resampler, frame, output_samples = Resampler(rate), np.zeros(rate // 50, np.float32), 0
    for number in range(1, 100):
        output_samples += len(resampler.feed(frame))
        assert number * len(frame) / rate - output_samples / 16_000 < (0.12 if rate < 16_000 else 0.045)


def test_a_decoder_of_16_khz_pcm_costs_next_to_nothing_and_needs_no_library() -> None:
    async def feed(decoders: list[Decoder]) -> None:
        for one in decoders:
            await one.feed(bytes(641))

    tracemalloc.start()
    try:
        decoders = [decoder("pcm_s16le", 16_000, 1) for _ in range(1000)]
        asyncio.run(feed(decoders))
        assert tracemalloc.get_traced_memory()[0] / len(decoders) < 1024
    finally:
        tracemalloc.stop()
    program = (
        "import asyncio, sys; from audio.decoders.decoder import decoder\n"
        "asyncio.run(decoder('pcm_s16le', 16000, 1).feed(bytes(640)))\n"
        "print(*{'soxr', 'soundfile', 'av'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == ""


@pytest.mark.parametrize(
    ("code", "sample"), [(0xD5, 8), (0x55, -8), (0xAA, 32_256), (0x2A, -32_256), (0xD4, 24), (0xC5, 264), (0xF5, 528)]
)
def test_a_law_is_decoded_as_g711_says(code: int, sample: int) -> None:
    assert round(float(ALAW[code]) * 2**15) == sample


def test_a_law_has_one_sample_per_byte() -> None:
    samples = asyncio.run(decode_stream(decoder("alaw", 8000, 1), [bytes([0xD5] * 800), bytes([0x55] * 800)]))
    assert len(samples) == 3200
    assert np.abs(samples).max() < 0.001
