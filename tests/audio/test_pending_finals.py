"""Finals are numbered while segments are dropped, settled and forgotten."""

from hypothesis import given, settings
from hypothesis import strategies as st

from audio.pending_finals import PendingFinals
from audio.segment import ClosedSegment, Segment, Turn

LENGTH = 1000


class Speech:
    """Acts as a session does with its segments: one is being spoken, those before it wait for their finals."""

    def __init__(self, final_count: int = 0) -> None:
        self.due = PendingFinals(final_count)
        self.segment: Segment | None = None
        self.at = 0

    def speak(self, *, is_shown: bool = False) -> Segment:
        self.segment = Segment(self.due.next_number, self.at, self.at)
        self.segment.is_shown = is_shown
        return self.segment

    def close(self) -> ClosedSegment:
        """Ends the segment."""
        return self._close(is_last=True)

    def cut(self, *, is_shown: bool = False) -> ClosedSegment:
        """Cuts the segment; its rest goes on."""
        assert self.segment is not None
        rest = self.segment.rest(self.at + LENGTH)
        segment = self._close(is_last=False)
        self.segment, rest.is_shown = rest, is_shown
        return segment

    def _close(self, *, is_last: bool) -> ClosedSegment:
        assert self.segment is not None
        self.at += LENGTH
        segment = ClosedSegment(self.segment, self.at, [], [], is_last=is_last)
        self.segment = None
        self.due.append(segment)
        return segment

    def say(self, *, is_shown: bool = False) -> ClosedSegment:
        """Speaks and ends a whole segment."""
        self.speak(is_shown=is_shown)
        return self.close()

    def settle(self, *, has_text: bool) -> tuple[int, bool]:
        """Returns the number of the oldest segment, and whether it has a final."""
        segment, is_told = self.due.pop(self.segment, has_text=has_text)
        return segment.number, is_told

    def clear(self) -> list[ClosedSegment]:
        """Drops the segment that is being spoken."""
        segment, self.segment = self.segment, None
        assert segment is not None
        self.at += LENGTH
        return self.due.clear(segment)


def test_numbers_go_on_after_the_finals_of_an_earlier_process() -> None:
    speech = Speech(final_count=7)
    speech.say()
    speech.say()
    assert (speech.speak().number, speech.due.next_number) == (9, 9)
    assert [speech.settle(has_text=True) for _ in range(2)] == [(7, True), (8, True)]
    assert speech.due.count == 9


def test_the_oldest_segment_is_first() -> None:
    speech = Speech()
    first, second = speech.say(), speech.say()
    assert speech.due.first is first
    speech.settle(has_text=True)
    assert speech.due.first is second


def test_an_empty_segment_passes_its_number_on_to_all_that_follow() -> None:
    speech = Speech()
    segments = [speech.say() for _ in range(3)]
    speech.speak()
    assert speech.settle(has_text=False) == (0, False)
    assert [later.number for later in segments[1:]] == [0, 1]
    assert speech.segment is not None
    assert speech.segment.number == 2
    assert [speech.settle(has_text=True) for _ in range(2)] == [(0, True), (1, True)]
    assert speech.due.next_number == 2


def test_an_empty_segment_in_the_middle_leaves_those_before_it_unchanged() -> None:
    speech = Speech()
    for _ in range(4):
        speech.say()
    says = (True, False, False, True)
    assert [speech.settle(has_text=has_text) for has_text in says] == [(0, True), (1, False), (1, False), (1, True)]
    assert speech.due.count == 2


def test_a_segment_that_was_shown_has_a_final_though_it_is_empty() -> None:
    speech = Speech()
    speech.say(is_shown=True)
    assert speech.settle(has_text=False) == (0, True)
    assert speech.due.count == 1


def test_a_segment_keeps_its_number_when_a_later_one_was_shown_under_its_own() -> None:
    speech = Speech()
    speech.say()
    later = speech.say(is_shown=True)
    assert speech.settle(has_text=False) == (0, True)
    assert later.number == 1


def test_a_segment_keeps_its_number_when_current_speech_was_shown_under_its_own() -> None:
    speech = Speech()
    speech.say()
    segment = speech.speak(is_shown=True)
    assert speech.settle(has_text=False) == (0, True)
    assert segment.number == 1


def test_a_segment_keeps_its_number_when_a_later_one_was_shown_and_then_forgotten() -> None:
    speech = Speech()
    speech.say()
    speech.speak(is_shown=True)
    speech.clear()
    assert speech.settle(has_text=False) == (0, True)
    assert speech.speak().number == 2


def test_what_was_cut_from_a_forgotten_segment_is_forgotten_with_it() -> None:
    speech = Speech()
    before = speech.say()
    speech.speak()
    parts = [speech.cut(), speech.cut()]
    assert speech.clear() == parts
    assert speech.due.first is before
    assert len(speech.due) == 1


def test_numbers_that_nobody_saw_are_used_again_after_their_segments_are_forgotten() -> None:
    speech = Speech()
    speech.speak()
    speech.cut()
    speech.clear()
    assert (speech.due.count, speech.speak().number) == (0, 0)


def test_numbers_that_were_seen_are_not_used_again_after_their_segments_are_forgotten() -> None:
    for visibility in ((True, False), (False, True)):
        speech = Speech()
        speech.speak(is_shown=visibility[0])
        speech.cut(is_shown=visibility[1])
        speech.clear()
        assert speech.speak().number == 2, visibility


def test_only_turns_that_are_over_are_told() -> None:
    speech = Speech()
    speech.say()
    speech.speak()
    speech.cut()
    assert speech.due.turns() == [Turn(0, LENGTH)]
    speech.close()
    assert speech.due.turns() == [Turn(0, LENGTH), Turn(LENGTH, 3 * LENGTH)]


STEPS = st.lists(
    st.sampled_from(["speak", "show", "cut", "close", "settle", "drop", "forget"]), min_size=20, max_size=60
)


@given(STEPS)
@settings(max_examples=300)
def test_no_number_is_seen_of_two_segments_and_finals_have_no_other_holes(steps: list[str]) -> None:
    speech, starts, finals = Speech(), dict[int, int](), list[int]()

    def see(number: int, start: int) -> None:
        assert starts.setdefault(number, start) == start, "this number was seen of another segment"

    for step in steps:
        if step == "speak" and speech.segment is None:
            speech.speak()
        elif step == "show" and speech.segment is not None:
            speech.segment.is_shown = True
            see(speech.segment.number, speech.segment.start)
        elif step in ("cut", "close") and speech.segment is not None:
            speech.cut() if step == "cut" else speech.close()
        elif step in ("settle", "drop") and speech.due:
            start = speech.due.first.start
            number, is_told = speech.settle(has_text=step == "settle")
            if is_told:
                finals.append(number)
                see(number, start)
        elif step == "forget" and speech.segment is not None:
            speech.clear()
        if speech.segment is not None:
            assert speech.segment.number == speech.due.next_number
    if "forget" not in steps:
        assert finals == list(range(len(finals)))
