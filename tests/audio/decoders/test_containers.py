"""Streams of Ogg, WebM and FLAC are decoded, whether libav, libsndfile or Chromium encoded them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio.decoders.containers import Compressed
from audio.decoders.decoder import decoder
from audio.decoders.formats import Encoding
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest
from tests.audio.feeding import cut, cuts, decode_all, decode_stream, encode_file, film, flac, mux, opus, tone, video

CHROMIUM = Path(__file__).parents[1] / "data" / "chromium.webm"
"""2.94 s recorded by MediaRecorder in Chromium 156, in pieces of 100 ms: 400 Hz for 1.5 s, then 800 Hz."""
CHROMIUM_PIECES = [352, 389, 420, 436, 272, 276, 296, 292, 276, *[272] * 15, 271]
STREAMS: dict[Compressed, bytes] = {"ogg_opus": opus("ogg"), "webm_opus": opus("webm"), "flac": flac()}

kinds = st.sampled_from(list(STREAMS))
each_kind = pytest.mark.parametrize("kind", list(STREAMS))


def slices(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def pitch(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(samples)


@each_kind
def test_a_stream_keeps_its_sound_and_length(kind: Compressed) -> None:
    one = decoder(kind, 48_000, 1, first=9)
    samples = asyncio.run(decode_stream(one, slices(STREAMS[kind], 100)))
    assert len(samples) == SAMPLE_RATE
    assert one.samples == 9 + 48_000
    inner = slice(1600, -1600)
    error = samples[inner] - tone(1.0, SAMPLE_RATE)[inner]
    assert float(np.sqrt(np.mean(error**2))) < 0.02, "Opus's pre-skip would shift it by 6.5 ms: an error of 0.5"


@given(kinds, cuts)
@settings(deadline=None, max_examples=40)
def test_where_the_bytes_are_cut_changes_nothing(kind: Compressed, places: list[int]) -> None:
    stream = STREAMS[kind]
    np.testing.assert_array_equal(decode_all(kind, cut(stream, places)), decode_all(kind, [stream]))


@each_kind
def test_a_stream_may_come_one_byte_at_a_time(kind: Compressed) -> None:
    stream = STREAMS[kind][:2500]
    np.testing.assert_array_equal(decode_all(kind, slices(stream, 1)), decode_all(kind, [stream]))


@given(kinds, st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_a_truncated_stream_is_decoded_up_to_its_cut(kind: Compressed, share: float) -> None:
    stream = STREAMS[kind]
    whole, samples = decode_all(kind, [stream]), decode_all(kind, [stream[: int(share * len(stream))]])
    assert len(samples) <= len(whole)
    sure = max(0, len(samples) - SAMPLE_RATE // 20)  # The resampler ends it as if silence followed.
    np.testing.assert_allclose(samples[:sure], whole[:sure], atol=1e-5)


@given(kinds, st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=40), st.integers(0, 40)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=100)
def test_broken_bytes_are_skipped_or_refused(kind: Compressed, faults: list[tuple[float, bytes, int]]) -> None:
    stream = STREAMS[kind]
    for share, put_in, left_out in faults:
        at = int(share * len(stream))
        stream = stream[:at] + put_in + stream[at + left_out :]
    try:
        samples = decode_all(kind, slices(stream, 1000))
    except BadRequest as error:
        code = error.code
    else:
        code = None
        assert np.all(np.abs(samples) <= 1.0)
    assert code in (None, "bad_audio")


def test_chromiums_recorder_is_heard_piece_by_piece() -> None:
    async def run() -> Samples:
        one = decoder("webm_opus", 16_000, 1)
        samples = np.zeros(0, np.float32)
        rest = CHROMIUM.read_bytes()
        try:
            for number, size in enumerate(CHROMIUM_PIECES, 1):
                piece, rest = rest[:size], rest[size:]
                samples = np.concatenate((samples, await one.feed(piece)))
                behind_s = 0.1 * number - len(samples) / SAMPLE_RATE
                assert behind_s < 0.2, "its packets last 60 ms, and it holds one back itself"
            return np.concatenate((samples, await one.flush()))
        finally:
            one.close()

    samples = asyncio.run(run())
    assert len(samples) == 49 * 60 * SAMPLE_RATE // 1000
    assert pitch(samples[4000:20_000]) == pytest.approx(400, abs=2)
    assert pitch(samples[28_000:44_000]) == pytest.approx(800, abs=2)


def test_a_page_of_ogg_is_heard_when_its_last_byte_is_there() -> None:
    async def run() -> None:
        one = decoder("ogg_opus", 16_000, 1)
        pages = [b"OggS" + page for page in STREAMS["ogg_opus"].split(b"OggS")[1:]]
        samples = 0
        try:
            for number, page in enumerate(pages[:-1], -1):  # The first two are headers.
                samples += len(await one.feed(page))
                assert 0.02 * number - samples / SAMPLE_RATE < 0.045, "pre-skip 6.5 ms, resampler up to 37"
        finally:
            one.close()

    asyncio.run(run())


def test_a_frame_of_flac_is_heard_when_its_last_byte_is_there() -> None:
    async def run() -> int:
        one = decoder("flac", 16_000, 1)
        try:
            return len(await one.feed(unknown_length(STREAMS["flac"])))
        finally:
            one.close()

    assert asyncio.run(run()) > SAMPLE_RATE - 256


def unknown_length(stream: bytes) -> bytes:
    """Returns FLAC as it is written to a pipe: its header names neither a length nor a checksum."""
    return stream[:21] + bytes([stream[21] & 0xF0]) + bytes(20) + stream[42:]


def test_flac_of_unknown_length_ends_with_its_stream() -> None:
    np.testing.assert_array_equal(decode_all("flac", [unknown_length(flac())]), decode_all("flac", [flac()]))


def test_flac_may_have_tags_behind_it_and_24_bits_and_two_channels() -> None:
    sound = tone(0.5, 48_000)
    stream = encode_file(np.stack([sound, np.zeros_like(sound)], 1), 48_000, "FLAC", "PCM_24")
    samples = decode_all("flac", slices(stream + b"TAG" + bytes(125), 3000))
    np.testing.assert_allclose(samples[1600:-1600], tone(0.5, SAMPLE_RATE)[1600:-1600] / 2, atol=1e-3)


def test_opus_may_have_two_channels_long_pages_and_a_film_beside_it() -> None:
    samples = decode_all("ogg_opus", [opus("ogg", layout="stereo", page_ms=500)])
    assert len(samples) == SAMPLE_RATE
    assert pitch(samples) == pytest.approx(440, abs=2)
    assert len(decode_all("webm_opus", slices(film(), 500))) == SAMPLE_RATE


def test_ten_minutes_of_compressed_silence_come_30_seconds_at_a_time() -> None:
    stream = encode_file(np.zeros(600 * SAMPLE_RATE, np.float32), SAMPLE_RATE, "FLAC")
    assert len(stream) < 65_536

    async def run() -> list[int]:
        one = decoder("flac", 16_000, 1)
        try:
            counts = [len(await one.feed(stream)), len(await one.feed(b""))]
            while count := len(await one.flush()):
                counts.append(count)
            return counts
        finally:
            one.close()

    counts = asyncio.run(run())
    assert sum(counts) == 600 * SAMPLE_RATE
    assert max(counts) <= 31 * SAMPLE_RATE


@pytest.mark.parametrize(
    ("kind", "make", "says"),
    [
        ("ogg_opus", lambda: b"ID3\4" + bytes(50), "expected Ogg .* begins with b'ID3"),
        ("ogg_opus", lambda: opus("webm"), r"expected Ogg .* begins with b'\\x1aE"),
        ("ogg_opus", lambda: mux("ogg", "flac", tone(0.1, 48_000), 48_000), "expected a track of Opus, found flac"),
        ("ogg_opus", lambda: opus("ogg", layout="5.1"), "6 channels; 1 or 2"),
        ("ogg_opus", lambda: opus("ogg")[:2000] + bytes(300_000), "cannot be read as Ogg"),
        ("webm_opus", lambda: opus("ogg"), "expected WebM .* begins with b'OggS"),
        ("webm_opus", video, "expected a track of Opus, found vp8"),
        ("webm_opus", lambda: opus("webm")[:40] + b"\xec\x08" + bytes(5) + b"\xff" * 3 + bytes(300_000), "not one sam"),
        ("flac", lambda: opus("ogg"), "expected FLAC .* begins with b'OggS"),
        ("flac", lambda: encode_file(tone(0.1, 48_000), 96_000, "FLAC"), "96000 samples a second; 8000 to 48000"),
        ("flac", lambda: encode_file(np.zeros((99, 6), np.float32), 48_000, "FLAC"), "6 channels; 1 or 2"),
        ("flac", lambda: flac(3.0) + flac(3.0), "the FLAC stream was over, and more follows"),
        ("flac", lambda: b"fLaC" + bytes(4000), "cannot be read as FLAC"),
    ],
)
def test_an_unsupported_stream_is_refused_in_a_sentence(kind: Compressed, make: Callable[[], bytes], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as error:
        decode_all(kind, slices(make(), 4000))
    assert error.value.code == "bad_audio"


@pytest.mark.parametrize("encoding", ["ogg_opus", "webm_opus", "flac", "wav"])
def test_the_channels_of_a_container_are_heard_apart(encoding: Encoding) -> None:
    sides = np.stack([tone(1.0, 48_000, 440.0), tone(1.0, 48_000, 880.0)], axis=1)
    split = asyncio.run(
        decode_stream(decoder(encoding, 48_000, 2, is_split=True), slices(stereo(encoding, sides), 900))
    )
    assert split.shape == (SAMPLE_RATE, 2)
    assert [pitch(split[:, channel]) for channel in range(2)] == pytest.approx([440, 880], abs=2)
    with pytest.raises(BadRequest, match="the audio has 1 channel; split=true wants 2"):
        asyncio.run(decode_stream(decoder(encoding, 48_000, 2, is_split=True), [stereo(encoding, sides[:, :1])]))


def stereo(encoding: Encoding, sides: Samples) -> bytes:
    """Encodes samples with a column for each channel."""
    if encoding in ("flac", "wav"):
        return encode_file(sides, 48_000, encoding.upper())
    layout = "stereo" if sides.shape[1] == 2 else "mono"
    return mux(encoding.removesuffix("_opus"), "libopus", sides, 48_000, layout)
