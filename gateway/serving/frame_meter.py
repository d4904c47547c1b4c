"""Meters what one WebSocket client sends, whatever it means.

Lanes meter what they hear: audio, and messages. Pings, pongs, fragments and single bytes never reach a lane and are as
much work, so every frame and every byte is charged here, before anyone asks what it says. The limits lie above what
lanes take in real time and at once; a client that keeps those never comes near these.
"""

FRAMES_PER_S = 1000
"""Frames a client may send per second, in the long run.

Audio of 2.5 ms a frame and a hundred messages make half of it; the rest is for fragments, pings and pongs.
"""
BYTES_PER_S = 1_048_576
"""Bytes a client may send per second, in the long run.

The widest audio, two channels of 64 bits at 48 kHz, is 768,000.
"""
ALLOWANCE_S = 60.0
"""Seconds whose frames and bytes may come at once, as lanes allow too: a client that was cut off sends them again."""
MIN_READ = 1024
"""Minimum bytes charged for one read, however few it brings, since each one wakes the server."""


class FrameMeter:
    """The allowance of one connection, as two buckets that fill with time.

    Each bucket is kept as the moment at which it will be full again, so that charging it costs an addition.
    """

    __slots__ = ("_bytes_full_at", "_frames_full_at")

    def __init__(self) -> None:
        self._frames_full_at = 0.0
        self._bytes_full_at = 0.0

    def take(self, frames: int, size: int, now: float) -> bool:
        """Charges a read of `size` bytes in which `frames` ended; returns False when that exceeds the allowance.

        `now` is in seconds, on any clock that does not go back.
        """
        if self._frames_full_at < now:
            self._frames_full_at = now
        if self._bytes_full_at < now:
            self._bytes_full_at = now
        self._frames_full_at += frames / FRAMES_PER_S
        self._bytes_full_at += (size if size > MIN_READ else MIN_READ) / BYTES_PER_S
        latest = now + ALLOWANCE_S
        return self._frames_full_at <= latest and self._bytes_full_at <= latest
