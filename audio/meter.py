"""How much audio a session may be sent: real time, and an allowance on top."""

from collections.abc import Callable

from audio.transcriber import SAMPLE_RATE
from gateway.errors import TooLarge

ALLOWANCE_S = 60.0
"""What a client that was cut off may send at once: as much as it is asked to keep."""


class Meter:
    """Of one session in one process, whatever connections it has."""

    __slots__ = ("_began", "_clock", "_samples")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._samples = 0

    def count(self, samples: int) -> None:
        """Raises TooLarge with code `too_much_audio` when it was more than real time and the allowance."""
        self._samples += samples
        sent_s, open_s = self._samples / SAMPLE_RATE, self._clock() - self._began
        if sent_s > open_s + ALLOWANCE_S:
            raise TooLarge(
                f"{sent_s:.0f} s of audio in {open_s:.0f} s: real time and {ALLOWANCE_S:g} s more are taken",
                code="too_much_audio",
            )
