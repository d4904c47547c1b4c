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

    __slots__ = ("_blocks", "_markers", "_past", "first", "last")

    def __init__(self, first: int = 0) -> None:
        self._blocks: deque[npt.NDArray[np.int16]] = deque()
        self._past: deque[npt.NDArray[np.int16]] = deque()
        """The blocks right before `first` that are kept as context."""
        self._markers: deque[tuple[int, str | int]] = deque()
        self.first = first
        """The number of the first sample on the tape."""
        self.last = first
        """The number after the last sample on the tape."""

    def append(self, samples: Samples) -> None:
        self._blocks.append(np.clip(samples * SCALE, -32_768, 32_767).astype(np.int16))
        self.last += len(samples)

    def read(self, start: int, end: int) -> Samples:
        """Returns the samples from `start` to `end`, less those that were dropped; context may be among them."""
        parts: list[npt.NDArray[np.int16]] = []
        at = self.first - sum(map(len, self._past))
        for block in (*self._past, *self._blocks):
            if at + len(block) > start and at < end:
                parts.append(block[max(0, start - at) : end - at])
            at += len(block)
        return np.concatenate(parts).astype(np.float32) / SCALE if parts else np.zeros(0, np.float32)

    def drop(self, before: int, context_from: int | None = None) -> None:
        """Drops the whole blocks that end at or before a sample, but keeps those from `context_from` on for `read`."""
        while self._blocks and self.first + len(self._blocks[0]) <= before:
            self._past.append(self._blocks.popleft())
            self.first += len(self._past[-1])
        oldest = self.first - sum(map(len, self._past))
        while self._past and oldest + len(self._past[0]) <= (before if context_from is None else context_from):
            oldest += len(self._past.popleft())

    def mark(self, position: int, marker: str | int) -> None:
        """Remembers a client's marker behind the samples before a position."""
        self._markers.append((position, marker))

    def take_markers(self, until: int) -> list[str | int]:
        """Returns the markers up to a position, the first ones first, and forgets them."""
        taken: list[str | int] = []
        while self._markers and self._markers[0][0] <= until:
            taken.append(self._markers.popleft()[1])
        return taken
