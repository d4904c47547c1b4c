"""What a count means to a caller, in tables."""

import pytest

from events.log.quotas import MINUTE, SLOTS, Take, Tally
from gateway.core.rates import Charge, Counted, headers, reset_s, retry_after_s, shown_duration

NOW_S = 1_000_000.0
"""The first moment of bucket 200,000."""
BUCKET = 200_000


def counted(amount: int = 1, limit: int = 10, key: str = "requests_per_minute", **buckets: int) -> Counted:
    """`buckets`: what is used, by how many buckets ago."""
    pairs = sorted((BUCKET - int(ago[1:]), used) for ago, used in buckets.items())
    return Counted(Charge(key, Take("c", limit, amount, MINUTE)), Tally(sum(buckets.values()), pairs))


@pytest.mark.parametrize(
    ("count", "seconds"),
    [
        (counted(b0=10), 65),
        (counted(b12=1, b0=9), 5),
        (counted(amount=2, b12=1, b6=1, b0=8), 35),
        (counted(amount=11, b0=1), None),
        (counted(amount=0, b3=10), 50),
        (counted(limit=0), None),
        (counted(b5=12, b0=0), 40),
    ],
)
def test_what_was_refused_fits_when_enough_has_left_the_window(count: Counted, seconds: int | None) -> None:
    assert retry_after_s(count, NOW_S) == seconds


def test_nobody_knows_when_a_slot_is_free() -> None:
    assert retry_after_s(Counted(Charge("runs", Take("c", 0, 1, SLOTS)), Tally(0)), NOW_S) == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.02, "20ms"), (1, "1s"), (64.2, "1m5s"), (360, "6m0s"), (3600, "1h0m0s"), (86_401, "24h0m1s")],
)
def test_a_duration_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert shown_duration(seconds) == text


def test_a_rate_is_reset_when_the_newest_of_it_has_left() -> None:
    assert reset_s(counted(b12=1, b3=1), NOW_S, is_taken=False) == 50
    assert reset_s(counted(b12=1, b3=1), NOW_S, is_taken=True) == 65
    assert reset_s(counted(), NOW_S, is_taken=False) == 0


def test_of_two_limits_the_one_is_told_of_which_less_is_left() -> None:
    wide, narrow = counted(limit=100, b0=50), counted(limit=10, b0=2)
    for order in ([wide, narrow], [narrow, wide]):
        fields = headers(order, NOW_S, is_taken=True)
        assert fields == [
            (b"x-ratelimit-limit-requests", b"10"),
            (b"x-ratelimit-remaining-requests", b"7"),
            (b"x-ratelimit-reset-requests", b"1m5s"),
        ]
    assert headers([counted(key="daily_tokens")], NOW_S, is_taken=True) == []
    assert (b"x-ratelimit-remaining-requests", b"0") in headers([counted(b0=10)], NOW_S, is_taken=False)
