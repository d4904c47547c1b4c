"""The audio of a session that may still be needed."""

from collections import deque

import numpy as np
import numpy.typing as npt

from audio.model.transcriber import Samples

SCALE = np.float32(32_768)


class Tape:
    """Samples by their number; what is settled is dropped from the front.

    Kept with 16 bits: half the memory of a session in silence, and what most clients sent in the first place.
    """

    __slots__ = ("_chunks", "first", "last")

    def __init__(self, first: int = 0) -> None:
        self._chunks: deque[npt.NDArray[np.int16]] = deque()
        self.first = first
        """Number of the first sample kept."""
        self.last = first
        """Number after the last."""

    def append(self, samples: Samples) -> None:
        self._chunks.append(np.clip(samples * SCALE, -32_768, 32_767).astype(np.int16))
        self.last += len(samples)

    def read(self, start: int, end: int) -> Samples:
        """The samples `start` to `end`; what was dropped is left out."""
        parts: list[npt.NDArray[np.int16]] = []
        at = self.first
        for chunk in self._chunks:
            if at + len(chunk) > start and at < end:
                parts.append(chunk[max(0, start - at) : end - at])
            at += len(chunk)
        return np.concatenate(parts).astype(np.float32) / SCALE if parts else np.zeros(0, np.float32)

    def drop(self, before: int) -> None:
        """Forgets whole chunks that end at or before a sample."""
        while self._chunks and self.first + len(self._chunks[0]) <= before:
            self.first += len(self._chunks.popleft())
