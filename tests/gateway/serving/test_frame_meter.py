"""The frame meter limits what one WebSocket client may send, whatever it means."""

from audio import meter
from audio.decoders.formats import MAX_FRAME_BYTES
from gateway.serving.frame_meter import ALLOWANCE_S, BYTES_PER_S, FRAMES_PER_S, MIN_READ, FrameMeter

NOW = 1000.0


def test_frames_of_the_allowance_may_come_at_once_and_then_as_time_goes_by() -> None:
    bucket = FrameMeter()
    assert bucket.take(int(FRAMES_PER_S * ALLOWANCE_S), 0, NOW)
    assert not bucket.take(2, 0, NOW)
    assert bucket.take(FRAMES_PER_S, 0, NOW + 1.1)


def test_bytes_are_charged_whether_or_not_a_frame_ends_in_them() -> None:
    bucket = FrameMeter()
    assert bucket.take(0, int(BYTES_PER_S * ALLOWANCE_S), NOW)
    assert not bucket.take(0, MIN_READ, NOW)
    assert bucket.take(0, BYTES_PER_S, NOW + 1.1)


def test_a_read_of_one_byte_counts_what_it_costs() -> None:
    bucket = FrameMeter()
    reads = 0
    while bucket.take(0, 1, NOW):
        reads += 1
    assert reads == BYTES_PER_S * ALLOWANCE_S // MIN_READ


def test_idle_time_fills_no_more_than_the_allowance() -> None:
    bucket = FrameMeter()
    assert bucket.take(1, 6, NOW)
    assert not bucket.take(int(FRAMES_PER_S * ALLOWANCE_S) + 1, 0, NOW + 86_400)


def test_the_busiest_client_that_keeps_the_lanes_limits_is_never_refused() -> None:
    """It sends all audio of the allowance at once in the smallest frames, then real time, each frame in a read of its
    own.
    """
    bucket = FrameMeter()
    frames = int(1 / 0.0025)
    size = 2 * 8 * 48_000 // frames + 14
    for _ in range(int(meter.ALLOWANCE_S)):
        for _ in range(frames):
            assert bucket.take(1, size, NOW)
        for _ in range(meter.MESSAGES_PER_S):
            assert bucket.take(1, 32, NOW)
    for second in range(1, 601):
        for n in range(frames):
            assert bucket.take(1, size, NOW + second + n / frames)
        assert bucket.take(meter.MESSAGES_PER_S + 2, MAX_FRAME_BYTES, NOW + second + 1)
