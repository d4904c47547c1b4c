"""Files of every kind become samples; a file without audio is refused with a description of what it holds."""

import io
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import soundfile

from audio.decoders import files
from audio.decoders.files import BLOCK, Sound, blocks
from audio.model.transcriber import SAMPLE_RATE, Samples
from gateway.errors import BadRequest, TooLarge
from tests.audio.feeding import encode_file, flac, mux, opus, tone, video

SPEECH = Path(__file__).parents[1] / "data" / "jfk.flac"


@contextmanager
def file_with(data: bytes) -> Iterator[io.BufferedRandom]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file


@contextmanager
def sound_of(data: bytes, name: str = "a.bin") -> Iterator[Sound]:
    with file_with(data) as file:
        sound = Sound(file, name)
        try:
            sound.open()
            yield sound
        finally:
            sound.close()


def samples_of(data: bytes) -> Samples:
    with sound_of(data) as sound:
        return np.concatenate([*iter_blocks(sound), np.zeros(0, np.float32)])


def iter_blocks(sound: Sound) -> Iterator[Samples]:
    while len(block := sound.read()):
        yield block


def refusal(data: bytes, name: str = "a.bin") -> str:
    with pytest.raises(BadRequest) as error, sound_of(data, name):
        pass
    assert error.value.code == "bad_audio"
    return error.value.detail


def pitch(samples: Samples) -> float:
    """Returns the strongest frequency in the middle of the samples."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(middle)


def mux_frames(container: str, codec: str, rate: int, layout: str = "stereo") -> bytes:
    """Encodes a tone like `mux`, for codecs that take frames of their own size and form."""
    file = io.BytesIO()
    with av.open(file, "w", container) as out:
        sound = out.add_stream(codec, rate=rate, layout=layout)
        context = sound.codec_context
        fitting = av.AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or None)
        samples = (np.repeat(tone(2.0, rate), context.channels) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", layout)
        frame.sample_rate = rate
        for piece in [*fitting.resample(frame), *fitting.resample(None)]:
            out.mux(sound.encode(piece))
        out.mux(sound.encode(None))
    return file.getvalue()


KINDS = {
    "wav": lambda: encode_file(tone(2.0, 16_000), 16_000, "WAV"),
    "wav at 44.1 kHz, 24 bit": lambda: encode_file(tone(2.0, 44_100), 44_100, "WAV", "PCM_24"),
    "wav at 8 kHz, mu-law": lambda: encode_file(tone(2.0, 8000), 8000, "WAV", "ULAW"),
    "flac": lambda: flac(2.0),
    "flac at 96 kHz": lambda: flac(2.0, 96_000),
    "vorbis": lambda: encode_file(tone(2.0, 44_100), 44_100, "OGG", "VORBIS"),
    "ogg opus": lambda: opus("ogg", 2.0, "stereo"),
    "webm opus": lambda: opus("webm", 2.0),
    "aiff": lambda: encode_file(tone(2.0, 22_050), 22_050, "AIFF"),
    "caf": lambda: encode_file(tone(2.0, 16_000), 16_000, "CAF"),
    "m4a": lambda: mux_frames("ipod", "aac", 44_100),
    "mp4 with six channels": lambda: mux_frames("mp4", "aac", 48_000, "5.1"),
    "aac": lambda: mux_frames("adts", "aac", 48_000),
    "mp3": lambda: mux_frames("mp3", "libmp3lame", 44_100),
    "mpegts": lambda: mux_frames("mpegts", "aac", 48_000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_each_kind_keeps_its_length_and_pitch(kind: str) -> None:
    samples = samples_of(KINDS[kind]())
    assert len(samples) / SAMPLE_RATE == pytest.approx(2.0, abs=0.06)
    assert pitch(samples) == pytest.approx(440, abs=3)
    assert 0.2 < np.abs(samples).max() <= 1.0


def test_a_long_file_comes_in_blocks_and_says_how_long_it_is() -> None:
    with sound_of(encode_file(np.zeros(25 * SAMPLE_RATE, np.float32), SAMPLE_RATE, "WAV")) as sound:
        assert sound.duration_s == 25
        assert [len(block) for block in iter_blocks(sound)] == [BLOCK, BLOCK, BLOCK // 2]


def test_channels_are_mixed_to_their_mean() -> None:
    sides = np.stack([tone(1.0, 16_000), np.zeros(16_000, np.float32)], axis=1)
    assert np.abs(samples_of(encode_file(sides, 16_000, "WAV", "FLOAT"))).max() == pytest.approx(0.25, abs=0.01)


def test_samples_that_are_not_numbers_become_silence() -> None:
    wild = np.array([np.nan, np.inf, -np.inf, 5.0, -5.0, 0.5], np.float32)
    assert samples_of(encode_file(wild, 16_000, "WAV", "FLOAT")).tolist() == [0, 0, 0, 1, -1, 0.5]


def test_two_joined_files_are_each_decoded_at_their_own_rate() -> None:
    pieces = [files.FilePiece(tone(1.0, 8000), 8000), files.FilePiece(tone(1.0, 48_000), 48_000)]
    whole = np.concatenate(list(blocks(iter(pieces))))
    assert len(whole) == 2 * SAMPLE_RATE
    assert [pitch(half) for half in np.split(whole, 2)] == pytest.approx([440, 440], abs=3)


@pytest.mark.parametrize("form", ["u8", "s16", "s16p", "s32", "flt", "fltp", "dblp"])
def test_samples_of_every_form_of_libav_are_the_same(form: str) -> None:
    samples = (tone(0.1, 16_000) * 32_767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2)[None], "s16", "stereo")
    frame.sample_rate = 16_000
    [stereo] = av.AudioResampler(form, "stereo", 16_000).resample(frame)
    rows = files._floats(stereo)  # pyright: ignore[reportPrivateUsage]
    assert rows.shape == (2, len(samples))
    assert np.allclose(rows, samples / 32_768, atol=0.02)


# What is broken


def test_a_truncated_file_is_decoded_up_to_its_cut() -> None:
    whole, beginning = SPEECH.read_bytes(), SPEECH.read_bytes()[:100_000]
    assert 5 < len(samples_of(beginning)) / SAMPLE_RATE < 6
    assert np.array_equal(samples_of(beginning), samples_of(whole)[: len(samples_of(beginning))])


def test_the_rest_after_a_broken_frame_is_decoded() -> None:
    data = bytearray(SPEECH.read_bytes())
    data[80_000:80_400] = bytes(400)
    assert len(samples_of(bytes(data))) / SAMPLE_RATE > 10.5


REFUSED = {
    "nothing": (b"", "is empty: 0 bytes came"),
    "text": (b"hello, world " * 100, "1300 bytes came, and they begin with b'hello, world hel'"),
    "zeros": (bytes(100_000), "no audio that is known here"),
    "noise": (np.random.default_rng(7).bytes(200_000), "no audio that is known here"),
    "the head of a wav": (b"RIFF\0\0\0\0WAVEfmt ", "16 bytes came"),
    "a wav of no samples": (encode_file(np.zeros(0, np.float32), 16_000, "WAV"), "there is no audio in it"),
    "pictures only": (video(), "there is no sound in it, only video"),
    "a tag of mp3 and nothing behind": (b"ID3\3\0\0\0\0\0\0\xff\xfb\x90\0" + bytes(3000), "no audio"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_without_audio_is_refused_with_what_it_holds(what: str) -> None:
    data, reason = REFUSED[what]
    detail = refusal(data, "talk.wav")
    assert reason in detail
    assert detail.startswith("talk.wav")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "ffconcat version 1.0\nfile {name}\n",
    ],
)
def test_a_playlist_reads_no_file_of_this_machine(playlist: str) -> None:
    assert "no audio" in refusal(playlist.format(path=SPEECH, name=SPEECH.name).encode())


def test_a_file_that_lasts_too_long_is_refused() -> None:
    for name, data, seconds in (
        ("wav", encode_file(tone(25.0, 8000), 8000, "WAV"), 25),
        ("webm", opus("webm", 25.0), 20),
    ):
        with file_with(data) as file, closing(Sound(file, name, max_s=15)) as sound:
            with pytest.raises(TooLarge, match=f"{name} has {seconds} s of audio; at most 15 are taken") as error:
                read_all(sound)
            assert (error.value.status, error.value.code) == (413, "audio_too_long")


def test_many_channels_of_a_high_rate_count_for_what_they_cost() -> None:
    """Eight channels of 192 kHz are sixteen times what two of 48 kHz are."""
    frames = np.zeros((192_000, 8), np.float32)
    for kind, says in (("WAV", "has 16 s of audio"), ("FLAC", "has 16 s of audio")):
        with file_with(encode_file(frames, 192_000, kind)) as file:
            with closing(Sound(file, max_s=15)) as sound, pytest.raises(TooLarge, match=says):
                sound.open()
            with closing(Sound(file, max_s=16)) as sound:
                read_all(sound)


def test_samples_count_in_all_channels_where_no_header_says_how_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FAIR_RATE", 16_000)
    with file_with(opus("webm", 3.0)) as file:
        sound = Sound(file, max_s=2)
        with closing(sound), pytest.raises(TooLarge, match="has more than 32000 samples in all channels and tracks"):
            read_all(sound)


def read_all(sound: Sound) -> None:
    sound.open()
    while len(sound.read()):
        pass


def test_a_file_of_nothing_but_packets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FREE_PACKETS", 20)
    monkeypatch.setattr(files, "MIN_PACKET_S", 1.0)
    with file_with(opus("webm", 5.0)) as file:
        sound = Sound(file)
        with closing(sound), pytest.raises(BadRequest, match=r"21 packets for \d+ samples: encode it anew"):
            read_all(sound)


def test_impossible_rates_and_channel_counts_are_refused() -> None:
    assert "1 channels of 3000" in refusal(encode_file(tone(1.0, 3000), 3000, "WAV"))
    assert "65 channels" in refusal(encode_file(np.zeros((100, 65), np.float32), 8000, "WAV"))


# What it holds


def test_a_closed_sound_reads_nothing_and_holds_nothing() -> None:
    process = psutil.Process()
    with file_with(flac(25.0)) as file:
        before = process.num_fds()
        sound = Sound(file)
        sound.open()
        assert len(sound.read()) == BLOCK
        sound.close()
        sound.close()
        assert len(sound.read()) == 0
        assert process.num_fds() == before
        os.fstat(file.fileno())


def test_closing_waits_for_a_read_on_another_thread() -> None:
    with file_with(mux("webm", "libopus", tone(30.0, 48_000), 48_000)) as file:
        sound = Sound(file)
        sound.open()
        lengths: list[int] = []
        reading = threading.Thread(target=lambda: lengths.extend(len(block) for block in iter_blocks(sound)))
        reading.start()
        sound.close()
        reading.join(5)
        assert not reading.is_alive()
        assert sum(lengths) <= 30 * SAMPLE_RATE


def test_a_sound_may_be_closed_before_it_was_opened() -> None:
    with file_with(flac(1.0)) as file:
        sound = Sound(file)
        sound.close()
        sound.open()
        assert len(sound.read()) == 0


def test_decoded_speech_equals_that_of_soundfile() -> None:
    expected, _ = soundfile.read(SPEECH, dtype="float32")
    assert np.array_equal(samples_of(SPEECH.read_bytes()), expected)
