"""The band of a stream is measured from its sound, and speech by telephone is believed sooner."""

import numpy as np
import pytest
import soxr

from audio.model.band import FRAME, Band, lifted
from audio.model.transcriber import SAMPLE_RATE, Samples


def fit(samples: Samples, *, step: int = 3) -> tuple[Band, list[float]]:
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    band, fitted = Band(), []
    for at in range(0, len(frames), step):
        piece = frames[at : at + step]
        fitted += band.fit(piece, np.full(len(piece), 0.25, np.float32)).tolist()
    return band, fitted


def noise(seconds: float, level: float = 0.1) -> Samples:
    return np.random.default_rng(1).normal(0, level, int(seconds * SAMPLE_RATE)).astype(np.float32)


def by_telephone(samples: Samples) -> Samples:
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum[(hz < 300) | (hz > 3400)] = 0
    narrow = soxr.resample(np.fft.irfft(spectrum, len(samples)), SAMPLE_RATE, 8000)
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    return soxr.resample(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255, 8000, SAMPLE_RATE).astype("f4")


@pytest.mark.parametrize("level", [0.1, 0.01, 0.003])
def test_what_ends_at_3400_hz_is_narrow_however_soft(level: float) -> None:
    band, fitted = fit(by_telephone(noise(1.0, level)))
    assert band.is_narrow
    assert fitted[-1] == pytest.approx(0.5, abs=0.01)


def tone(hz: float) -> Samples:
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


@pytest.mark.parametrize(
    "sound", [noise(1.0), np.zeros(SAMPLE_RATE, np.float32), tone(50), tone(250) + tone(500), tone(6000)]
)
def test_what_is_wide_or_says_nothing_is_left_as_it_is(sound: Samples) -> None:
    band, fitted = fit(sound)
    assert not band.is_narrow
    assert set(fitted) == {0.25}


def test_a_band_is_forgotten_when_another_one_follows() -> None:
    band, _ = fit(np.concatenate([by_telephone(noise(1.0)), noise(1.0)]))
    assert not band.is_narrow


def test_the_answer_is_the_same_in_whatever_pieces() -> None:
    sound = np.concatenate([by_telephone(noise(0.5)), noise(0.1, 0.001), by_telephone(noise(0.5))])
    assert fit(sound, step=1)[1] == fit(sound, step=7)[1]


def test_odds_are_lifted_and_stay_between_0_and_1() -> None:
    assert lifted(np.array([0.0, 0.15, 0.25, 1.0], np.float32)).tolist() == pytest.approx([0, 0.346, 0.5, 1], abs=0.001)
