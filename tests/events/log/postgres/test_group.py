"""What a group sends, which partition a block goes to, and which texts are refused before they fail their group."""

import asyncio

import pytest

from events.log.port import Append, Appended, Retention
from events.log.postgres.engine import PostgresLog
from events.log.postgres.group import (
    DAY_MS,
    KEPT,
    Group,
    GroupCall,
    bucket_of,
    epoch_of,
    refuse_text,
    stored_key,
)
from gateway.errors import LogConflict, LogError, WrongOwner
from tests.contract.engines import keep_all, put, scenario, whole

NOW_MS = 20_000 * DAY_MS + 1


@pytest.mark.parametrize(
    ("retention", "bucket"),
    [
        (Retention(), KEPT),
        (Retention(events=5, max_bytes=5), KEPT),
        (Retention(age_s=1), 20_001),
        (Retention(age_s=86_400), 20_002),
        (Retention(age_s=7 * 86_400, events=5), 20_008),
        (Retention(age_s=60, closed_age_s=90 * 86_400), 20_001),
        (Retention(closed_age_s=0), 20_002),
        (Retention(closed_age_s=86_400), 20_003),
    ],
)
def test_a_block_goes_to_the_day_after_which_nobody_needs_it(retention: Retention, bucket: int) -> None:
    assert bucket_of(retention, NOW_MS) == bucket
    assert bucket_of(retention, -500 * DAY_MS) in (KEPT, 2)


def test_a_generation_changes_every_epoch_and_none_that_is_empty() -> None:
    assert (epoch_of("abcd", ""), epoch_of("", "x")) == ("abcd", "")
    epochs = {epoch_of(epoch, generation) for epoch in ("a1", "b2") for generation in ("", "x", "y")}
    assert len(epochs) == 6
    assert len(epoch_of("a1", "x")) == 8


def test_a_long_key_is_kept_as_its_digest() -> None:
    assert (stored_key(None), stored_key("k" * 200)) == (None, "k" * 200)
    assert len({stored_key("é" * 101), stored_key("é" * 102), stored_key("k" * 201)}) == 3
    assert len(stored_key("é" * 5000) or "") < 100


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"topic": "a\0b"}, "NUL"),
        ({"topic": "a", "name": "\0"}, "NUL"),
        ({"topic": "a", "owner": "x\0"}, "NUL"),
        ({"topic": "a", "key": "\0"}, "NUL"),
        ({"topic": "t" * 2001}, "2000 bytes"),
        ({"topic": "a", "owner": "é" * 1001}, "2000 bytes"),
    ],
)
def test_a_text_that_the_server_cannot_keep_is_refused_before_it_is_sent(fields: dict[str, str], words: str) -> None:
    error = refuse_text([Append(topic="fine", data=[b"x"]), Append(**{"data": [], **fields})])
    assert error is not None
    assert words in error.detail
    assert refuse_text([Append(topic="é" * 1000, owner="o" * 2000, key="k" * 9000, data=[])]) is None


def test_each_call_gets_its_own_outcome() -> None:
    async def decide() -> None:
        calls = [
            GroupCall(asyncio.Future(), appends, 0, 0.0)
            for appends in (
                (Append(topic="b", data=[b"1", b"2"]), Append(topic="a", data=[], close=True)),
                (Append(topic="a", data=[b"3"], expect=9),),
                (Append(topic="b", data=[b"4"], owner="me"), Append(topic="b", data=[b"5"])),
                (Append(topic="b", data=[b"1"], key="k"),),
                (Append(topic="a", data=[]),),
            )
        ]
        status, first, last = [0, 0, 4, 2, 5, 1, 0], [1, 1, 1, 0, 0, 1, 1], [2, 0, 0, 0, 0, 2, 0]
        row = ("", 5, "77", status, first, last, ["ea", "eb"], [0, 2], [0, 2])
        result = Group(calls, 1, 7).result(row)
        outcomes = [outcome for _, outcome in result.results]
        assert outcomes[0] == [Appended("eb", 1, 2), Appended("ea", 1, 0)]
        assert isinstance(outcomes[1], LogConflict)
        assert (outcomes[1].actual, outcomes[1].closed) == (1, True)
        assert isinstance(outcomes[2], WrongOwner)
        assert outcomes[3:] == [[Appended("eb", 1, 2, True)], [Appended("ea", 1, 0)]]
        assert [(commit.topic, commit.closed, commit.block and commit.block.data) for commit in result.commits] == [
            ("b", False, [b"1", b"2"]),
            ("a", True, []),
        ]

    asyncio.run(decide())


@scenario
async def test_what_one_caller_gets_wrong_fails_nobody_else(postgres_url: str) -> None:
    log = PostgresLog(postgres_url, keep_all)
    await log.open()
    try:
        good = [log.append(Append(topic="a", data=[b"%d" % n], key="k" * 5000 + str(n)), patient=True) for n in (1, 2)]
        for fields in ({"topic": "a\0"}, {"topic": "x" * 9000}, {"topic": "b", "key": "\0"}, {"topic": "\ud800"}):
            with pytest.raises(LogError):
                await log.append(Append(**{"data": [b"x"], **fields}))
        for expect in (-(1 << 80), -1, 0, 1 << 31, 1 << 63, 1 << 80):
            with pytest.raises(LogConflict):
                await put(log, "a", b"x", expect=expect)
        assert [(await call)[0].first for call in good] == [1, 2]
        assert (await put(log, "a", b"1", key="k" * 5000 + "1")).duplicate
        assert len(await whole(log, "a")) == 2
        assert await log.append() == []
        for name in ("a\0", "\ud800", "x" * 9000):
            assert (await log.read(name, 0)).epoch == ""
            assert await log.topics(name) == []
            assert await log.count_by_name(name, 0, 9) == {}
            assert not await log.delete(name)
    finally:
        await log.close()
