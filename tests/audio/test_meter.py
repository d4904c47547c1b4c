"""The meter limits how much audio and how many messages a session may send."""

import pytest

from audio.meter import ALLOWANCE_S, LEAST_FRAME, MESSAGES_PER_S, Meter
from audio.model.transcriber import SAMPLE_RATE
from gateway.errors import TooLarge


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_real_time_is_taken_for_ever_and_the_allowance_once() -> None:
    clock = Clock()
    meter = Meter(clock)
    meter.count(int(ALLOWANCE_S) * SAMPLE_RATE)
    for _ in range(100):
        clock.now += 1
        meter.count(SAMPLE_RATE)
    with pytest.raises(TooLarge, match="161 s of audio in 100 s") as error:
        meter.count(SAMPLE_RATE)
    assert error.value.code == "too_much_audio"


def test_frames_of_next_to_nothing_count_what_they_cost() -> None:
    meter = Meter(Clock())
    for _ in range(int(ALLOWANCE_S * 400)):
        meter.count(0)
    with pytest.raises(TooLarge, match="no frame counts for less"):
        meter.count(1)
    assert LEAST_FRAME == 40


def test_small_frames_of_a_browser_are_no_more_than_they_are() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(100_000):
        clock.now += 128 / 48_000
        meter.count(43)


def test_messages_without_audio_have_a_limit_of_their_own() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(int(ALLOWANCE_S * MESSAGES_PER_S)):
        meter.count_message()
    meter.count(SAMPLE_RATE)
    with pytest.raises(TooLarge, match="100 a second") as error:
        meter.count_message()
    assert error.value.code == "too_many_messages"
    clock.now += 1
    meter.count_message()
