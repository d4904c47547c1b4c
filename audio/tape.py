"""The audio of a session that may still be needed."""

from collections import deque

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import Samples

SCALE = np.float32(32_768)


class Tape:
    """The samples of a session by their number; settled ones are dropped from the front.

    They are kept with 16 bits: half the memory of a session in silence, and what most clients sent in the first place.
    """

    __slots__ = ("_blocks", "first", "last")

    def __init__(self, first: int = 0) -> None:
        self._blocks: deque[npt.NDArray[np.int16]] = deque()
        self.first = first
        """The number of the first sample on the tape."""
        self.last = first
        """The number after the last sample on the tape."""

    def append(self, samples: Samples) -> None:
        self._blocks.append(np.clip(samples * SCALE, -32_768, 32_767).astype(np.int16))
        self.last += len(samples)

    def read(self, start: int, end: int) -> Samples:
        """Returns the samples from `start` to `end`, less those that were dropped."""
        parts: list[npt.NDArray[np.int16]] = []
        at = self.first
        for block in self._blocks:
            if at + len(block) > start and at < end:
                parts.append(block[max(0, start - at) : end - at])
            at += len(block)
        return np.concatenate(parts).astype(np.float32) / SCALE if parts else np.zeros(0, np.float32)

    def drop(self, before: int) -> None:
        """Drops the whole blocks that end at or before a sample."""
        while self._blocks and self.first + len(self._blocks[0]) <= before:
            self.first += len(self._blocks.popleft())
