"""Files whose header says a wrong length are heard to their end, and what is no audio behind it is not heard."""

import struct

import numpy as np
import pytest

from audio.model.transcriber import SAMPLE_RATE
from tests.audio.decoders.test_files import refusal, samples_of
from tests.audio.feeding import encode_file, tone

SOUND = tone(1.0, SAMPLE_RATE)
LIST = b"LIST" + struct.pack("<I", 4000) + b"INFO" + b"\x55" * 3996
ID3 = b"id3 " + struct.pack("<I", 5001) + b"ID3\4" + b"\x77" * 4998
FORMATS = {
    "wav": ("WAV", "PCM_16", "FILE"),
    "wav, 24 bit": ("WAV", "PCM_24", "FILE"),
    "wav, mu-law": ("WAV", "ULAW", "FILE"),
    "wav, A-law": ("WAV", "ALAW", "FILE"),
    "wav, big-endian": ("WAV", "PCM_16", "BIG"),
    "extensible": ("WAVEX", "PCM_16", "FILE"),
    "extensible, float": ("WAVEX", "FLOAT", "FILE"),
    "rf64": ("RF64", "PCM_16", "FILE"),
    "au": ("AU", "PCM_16", "FILE"),
    "au, little-endian": ("AU", "PCM_16", "LITTLE"),
    "au, mu-law": ("AU", "ULAW", "FILE"),
    "aiff": ("AIFF", "PCM_16", "FILE"),
    "aifc, float": ("AIFF", "FLOAT", "FILE"),
    "caf": ("CAF", "PCM_16", "FILE"),
}


def file_of(kind: str) -> bytes:
    container, subtype, endian = FORMATS[kind]
    return encode_file(SOUND, SAMPLE_RATE, container, subtype, endian)


def with_size(file: bytes, size: int, *, whole: int | None = None) -> bytes:
    """Returns the file with other bytes of audio in its header, and another size of all of it."""
    data = bytearray(file)
    order = "<" if data[:4] in (b"RIFF", b"RF64", b"dns.") else ">"
    at = data.find(b"SSND" if data[:4] == b"FORM" else b"data") + 4
    whole = size if whole is None else whole
    match bytes(data[:4]):
        case b".snd" | b"dns.":
            struct.pack_into(f"{order}I", data, 8, size)
        case b"caff":
            struct.pack_into(">q", data, at, -1 if size == 0xFFFFFFFF else size)
        case b"RF64":
            struct.pack_into("<QQQ", data, 20, whole, size, 0)
        case _:
            struct.pack_into(f"{order}I", data, at, size)
            struct.pack_into(f"{order}I", data, 4, whole)
    return bytes(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_length_that_was_never_written_or_is_too_small_lasts_to_the_end(kind: str) -> None:
    file = file_of(kind)
    expected = samples_of(file)
    for size in (0, 0xFFFFFFFF, 0x7FFFFFFF, 9000):
        np.testing.assert_array_equal(samples_of(with_size(file, size)), expected, err_msg=f"{kind}, {size}")


@pytest.mark.parametrize("kind", ["wav", "extensible", "rf64", "aiff", "caf"])
def test_an_unfinished_file_that_is_cut_is_heard_as_far_as_it_goes(kind: str) -> None:
    whole = file_of(kind)
    heard = samples_of(with_size(whole, 0)[:-10_001])
    assert len(heard) == (SAMPLE_RATE * 2 - 10_001) // 2
    np.testing.assert_array_equal(heard, samples_of(whole)[: len(heard)])


def test_chunks_behind_the_audio_are_not_heard_whatever_its_length_says() -> None:
    file = file_of("wav")
    for size in (0, 9000, len(file) - 44, 0xFFFFFFFF):
        for chunks in (LIST, LIST + ID3, ID3, b"bext" + struct.pack("<I", 602) + b"\x11" * 602):
            assert len(samples_of(with_size(file, size) + chunks)) == SAMPLE_RATE, (size, chunks[:4])


@pytest.mark.parametrize(
    "trailer", [LIST[:1000], b"TAG" + b"x" * 125, b"ID3\4" + b"q" * 600, b"Xtra" + struct.pack("<I", 6) + b"secret"]
)
def test_what_follows_a_true_length_is_not_heard(trailer: bytes) -> None:
    file = file_of("wav")
    assert len(samples_of(with_size(file, len(file) - 44) + trailer)) == SAMPLE_RATE


def test_the_padding_of_an_odd_length_is_not_heard() -> None:
    odd = encode_file(SOUND[:15_999], SAMPLE_RATE, "WAV", "PCM_U8")
    assert len(samples_of(odd)) == 15_999
    assert len(samples_of(odd + LIST)) == 15_999


def test_a_flac_whose_header_counts_too_few_samples_is_heard_to_its_end() -> None:
    file = bytearray(encode_file(SOUND, SAMPLE_RATE, "FLAC"))
    expected = samples_of(bytes(file))
    info = int.from_bytes(file[18:26], "big") >> 36 << 36
    for count in (0, 1, 9000):
        file[18:26] = (info | count).to_bytes(8, "big")
        np.testing.assert_array_equal(samples_of(bytes(file)), expected)


def test_an_empty_recording_is_still_refused() -> None:
    empty = encode_file(SOUND[:0], SAMPLE_RATE, "WAV")
    assert "there is no audio in it" in refusal(empty)
    for chunks in (LIST, b"Xtra" + struct.pack("<I", 6) + b"secret"):
        assert "there is no audio in it" in refusal(with_size(empty, 0) + chunks)
