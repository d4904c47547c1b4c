"""The rules by which every engine cuts and trims blocks do what a plain loop over events would."""

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from events.log.port import Block, Retention
from events.log.rules import (
    NO_LIMIT,
    TopicState,
    TrimBounds,
    count_trimmed,
    cut,
    exceeds,
    has_expired,
    keep_all,
    trim_bounds,
)
from tests.events.log.test_rules import topic_a

# Reading

sizes = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6)


def blocks_of(sizes: list[list[int]], first: int = 1) -> list[Block]:
    """Returns consecutive blocks of events of these sizes, each a second younger than the one before."""
    blocks: list[Block] = []
    for at, block in enumerate(sizes):
        blocks.append(Block(first, [b"x" * size for size in block], f"n{at}", at * 1000))
        first += len(block)
    return blocks


def flat(blocks: list[Block]) -> list[tuple[int, str, int, bytes]]:
    return [(b.first + n, b.name, b.time_ms, data) for b in blocks for n, data in enumerate(b.data)]


@given(sizes, st.integers(1, 50), st.integers(-1, 60), st.integers(0, 12), st.integers(0, 40))
@example([[3], [3]], 1, 0, 9, 5)
@example([[3], [3]], 1, 0, 9, 6)
@example([[1], [1], [1]], 1, 0, 2, 40)
@example([[9, 1]], 1, 0, 9, 0)
def test_a_cut_is_the_longest_run_after_the_offset_that_fits(
    sizes: list[list[int]], first: int, after: int, max_events: int, max_bytes: int
) -> None:
    blocks = blocks_of(sizes, first)
    due = [event for event in flat(blocks) if event[0] > after]
    fitting = 0
    while fitting < min(max_events, len(due)) and sum(len(e[3]) for e in due[: fitting + 1]) <= max_bytes:
        fitting += 1
    result = cut(blocks, after, max_events, max_bytes)
    assert flat(result) == due[: max(fitting, 1)]
    assert all(block.data for block in result)
    assert flat(blocks) == flat(blocks_of(sizes, first))


# Forgetting


@pytest.mark.parametrize(
    ("keep", "bounds"),
    [
        (Retention(), (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
        (Retention(events=2), (3, NO_LIMIT, NO_LIMIT)),
        (Retention(max_bytes=20), (NO_LIMIT, 30, NO_LIMIT)),
        (Retention(age_s=1.5), (NO_LIMIT, NO_LIMIT, 8500)),
        (Retention(events=0, max_bytes=0, age_s=0), (5, 50, 10_000)),
        (Retention(closed_age_s=1), (NO_LIMIT, NO_LIMIT, NO_LIMIT)),
    ],
)
def test_the_bounds_of_a_retention(keep: Retention, bounds: tuple[int, int, int]) -> None:
    assert trim_bounds(topic_a(), keep, 10_000) == bounds


@pytest.mark.parametrize(
    ("bounds", "count"),
    [
        ((NO_LIMIT, NO_LIMIT, NO_LIMIT), 0),
        ((1, NO_LIMIT, NO_LIMIT), 0),
        ((2, NO_LIMIT, NO_LIMIT), 1),
        ((5, NO_LIMIT, NO_LIMIT), 2),
        ((6, NO_LIMIT, NO_LIMIT), 3),
        ((NO_LIMIT, 119, NO_LIMIT), 0),
        ((NO_LIMIT, 120, NO_LIMIT), 1),
        ((NO_LIMIT, 139, NO_LIMIT), 1),
        ((NO_LIMIT, 140, NO_LIMIT), 2),
        ((NO_LIMIT, NO_LIMIT, 0), 0),
        ((NO_LIMIT, NO_LIMIT, 1), 1),
        ((NO_LIMIT, NO_LIMIT, 1000), 1),
        ((NO_LIMIT, NO_LIMIT, 1001), 2),
        ((2, 140, 0), 2),
    ],
)
def test_whole_blocks_go_from_the_oldest_on(bounds: tuple[int, int, int], count: int) -> None:
    blocks = blocks_of([[10, 10], [10, 10], [10, 10]])
    assert count_trimmed(blocks, 100, TrimBounds(*bounds)) == (count, 100 + 20 * count)


def test_every_block_after_one_that_stays_stays() -> None:
    """Clocks of several writers differ: a block that seems old may follow a younger one."""
    young, old = Block(1, [b"x"], "n", 2000), Block(2, [b"x"], "n", 1000)
    assert count_trimmed([young, old], 0, TrimBounds(NO_LIMIT, NO_LIMIT, 1500)) == (0, 0)


retentions = st.builds(
    Retention,
    events=st.none() | st.integers(0, 12),
    max_bytes=st.none() | st.integers(0, 60),
    age_s=st.none() | st.integers(0, 7),
)


@given(sizes, st.integers(0, 9), st.integers(0, 100), retentions)
def test_trimming_keeps_what_no_limit_is_past_and_is_the_same_in_one_step_or_many(
    sizes: list[list[int]], dropped: int, base: int, keep: Retention
) -> None:
    blocks = [block for block in blocks_of(sizes, dropped + 1) if block.data]
    head = blocks[-1].last if blocks else dropped
    total = base + sum(len(data) for block in blocks for data in block.data)
    bounds = trim_bounds(TopicState("a", "epoch", head=head, total=total), keep, 7000)
    count, new_base = count_trimmed(blocks, base, bounds)
    rest = blocks[count:]
    assert new_base == total - sum(len(data) for block in rest for data in block.data)
    if rest:
        newer = sum(len(data) for block in rest[1:] for data in block.data)
        assert keep.events is None or rest[0].last > head - keep.events
        assert keep.max_bytes is None or newer < keep.max_bytes
        assert keep.age_s is None or rest[0].time_ms >= 7000 - keep.age_s * 1000
    if count:
        assert count_trimmed(blocks[count - 1 : count], 0, TrimBounds(NO_LIMIT, NO_LIMIT, NO_LIMIT))[0] == 0
        last = blocks[count - 1]
        newer = sum(len(data) for block in rest for data in block.data)
        assert (
            (keep.events is not None and last.last <= head - keep.events)
            or (keep.max_bytes is not None and newer >= keep.max_bytes)
            or (keep.age_s is not None and last.time_ms < 7000 - keep.age_s * 1000)
        )
    assert count_trimmed(rest, new_base, bounds) == (0, new_base)


@pytest.mark.parametrize(
    ("keep", "slack", "over"),
    [
        (Retention(), 0, False),
        (Retention(events=4), 0, False),
        (Retention(events=3), 0, True),
        (Retention(events=3), 0.4, False),
        (Retention(events=3), 0.2, True),
        (Retention(max_bytes=40), 0, False),
        (Retention(max_bytes=39), 0, True),
        (Retention(max_bytes=39), 0.1, False),
        (Retention(events=4, max_bytes=39), 0, True),
        (Retention(events=3, max_bytes=40), 0, True),
    ],
)
def test_a_topic_is_over_its_limits_by_what_it_still_keeps(keep: Retention, slack: float, over: bool) -> None:
    assert exceeds(topic_a(oldest=2, base=10), keep, slack) is over


@pytest.mark.parametrize(
    ("closed", "keep", "age_ms", "expired"),
    [
        (True, Retention(closed_age_s=1), 1001, True),
        (True, Retention(closed_age_s=1), 1000, False),
        (False, Retention(closed_age_s=1), 1001, False),
        (True, Retention(age_s=1), 10_000_000, False),
        (True, keep_all("a"), 10_000_000, False),
    ],
)
def test_only_a_closed_topic_expires_as_a_whole(closed: bool, keep: Retention, age_ms: int, expired: bool) -> None:
    assert has_expired(topic_a(closed=closed), keep, 5000, 5000 + age_ms) is expired
