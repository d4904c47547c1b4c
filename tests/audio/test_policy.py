"""The policy decides where segments begin and end."""

import pytest

from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.options import LOOKBACK_FRAMES, MAX_SEGMENT, PREFIX, TAIL, SessionOptions
from audio.policy import Onset, best_pause, cut_of, end_of, is_speech, prefix
from audio.segment import Segment

OPTIONS = SessionOptions()


@pytest.mark.parametrize(
    ("probabilities", "since"),
    [
        ([0.9], 0),
        ([0.9, 0.9], 2),
        ([0.5, 0.5], 2),
        ([0.9, 0.4, 0.9], 0),
        ([0.1, 0.9, 0.9, 0.9], 3),
    ],
)
def test_speech_begins_with_two_frames_in_a_row(probabilities: list[float], since: int) -> None:
    onset = Onset()
    assert [onset.feed(probability, OPTIONS) for probability in probabilities][-1] == since * FRAME


def test_what_was_forgotten_does_not_count() -> None:
    onset = Onset()
    onset.feed(0.9, OPTIONS)
    onset.reset()
    assert onset.feed(0.9, OPTIONS) == 0


def test_inside_a_segment_less_is_still_speech() -> None:
    assert is_speech(0.35, OPTIONS)
    assert not is_speech(0.34, OPTIONS)
    assert not is_speech(0.0, SessionOptions(threshold=0.0))


def test_the_prefix_is_whole_frames() -> None:
    assert prefix(OPTIONS) == PREFIX
    assert prefix(SessionOptions(prefix_s=0.1)) == 3 * FRAME


def test_a_segment_is_over_after_the_endpointing_time() -> None:
    segment = Segment(0, start=0, last_speech=SAMPLE_RATE)
    assert end_of(segment, SAMPLE_RATE * 3 // 2 - 1, OPTIONS) is None
    assert end_of(segment, SAMPLE_RATE * 3 // 2, OPTIONS) == SAMPLE_RATE + TAIL
    assert end_of(segment, 100 * SAMPLE_RATE, SessionOptions(endpointing_s=None)) is None


def test_a_segment_with_less_silence_than_its_tail_ends_where_it_was_heard_to() -> None:
    segment = Segment(0, start=0, last_speech=SAMPLE_RATE)
    options = SessionOptions(endpointing_s=0.05)
    assert end_of(segment, SAMPLE_RATE + 1000, options) == SAMPLE_RATE + 1000


def test_a_long_segment_is_cut_at_its_best_pause() -> None:
    segment = Segment(0, start=FRAME, last_speech=0)
    segment.probabilities = [0.9] * (MAX_SEGMENT // FRAME)
    pause = MAX_SEGMENT // 2 // FRAME + 40
    segment.probabilities[pause - 2 : pause + 3] = [0.1] * 5
    assert cut_of(segment, MAX_SEGMENT, OPTIONS) is None
    assert cut_of(segment, MAX_SEGMENT + FRAME, OPTIONS) == (1 + pause) * FRAME


def test_the_best_pause_is_where_speech_is_least_likely_and_late_among_equals() -> None:
    probabilities = [1.0] * 100
    probabilities[40:46] = [0.1] * 6
    assert 42 <= best_pause(probabilities, 20, 99) <= 43
    assert best_pause([1.0] * 100, 20, 98) == 98


def onset_of(*probabilities: float, options: SessionOptions | None = None) -> int:
    """Returns how many frames before its end a sequence began with speech."""
    onset, length = Onset(), 0
    for probability in probabilities:
        length = onset.feed(probability, options or SessionOptions())
    return length // FRAME


@pytest.mark.parametrize(
    ("probabilities", "length"),
    [
        ((0.0, 0.9, 0.9), 2),
        ((0.0, 0.2, 0.3, 0.4, 0.9, 0.9), 5),
        ((0.3, 0.0, 0.0, 0.3, 0.9, 0.9), 6),
        ((0.3, 0.0, 0.0, 0.0, 0.3, 0.9, 0.9), 3),
        ((0.14, 0.14, 0.9, 0.9), 2),
        ((0.4,) * 60 + (0.9, 0.9), LOOKBACK_FRAMES),
        ((0.9, 0.3), 0),
    ],
)
def test_speech_began_with_the_soft_frames_before_the_certain_ones(
    probabilities: tuple[float, ...], length: int
) -> None:
    assert onset_of(*probabilities) == length


def test_a_lower_threshold_hears_softer_speech() -> None:
    assert onset_of(0.0, 0.3, 0.3) == 0
    assert onset_of(0.0, 0.3, 0.3, options=SessionOptions(threshold=0.3)) == 2
