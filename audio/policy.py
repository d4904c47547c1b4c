"""Decides when a transcript becomes final (endpointing), by the speech probability of each frame. Pure.

A segment begins with the onset of speech, ends with a silence after it, and is cut in two where it grows too long.
"""

from collections import deque
from collections.abc import Sequence

from audio.model.transcriber import SAMPLE_RATE
from audio.model.vad import FRAME
from audio.options import HINT, HINT_PAUSE, LOOKBACK_FRAMES, OFF, ON, ONSET_FRAMES, TAIL, SessionOptions
from audio.segment import Segment


class Onset:
    """Detects the beginning of speech, and looks back for it: what is soft at first is certain only later."""

    __slots__ = ("_frames", "_recent")

    def __init__(self) -> None:
        self._frames = 0
        """Number of speech frames in a row."""
        self._recent: deque[float] = deque(maxlen=LOOKBACK_FRAMES)
        """The probabilities of the last frames."""

    def feed(self, probability: float, options: SessionOptions) -> int:
        """Takes one more frame. Returns the samples since speech began once that is certain, and 0 until then."""
        self._recent.append(probability)
        self._frames = self._frames + 1 if probability >= options.threshold else 0
        return self._length(options) * FRAME if self._frames >= ONSET_FRAMES else 0

    def _length(self, options: SessionOptions) -> int:
        """Returns the frames since speech began: none before it is likelier than a hint, but for a moment."""
        length = self._frames
        for back, probability in enumerate(reversed(self._recent), 1):
            if probability >= options.threshold * HINT:
                length = max(length, back)
            elif back > length + HINT_PAUSE:
                break
        return length

    def recent(self, count: int) -> list[float]:
        """Returns the probabilities of the last frames, 0 for those that it does not remember."""
        known = list(self._recent)[-count:] if count else []
        return [0.0] * (count - len(known)) + known

    def reset(self) -> None:
        self._frames = 0
        self._recent.clear()


def prefix(options: SessionOptions) -> int:
    """Returns the samples kept before the first frame of speech, in whole frames."""
    return round(options.prefix_s * SAMPLE_RATE / FRAME) * FRAME


def needed_from(position: int, options: SessionOptions) -> int:
    """Returns the first sample of silence that a segment might need which begins at `position` or later."""
    return position - prefix(options) - LOOKBACK_FRAMES * FRAME


def is_speech(probability: float, options: SessionOptions) -> bool:
    """Tells whether a frame inside a segment is speech: its threshold lies lower, as OFF lies below ON."""
    return probability >= max(options.threshold - (ON - OFF), 0.01)


def speech_of(segment: Segment, end: int, options: SessionOptions) -> tuple[list[bool], list[bool]]:
    """Returns whether each frame of a segment, up to a sample, is speech, and whether it would begin a segment."""
    frames = segment.probabilities[: (end - segment.start) // FRAME]
    certain = [probability >= options.threshold for probability in frames]
    return [is_speech(probability, options) for probability in frames], certain


def end_of(segment: Segment, position: int, options: SessionOptions) -> int | None:
    """Returns the end of a segment that was followed until `position`; None when it is not over."""
    if options.endpointing_s is None or position - segment.last_speech < options.endpointing_s * SAMPLE_RATE:
        return None
    return min(segment.last_speech + TAIL, position)


def cut_of(segment: Segment, position: int, options: SessionOptions) -> int | None:
    """Returns where a segment that was followed until `position` is cut in two; None when it is not too long."""
    longest = options.max_segment
    if position - segment.start < longest:
        return None
    frames = segment.probabilities
    return segment.start + best_pause(frames, longest // 2 // FRAME, len(frames) - 1) * FRAME


def best_pause(probabilities: Sequence[float], first: int, last: int, width: int = 5) -> int:
    """Returns the frame from `first` to `last` where speech is least likely, over `width` frames around it.

    The latest wins among equals: longer segments have more context.
    """
    best, lowest = last, float("inf")
    for frame in range(first, last + 1):
        around = probabilities[max(0, frame - width // 2) : frame + width // 2 + 1]
        mean = sum(around) / max(1, len(around))
        if mean <= lowest:
            best, lowest = frame, mean
    return best
