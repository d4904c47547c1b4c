"""The closed segments of a session that wait for their finals, and how finals are numbered."""

from collections import deque

from audio.context import EarlierFinals
from audio.messages import TurnOver
from audio.options import Output, SessionOptions
from audio.segment import ClosedSegment, Segment, Turn


class PendingFinals:
    """A queue of closed segments, the oldest first.

    Numbers have no holes: a segment that no partial showed and that has no words gives its number back.
    """

    __slots__ = ("_closed", "_highest_cleared", "count", "earlier")

    def __init__(self, count: int) -> None:
        self.count = count
        """Number of finals that the session has had."""
        self.earlier = EarlierFinals()
        self._closed: deque[ClosedSegment] = deque()
        self._highest_cleared = -1
        """The highest number that was shown of a segment that was cleared: no later segment may take it."""

    def __len__(self) -> int:
        return len(self._closed)

    @property
    def first(self) -> ClosedSegment:
        return self._closed[0]

    @property
    def next_number(self) -> int:
        return self.count + len(self._closed)

    def append(self, closed: ClosedSegment) -> None:
        self._closed.append(closed)

    def turns(self) -> list[Turn]:
        """Returns the turns that are over."""
        return [Turn(closed.turn, closed.end) for closed in self._closed if closed.is_last]

    def pop(self, open_segment: Segment | None, *, has_text: bool) -> tuple[ClosedSegment, bool]:
        """Returns the oldest segment, and whether it has a final. `open_segment` is the one that is not over."""
        closed = self._closed.popleft()
        is_needed = closed.is_shown or closed.number < self._highest_cleared or self._later_is_shown(open_segment)
        if has_text or is_needed:
            self.count += 1
            return closed, True
        for later in self._closed:
            later.number -= 1
        if open_segment is not None:
            open_segment.number -= 1
        return closed, False

    def settle(self, open_segment: Segment | None, options: SessionOptions) -> tuple[ClosedSegment, list[Output]]:
        """Returns the oldest segment, and what is put out about it.

        It has no final when the model never answered, and when it has no words and no partial was shown.
        """
        closed, has_final = self.pop(open_segment, has_text=bool(self.first.hearing.answer.text))
        self.earlier.add(closed.start, closed.end, closed.hearing.answer.text)
        turn = closed.turn if options.turns else None
        messages: list[Output] = [*closed.gaps(turn)]
        if has_final and closed.hearing.is_begun:
            messages.append(closed.final(turn, words=options.words))
        if closed.is_last and options.turns:
            messages.append(TurnOver(closed.turn))
        return closed, messages

    def clear(self, segment: Segment) -> list[ClosedSegment]:
        """Drops what was cut from a segment that is dropped itself. A number that was shown is not used again."""
        dropped = [closed for closed in self._closed if closed.turn == segment.turn]
        self._closed = deque(closed for closed in self._closed if closed.turn != segment.turn)
        if segment.is_shown or any(closed.is_shown for closed in dropped):
            self.count += len(dropped) + 1
            self._highest_cleared = segment.number
        return dropped

    def _later_is_shown(self, open_segment: Segment | None) -> bool:
        return any(later.is_shown for later in self._closed) or (open_segment is not None and open_segment.is_shown)
