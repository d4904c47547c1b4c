"""Limits what a session may be sent: audio in real time, and an allowance on top; so many messages besides."""

from collections.abc import Callable

from audio.model.transcriber import SAMPLE_RATE
from gateway.errors import TooLarge

ALLOWANCE_S = 60.0
"""Seconds of audio that a client that was cut off may send at once: as many as it is asked to keep."""
LEAST_FRAME = SAMPLE_RATE // 400
"""Samples that a frame counts for, however few it has, since one of a single byte is as much work: 2.5 ms. Browsers cut
audio into 128 samples, which at 48 kHz are 2.7."""
MESSAGES_PER_S = 100
"""Messages without audio that may come in a second; those of the allowance's time may come at once."""


class Meter:
    """The meter of one session in one process, whatever connections it has."""

    __slots__ = ("_began", "_clock", "_messages", "_samples")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._samples = 0
        self._messages = 0

    def count(self, samples: int) -> None:
        """Counts a frame. Raises TooLarge with code `too_much_audio` when it exceeds real time and the allowance."""
        self._samples += max(samples, LEAST_FRAME)
        sent_s, open_s = self._samples / SAMPLE_RATE, self._clock() - self._began
        if sent_s > open_s + ALLOWANCE_S:
            raise TooLarge(
                f"{sent_s:.0f} s of audio in {open_s:.0f} s: real time and {ALLOWANCE_S:g} s more are taken, "
                "and no frame counts for less than 2.5 ms",
                code="too_much_audio",
            )

    def count_message(self) -> None:
        """Counts a message without audio. Raises TooLarge with code `too_many_messages`."""
        self._messages += 1
        open_s = self._clock() - self._began
        if self._messages > (open_s + ALLOWANCE_S) * MESSAGES_PER_S:
            raise TooLarge(
                f"{self._messages} messages in {open_s:.0f} s: {MESSAGES_PER_S} a second are taken",
                code="too_many_messages",
            )
