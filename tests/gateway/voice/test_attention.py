"""What is said beside an answer is answered only where it has interrupted that, or is none of its words."""

import pytest

from gateway.voice.attention import TAIL_S, Attention
from gateway.voice.turns import TurnTaker

WORDS = ["it", "ends", "here"]


def attention() -> Attention:
    return Attention(TurnTaker(0.5, 2.5))


def said(ears: Attention, text: str, now: float, *, is_spoken: bool, is_ignored: bool) -> str | None:
    """Says something; returns the turn that comes of it."""
    ears.begin(512, now, is_spoken=is_spoken)
    ears.hear(512, 9000, text)
    is_meant = ears.close(512, now + 1, is_ignored=is_ignored)
    turn = ears.take(now + 9)
    assert is_meant == (turn is not None)
    return turn.text if turn is not None else None


@pytest.mark.parametrize(
    ("is_spoken", "is_ignored", "expected"),
    [(False, False, "Go on."), (True, False, "Go on."), (True, True, None), (False, True, "Go on.")],
)
def test_what_accompanies_an_answer_that_goes_on_is_no_turn(
    is_spoken: bool, is_ignored: bool, expected: str | None
) -> None:
    assert said(attention(), "Go on.", 1.0, is_spoken=is_spoken, is_ignored=is_ignored) == expected


@pytest.mark.parametrize(
    ("text", "after_s", "expected"),
    [("It ends here.", 0.5, None), ("Why here?", 0.5, "Why here?"), ("It ends here.", TAIL_S, "It ends here.")],
)
def test_the_end_of_an_answer_is_no_turn_just_behind_it(text: str, after_s: float, expected: str | None) -> None:
    ears = attention()
    ears.note_spoken(WORDS, 10.0)
    assert said(ears, text, 10.0 + after_s, is_spoken=False, is_ignored=False) == expected
