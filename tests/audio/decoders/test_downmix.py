"""Channels are mixed to their mean, and where they cancel each other out the loudest is heard, without a click."""

import numpy as np
import pytest
from hypothesis import given, settings

from audio.decoders.downmix import WINDOW_S, Downmix
from audio.model.transcriber import Samples
from tests.audio.decoders.test_files import iter_blocks, samples_of, sound_of
from tests.audio.feeding import cut, cuts, decode_all, encode_file, mux, tone

RATE = 16_000
SOUND = tone(1.0, RATE, 300.0)
OTHER = tone(1.0, RATE, 710.0)
NOTHING = np.zeros(RATE, np.float32)
LATE = 2 * round(WINDOW_S * RATE)
"""Number of samples in which it is found out that the channels cancel each other out, and one is faded in."""


def frames(*channels: Samples) -> Samples:
    return np.stack(channels, axis=1)


OPPOSED = {
    "stereo": frames(SOUND, -SOUND),
    "stereo, one side fainter": frames(SOUND, SOUND * np.float32(-0.7)),
    "stereo, the other side fainter": frames(SOUND * np.float32(-0.7), SOUND),
    "three": frames(SOUND, -SOUND, NOTHING),
    "quadrophonic": frames(SOUND, -SOUND, SOUND, -SOUND),
    "5.1, front": frames(SOUND, -SOUND, *[NOTHING] * 4),
    "5.1, centre and a side": frames(NOTHING, -SOUND, SOUND, *[NOTHING] * 3),
}


@pytest.mark.parametrize("kind", OPPOSED)
def test_channels_of_opposite_polarity_are_heard(kind: str) -> None:
    downmix = Downmix()
    heard = downmix.feed(OPPOSED[kind], RATE)
    np.testing.assert_allclose(np.abs(heard[LATE:]), np.abs(SOUND[LATE:]), atol=1e-6)
    assert downmix.cancelled_s == pytest.approx(1.0, abs=3 * WINDOW_S)


ADDED = {
    "the same twice": frames(SOUND, SOUND),
    "one side only": frames(SOUND, NOTHING),
    "two voices": frames(SOUND, OTHER),
    "5.1, centre only": frames(NOTHING, NOTHING, SOUND, *[NOTHING] * 3),
    "unrelated noise": np.random.default_rng(3).standard_normal((RATE, 2)).astype(np.float32) * np.float32(0.1),
    "silence": frames(NOTHING, NOTHING),
}


@pytest.mark.parametrize("kind", ADDED)
def test_all_other_channels_are_mixed_to_their_mean(kind: str) -> None:
    downmix = Downmix()
    np.testing.assert_allclose(downmix.feed(ADDED[kind], RATE), ADDED[kind].mean(axis=1), atol=1e-7)
    assert downmix.cancelled_s == 0


def test_a_pole_that_is_exchanged_in_the_middle_makes_no_click_and_no_silence() -> None:
    low = tone(3.0, RATE, 100.0)
    sides = frames(low, np.concatenate([low[:RATE], -low[RATE : 2 * RATE], low[2 * RATE :]]))
    heard = Downmix().feed(sides, RATE)
    steepest = np.abs(np.diff(low)).max()
    assert np.abs(np.diff(np.delete(heard, slice(RATE - 1, RATE + 1)))).max() < 2 * steepest
    for start in range(0, len(heard), RATE // 5):
        assert np.abs(heard[start : start + RATE // 5]).max() > 0.2


def test_a_pause_does_not_bring_the_silence_back() -> None:
    sides = np.concatenate([frames(SOUND, -SOUND), frames(NOTHING, NOTHING), frames(SOUND, -SOUND)])
    heard = Downmix().feed(sides, RATE)
    np.testing.assert_allclose(heard[2 * RATE :], SOUND, atol=1e-6)


def test_the_mean_is_heard_again_where_the_channels_add_up_again() -> None:
    sides = np.concatenate([frames(SOUND, -SOUND), frames(SOUND, OTHER)])
    heard = Downmix().feed(sides, RATE)
    np.testing.assert_allclose(heard[3 * RATE // 2 :], sides[3 * RATE // 2 :].mean(axis=1), atol=1e-6)


def test_the_loudest_channel_is_left_for_one_that_is_much_louder_only() -> None:
    half, tenth = SOUND * np.float32(0.6), SOUND * np.float32(0.1)
    still = frames(*map(np.concatenate, ([SOUND, half], [-half, -SOUND])))
    np.testing.assert_allclose(Downmix().feed(still, RATE)[RATE:], half, atol=1e-6)
    turned = frames(*map(np.concatenate, ([SOUND, tenth], [-SOUND, -SOUND], [NOTHING, SOUND])))
    assert np.abs(Downmix().feed(turned, RATE)[3 * RATE // 2 :]).max() > 0.4


def test_numbers_that_are_none_spoil_nothing_after_them() -> None:
    wild = frames(SOUND, -SOUND)
    wild[:400] = np.nan
    wild[400:800, 0] = np.inf
    wild[800:1200] = 3e38
    heard = Downmix().feed(wild.astype(np.float64) * 10, RATE)
    np.testing.assert_allclose(np.abs(heard[3000:]), np.abs(10 * SOUND[3000:]), rtol=1e-5)


@given(cuts)
@settings(deadline=None, max_examples=40)
def test_however_a_stream_is_cut_its_samples_are_the_same(places: list[int]) -> None:
    sides = np.concatenate([frames(SOUND, SOUND), frames(SOUND, -SOUND), frames(SOUND, OTHER)])
    stream = (sides * 32_767).astype("<i2").tobytes()
    whole = decode_all("pcm_s16le", [stream], RATE, 2)
    np.testing.assert_array_equal(decode_all("pcm_s16le", cut(stream, places), RATE, 2), whole)
    assert np.abs(whole[RATE + LATE : 2 * RATE]).max() > 0.4


STREAMS = {
    "pcm": lambda sides: ("pcm_s16le", (sides * 32_767).astype("<i2").tobytes()),
    "wav": lambda sides: ("wav", encode_file(sides, RATE, "WAV")),
    "flac": lambda sides: ("flac", encode_file(sides, RATE, "FLAC")),
}


@pytest.mark.parametrize("kind", STREAMS)
def test_every_decoder_of_a_stream_hears_opposite_channels(kind: str) -> None:
    encoding, stream = STREAMS[kind](frames(SOUND, -SOUND))
    heard = decode_all(encoding, [stream[at : at + 8192] for at in range(0, len(stream), 8192)], RATE, 2)
    assert np.abs(heard[LATE:]).max() > 0.45


@pytest.mark.parametrize("container", ["WAV", "FLAC", "AIFF", "W64", "CAF"])
def test_a_file_of_opposite_channels_is_heard(container: str) -> None:
    with sound_of(encode_file(frames(SOUND, -SOUND), RATE, container)) as sound:
        heard = np.concatenate(list(iter_blocks(sound)))
        [warning] = sound.warnings
    np.testing.assert_allclose(np.abs(heard[LATE:]), np.abs(SOUND[LATE:]), atol=1e-3)
    assert warning.endswith("heard alone for 1.0 s"), "it was decoded twice"


def test_a_film_of_opposite_channels_is_heard() -> None:
    heard = samples_of(mux("matroska", "flac", SOUND, RATE, "stereo", opposed=True))
    assert np.abs(heard[LATE:]).max() > 0.45
