"""Where a segment begins, where it is over, where a long one is cut: by the speech probability of each frame. Pure."""

from collections.abc import Sequence

from audio.model.transcriber import SAMPLE_RATE
from audio.options import MAX_SEGMENT, MIN_CUT, OFF, ON, ONSET_FRAMES, TAIL, SessionOptions
from audio.segment import FRAME, Segment


class Onset:
    """Waits for speech to begin."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames = 0
        """Of speech in a row."""

    def hear(self, probability: float, asked: SessionOptions) -> int:
        """One more frame: the samples since speech began, once that is certain; 0 until then."""
        self._frames = self._frames + 1 if probability >= asked.threshold else 0
        return self._frames * FRAME if self._frames >= ONSET_FRAMES else 0

    def forget(self) -> None:
        self._frames = 0


def prefix(asked: SessionOptions) -> int:
    """Samples kept before the first frame of speech."""
    return round(asked.prefix_s * SAMPLE_RATE / FRAME) * FRAME


def is_speech(probability: float, asked: SessionOptions) -> bool:
    """Of a frame inside a segment: as far below the threshold as OFF is below ON."""
    return probability >= max(asked.threshold - (ON - OFF), 0.01)


def end_of(segment: Segment, position: int, asked: SessionOptions) -> int | None:
    """Where a segment that was heard until `position` is over; None: it is not."""
    if asked.endpointing_s is None or position - segment.last_speech < asked.endpointing_s * SAMPLE_RATE:
        return None
    return min(segment.last_speech + TAIL, position)


def cut_of(segment: Segment, position: int) -> int | None:
    """Where a segment that was heard until `position` is cut in two, because it is too long; None: it is not."""
    if position - segment.start < MAX_SEGMENT:
        return None
    frames = segment.probabilities
    return segment.start + best_pause(frames, MIN_CUT // FRAME, len(frames) - 1) * FRAME


def best_pause(probabilities: Sequence[float], first: int, last: int, width: int = 5) -> int:
    """The frame in `first` to `last` where speech is least likely, looking at `width` frames at once.

    Later wins among equals: longer segments have more context.
    """
    best, best_sum = last, float("inf")
    for frame in range(first, last + 1):
        around = probabilities[max(0, frame - width // 2) : frame + width // 2 + 1]
        total = sum(around) / max(1, len(around))
        if total <= best_sum:
            best, best_sum = frame, total
    return best
