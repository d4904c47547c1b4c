"""The audio of a session that may still be needed."""

from collections import deque

import numpy as np

from audio.transcriber import Samples


class Tape:
    """Samples by their number; what is settled is dropped from the front."""

    __slots__ = ("_chunks", "first", "last")

    def __init__(self, first: int = 0) -> None:
        self._chunks: deque[Samples] = deque()
        self.first = first
        """Number of the first sample kept."""
        self.last = first
        """Number after the last."""

    def append(self, samples: Samples) -> None:
        self._chunks.append(samples)
        self.last += len(samples)

    def read(self, start: int, end: int) -> Samples:
        """The samples `start` to `end`; what was dropped is left out."""
        parts: list[Samples] = []
        at = self.first
        for chunk in self._chunks:
            if at + len(chunk) > start and at < end:
                parts.append(chunk[max(0, start - at) : end - at])
            at += len(chunk)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def drop(self, before: int) -> None:
        """Forgets whole chunks that end at or before a sample."""
        while self._chunks and self.first + len(self._chunks[0]) <= before:
            self.first += len(self._chunks.popleft())
