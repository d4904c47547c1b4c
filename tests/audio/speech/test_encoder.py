"""Speech is encoded as it is made: each format is read again, with all that was said, and nothing else."""

import gc
import io

import av
import numpy as np
import pytest
import soundfile

from audio.model.fake_voice import tone_of
from audio.model.transcriber import Samples
from audio.model.voice import VOICE_RATE, SpeechTask
from audio.speech.encoder import SPEECH_FORMATS, SpeechEncoder, SpeechFormat

TONE = tone_of(SpeechTask(text="This tone lasts for three seconds and a half, or so, I think."))
PADDED_S = 0.1
"""Maximum seconds of silence that a format puts around the sound."""


def encoded(format_: SpeechFormat, *parts: Samples) -> list[bytes]:
    encoder = SpeechEncoder(format_)
    return [*(encoder.feed(part) for part in parts), encoder.flush()]


def decoded(format_: SpeechFormat, data: bytes) -> tuple[Samples, int]:
    """Returns the samples and their rate."""
    if format_ == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32767), VOICE_RATE
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray()[0].ravel() for frame in container.decode(stream)]
        samples = np.concatenate(frames)
        is_integer = samples.dtype == np.int16
        return samples.astype(np.float32) / np.float32(32768 if is_integer else 1), stream.rate or VOICE_RATE


def pitch_hz(samples: Samples, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax()) * rate / len(samples)


@pytest.mark.parametrize("format_", SPEECH_FORMATS)
def test_each_format_has_all_of_the_sound_and_its_pitch(format_: SpeechFormat) -> None:
    samples, rate = decoded(format_, b"".join(encoded(format_, *np.array_split(TONE, 4))))
    assert 0 <= len(samples) / rate - len(TONE) / VOICE_RATE < PADDED_S
    third = len(samples) // 3
    for at in (0, third, 2 * third):
        ours = TONE[at * VOICE_RATE // rate :][: third * VOICE_RATE // rate]
        assert abs(pitch_hz(samples[at : at + third], rate) - pitch_hz(ours, VOICE_RATE)) < 10
    loudness = np.abs(samples).max()
    assert 0.25 < loudness < 0.6


@pytest.mark.parametrize("format_", ["wav", "pcm", "flac"])
def test_what_is_not_compressed_with_loss_is_the_same_bit_for_bit(format_: SpeechFormat) -> None:
    samples, rate = decoded(format_, b"".join(encoded(format_, TONE)))
    assert rate == VOICE_RATE
    assert np.abs(samples - TONE).max() < 1e-4


@pytest.mark.parametrize("format_", SPEECH_FORMATS)
def test_the_bytes_are_the_same_however_the_sound_comes_and_come_at_once(format_: SpeechFormat) -> None:
    first, second, rest = encoded(format_, TONE[:VOICE_RATE], TONE[VOICE_RATE:])
    whole = b"".join(encoded(format_, TONE))
    assert abs(len(first + second + rest) - len(whole)) < 2000
    seconds = len(decoded(format_, first)[0]) / decoded(format_, first)[1]
    assert seconds > 0.7, "of the second that was fed"


@pytest.mark.parametrize("format_", SPEECH_FORMATS)
def test_an_encoder_that_is_left_says_nothing(format_: SpeechFormat) -> None:
    encoder = SpeechEncoder(format_)
    encoder.feed(TONE)
    del encoder
    gc.collect()


def test_a_sound_beyond_what_16_bits_hold_is_limited() -> None:
    (first, _) = encoded("pcm", np.array([2.0, -2.0, 0.0], np.float32))
    assert np.frombuffer(first, "<i2").tolist() == [32767, -32767, 0]


def test_a_wav_file_is_read_though_its_length_was_not_known() -> None:
    samples, rate = soundfile.read(io.BytesIO(b"".join(encoded("wav", TONE))))
    assert (len(samples), rate) == (len(TONE), VOICE_RATE)


def test_nothing_is_a_file_too() -> None:
    assert len(encoded("wav")[0]) == 44
    assert encoded("mp3") == encoded("pcm") == [b""]
