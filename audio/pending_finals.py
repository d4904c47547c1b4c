"""The segments of a session that are over and wait for their finals; and how finals are numbered."""

from collections import deque

from audio.segment import ClosedSegment, Segment, Turn


class PendingFinals:
    """Oldest first. Numbers have no holes: a segment that nobody saw and that says nothing gives its number back."""

    __slots__ = ("_closed", "_forgotten", "told")

    def __init__(self, told: int) -> None:
        self.told = told
        """How many finals there were."""
        self._closed: deque[ClosedSegment] = deque()
        self._forgotten = -1
        """The highest number that was seen of a segment that is forgotten: no later one may take it."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def first(self) -> ClosedSegment:
        return self._closed[0]

    @property
    def next_number(self) -> int:
        return self.told + len(self._closed)

    def append(self, closed: ClosedSegment) -> None:
        self._closed.append(closed)

    def turns(self) -> list[Turn]:
        """Those that are over."""
        return [Turn(closed.turn, closed.end) for closed in self._closed if closed.is_last]

    def pop(self, spoken: Segment | None, *, has_text: bool) -> tuple[ClosedSegment, bool]:
        """The oldest, and whether it has a final; `spoken` is the segment that is not over."""
        closed = self._closed.popleft()
        if has_text or closed.shown or closed.number < self._forgotten or self._later_is_shown(spoken):
            self.told += 1
            return closed, True
        for later in self._closed:
            later.number -= 1
        if spoken is not None:
            spoken.number -= 1
        return closed, False

    def forget(self, segment: Segment) -> list[ClosedSegment]:
        """Drops what was cut from a segment that is itself dropped. A number that was seen is not used again."""
        gone = [closed for closed in self._closed if closed.turn == segment.turn]
        self._closed = deque(closed for closed in self._closed if closed.turn != segment.turn)
        if segment.shown or any(closed.shown for closed in gone):
            self.told += len(gone) + 1
            self._forgotten = segment.number
        return gone

    def _later_is_shown(self, spoken: Segment | None) -> bool:
        return any(later.shown for later in self._closed) or (spoken is not None and spoken.shown)
