"""A user's turn is over at once behind a sentence, later behind half of one, and never while somebody speaks."""

import pytest

from gateway.voice.turns import TurnTaker, UserTurn


def spoken(taker: TurnTaker, first: int, end: int, text: str, at: float) -> None:
    taker.begin(first)
    taker.hear(first, end, text)
    taker.close(first, at)


@pytest.mark.parametrize(
    ("text", "max_s", "due_at"),
    [
        ("Where is it?", 2.5, 10.0),
        ('I said "no."', 2.5, 10.0),
        ("ええ。", 2.5, 10.0),
        ("so I went to", 2.5, 10.5),
        ("so I went to", 0.7, 10.2),
        ("so I went to", 0.3, 10.0),
    ],
)
def test_a_turn_is_over_behind_a_sentence_and_later_behind_a_half_one(text: str, max_s: float, due_at: float) -> None:
    taker = TurnTaker(0.5, max_s)
    spoken(taker, 512, 9000, text, 10.0)
    assert taker.due_at == pytest.approx(due_at)
    assert due_at == 10.0 or taker.take(due_at - 0.01) is None
    assert taker.take(due_at) == UserTurn(512, 9000, text)
    assert taker.take(99.0) is None


def test_who_goes_on_in_time_says_one_turn() -> None:
    taker = TurnTaker(0.5, 2.5)
    spoken(taker, 512, 9000, "so I went to", 10.0)
    taker.begin(12_000)
    assert taker.due_at is None
    assert taker.take(99.0) is None
    taker.hear(12_000, 20_000, "the shop")
    taker.hear(12_000, 24_000, " and back.")
    assert taker.take(99.0) is None, "the stretch is not over"
    taker.close(12_000, 12.0)
    assert taker.take(12.0) == UserTurn(512, 24_000, "so I went to the shop and back.")


def test_noise_is_no_turn_and_keeps_none_open() -> None:
    taker = TurnTaker(0.5, 2.5)
    spoken(taker, 0, 512, "  ", 1.0)
    assert taker.due_at is None
    spoken(taker, 1024, 9000, "Yes.", 2.0)
    spoken(taker, 10_240, 10_752, "", 2.5)
    assert taker.take(2.5) == UserTurn(1024, 9000, "Yes.")


def test_a_stretch_that_was_dismissed_is_in_no_turn() -> None:
    taker = TurnTaker(0.5, 2.5)
    spoken(taker, 0, 512, "Mhm.", 1.0)
    taker.dismiss(0)
    assert taker.take(9.0) is None
