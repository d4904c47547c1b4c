"""WAV is decoded as it arrives, also from recorders that did not know how long they would record."""

import asyncio
import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings

from audio.decoders.decoder import decoder
from gateway.errors import BadRequest
from tests.audio.feeding import cut, cuts, decode_all, decode_stream, encode_file, tone

SOUND = tone(0.2, 16_000)
FILE = encode_file(SOUND, 16_000, "WAV", "PCM_16")
FORMAT, PCM = FILE[12:36], FILE[44:]


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + b"".join(chunks)


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def form(tag: int, channels: int, rate: int, bits: int) -> bytes:
    width = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits))


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_form_is_heard_as_libsndfile_hears_it(container: str, subtype: str) -> None:
    file = encode_file(SOUND, 16_000, container, subtype)
    expected, _ = soundfile.read(io.BytesIO(file), dtype="float32")
    np.testing.assert_array_equal(decode_all("wav", [file]), expected)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_size_that_nobody_knew_means_to_the_end(size: int) -> None:
    stream = riff(FORMAT, chunk(b"data", PCM, size))
    np.testing.assert_array_equal(decode_all("wav", [stream]), decode_all("wav", [FILE]))


@given(cuts)
@settings(deadline=None, max_examples=60)
def test_other_chunks_and_any_cutting_change_nothing(places: list[int]) -> None:
    stream = riff(chunk(b"JUNK", b"odd"), FORMAT, chunk(b"LIST", bytes(70)), chunk(b"data", PCM), chunk(b"id3 ", b"x"))
    np.testing.assert_array_equal(decode_all("wav", cut(stream, places)), decode_all("wav", [FILE]))


@given(cuts)
@settings(deadline=None, max_examples=40)
def test_audio_behind_a_size_that_is_too_small_is_heard_on(places: list[int]) -> None:
    for size in (2, 3, 1001, len(PCM) - 8):
        stream = riff(FORMAT, b"data" + struct.pack("<I", size) + PCM)
        np.testing.assert_array_equal(decode_all("wav", cut(stream, places)), decode_all("wav", [FILE]))


def test_its_own_rate_and_channels_count_and_samples_are_told_at_the_rate_named() -> None:
    sound = tone(1.0, 44_100)
    one = decoder("wav", 16_000, 1, first=500)
    samples = asyncio.run(decode_stream(one, [encode_file(np.stack([sound, sound], 1), 44_100, "WAV", "FLOAT")]))
    assert len(samples) == 16_000
    assert one.samples == 16_500
    np.testing.assert_allclose(samples[1600:-1600], tone(1.0, 16_000)[1600:-1600], atol=1e-3)


def test_a_stream_cut_anywhere_is_heard_as_far_as_it_goes() -> None:
    for end in (0, 3, 11, 13, 30, 43, 44, 45, 46, 1001):
        assert len(decode_all("wav", [FILE[:end]])) == max(0, end - 44) // 2


@pytest.mark.parametrize(
    ("stream", "says"),
    [
        (b"ID3\4" + bytes(20), r"expected WAV.*begins with b'ID3"),
        (b"RIFF\0\0\0\0AVI LIST", r"expected WAV.*AVI"),
        (riff(form(6, 1, 8000, 8)), "format 6 with 8 bits"),
        (riff(form(1, 6, 48_000, 16)), "6 channels; 1 or 2"),
        (riff(form(1, 1, 96_000, 16)), "96000 samples a second; 8000 to 48000"),
        (riff(chunk(b"fmt ", bytes(8))), "has 8 bytes"),
        (riff(chunk(b"fmt ", b"", 1 << 31)), "2147483648 bytes"),
        (riff(chunk(b"data", PCM)), "`data` before its `fmt `"),
        (riff(FORMAT, chunk(b"data", PCM)) + FILE, "a second WAV file"),
        (riff(chunk(b"JUNK", bytes(300_000))), "262144 bytes of the WAV stream, and not one sample"),
    ],
)
def test_an_unsupported_wav_is_refused_in_a_sentence(stream: bytes, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as error:
        decode_all("wav", [stream[at : at + 60_000] for at in range(0, len(stream), 60_000)])
    assert error.value.code == "bad_audio"
