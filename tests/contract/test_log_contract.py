"""Every engine keeps the promises of `events.log.port.EventLog`: order, atomicity, conditions and reads."""

import asyncio

import pytest

from events.log.port import Append, Appended, Slice
from gateway.errors import LogConflict, LogError, WrongOwner
from tests.contract.engines import CommitList, Engine, flat, put, scenario, whole

# Offsets, atomicity, order


@scenario
async def test_the_hint_never_denies_a_topic_that_exists(engine: Engine) -> None:
    async with engine.open() as log:
        assert log.may_exist("a") in ((False,) if engine.is_exact else (False, True))
        await put(log, "a")
        assert log.may_exist("a")
        await put(log, "a", b"1", close=True)
        assert log.may_exist("a")
        await log.delete("a")
        await put(log, "b", b"1")
        if engine.is_exact:
            assert (log.may_exist("a"), log.may_exist("b"), log.may_exist("c")) == (False, True, False)


@scenario
async def test_a_log_that_is_not_open_cannot_know_what_exists(engine: Engine) -> None:
    log = engine.make()
    if engine.is_shared:
        assert log.may_exist("a")


@scenario
async def test_offsets_count_from_one_without_gaps(engine: Engine) -> None:
    async with engine.open() as log:
        first = await put(log, "a", b"1", b"2")
        second = await put(log, "a", b"3")
        other = await put(log, "b", b"x")
        assert (first.first, first.last) == (1, 2)
        assert second == Appended(first.epoch, 3, 3)
        assert (other.first, other.last) == (1, 1)
        assert other.epoch != first.epoch
        assert await whole(log, "a") == [(1, "message", b"1"), (2, "message", b"2"), (3, "message", b"3")]


@scenario
async def test_one_append_of_several_topics_is_all_or_nothing(engine: Engine) -> None:
    async with engine.open() as log:
        commits = CommitList(log)
        await put(log, "b", b"1")
        with pytest.raises(LogConflict):
            await log.append(
                Append(topic="a", data=[b"x"]), Append(topic="b", data=[b"x"]), Append(topic="b", data=[b"y"], expect=2)
            )
        assert (await log.read("a", 0)).epoch == ""
        assert await whole(log, "b") == [(1, "message", b"1")]
        assert [commit.topic for commit in commits] == ["b"]


@scenario
async def test_later_parts_of_an_append_see_the_earlier_ones(engine: Engine) -> None:
    async with engine.open() as log:
        results = await log.append(
            Append(topic="a", data=[b"1"], owner="me"),
            Append(topic="a", data=[b"2", b"3"], name="tick", expect=2),
            Append(topic="a", data=[b"4"], expect=4, owner="me", close=True),
        )
        assert [(one.first, one.last) for one in results] == [(1, 1), (2, 3), (4, 4)]
        with pytest.raises(LogConflict) as error:
            await log.append(Append(topic="b", data=[], close=True), Append(topic="b", data=[b"x"]))
        assert error.value.closed
        with pytest.raises(WrongOwner):
            await log.append(Append(topic="c", data=[b"1"], owner="me"), Append(topic="c", data=[b"2"], owner="you"))
        assert (await log.read("b", 0)).epoch == (await log.read("c", 0)).epoch == ""


@scenario
async def test_a_failed_append_leaves_its_neighbours_alone(engine: Engine) -> None:
    async with engine.open() as log:
        calls = [log.append(Append(topic="a", data=[b"%d" % n], expect=n), patient=True) for n in (1, 2, 2, 3, 9, 4)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(one, LogConflict) for one in results] == [False, False, True, False, True, False]
        assert [line for _, _, line in await whole(log, "a")] == [b"1", b"2", b"3", b"4"]


@scenario
async def test_appends_of_one_process_are_kept_in_the_order_of_the_calls(engine: Engine) -> None:
    async with engine.open() as log:
        calls = [
            log.append(Append(topic=f"t{n % 7}", data=[b"%d" % n], name="even" if n % 3 else "odd"), patient=n % 5 > 0)
            for n in range(1500)
        ]
        results = [(await call)[0] for call in calls]
        for t in range(7):
            mine = list(range(t, 1500, 7))
            assert await whole(log, f"t{t}") == [
                (at, "even" if n % 3 else "odd", b"%d" % n) for at, n in enumerate(mine, 1)
            ]
            assert [results[n].first for n in mine] == list(range(1, len(mine) + 1))


@scenario
async def test_one_call_may_name_very_many_topics(engine: Engine) -> None:
    async with engine.open() as log:
        results = await log.append(*(Append(topic=f"t{n}", data=[b"x"]) for n in range(700)))
        appends = [Append(topic=f"t{n}", data=[b"z"], key="k", expect=2) for n in range(700)]
        with pytest.raises(LogConflict):
            await log.append(*appends, Append(topic="t0", data=[b"z"], expect=2))
        again = await log.append(*(Append(topic=f"t{n}", data=[b"y"], expect=2) for n in range(700)))
        assert [one.epoch for one in results] == [one.epoch for one in again]
        appends = [Append(topic=f"t{n}", data=[b"z"], key="k", expect=3) for n in range(700)]
        assert [one.first for one in await log.append(*appends)] == [3] * 700
        assert all(one.duplicate for one in await log.append(*appends))
        assert await whole(log, "t699") == [(1, "message", b"x"), (2, "message", b"y"), (3, "message", b"z")]


@scenario
async def test_any_line_comes_back_as_it_was(engine: Engine) -> None:
    lines = [b"", b"\x00", '{"a":"\u2028é 😀"}'.encode(), b"\xff\xfe", b" ", b"x" * 300_000, b""]
    async with engine.open() as log:
        await put(log, "a", *lines, name="a name")
        await put(log, "a", b"")
        await put(log, "a", b"", b"")
        assert [line for _, _, line in await whole(log, "a")] == [*lines, b"", b"", b""]
        assert {name for _, name, _ in await whole(log, "a", 2)} == {"a name", "message"}


# Conditions


@scenario
async def test_expect_is_the_offset_of_the_first_event(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1", expect=1)
        for wrong in (0, 1, 3):
            with pytest.raises(LogConflict) as error:
                await put(log, "a", b"2", expect=wrong)
            assert (error.value.actual, error.value.closed, error.value.topic) == (2, False, "a")
        assert (await put(log, "a", b"2", expect=2)).first == 2
        with pytest.raises(LogConflict):
            await put(log, "new", b"1", expect=2)


@scenario
async def test_the_owner_is_set_when_a_topic_is_made(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1", owner="me")
        await put(log, "a", b"2", owner="me")
        await put(log, "a", b"3")
        with pytest.raises(WrongOwner):
            await put(log, "a", b"4", owner="you")
        await put(log, "nobody's", b"1")
        with pytest.raises(WrongOwner):
            await put(log, "nobody's", b"2", owner="me")
        assert (await log.read("a", 0)).owner == "me"
        assert (await log.read("a", 0)).head == 3


@scenario
async def test_a_key_gives_its_first_result_for_five_minutes(engine: Engine) -> None:
    async with engine.open() as log:
        first = await put(log, "a", b"1", b"2", key="k")
        await put(log, "a", b"3")
        assert await put(log, "a", b"x", key="k", expect=77) == Appended(first.epoch, 1, 2, duplicate=True)
        assert not (await put(log, "b", b"1", key="k")).duplicate
        engine.clock.now_s += 299
        assert (await put(log, "a", b"x", key="k")).duplicate
        engine.clock.now_s += 2
        again = await put(log, "a", b"4", key="k")
        assert (again.first, again.duplicate) == (4, False)
        assert (await put(log, "a", b"x", key="k")).first == 4


@scenario
async def test_the_first_of_equal_keys_in_one_group_wins(engine: Engine) -> None:
    async with engine.open() as log:
        calls = [log.append(Append(topic="a", data=[b"%d" % n], key=f"k{n % 2}"), patient=True) for n in range(6)]
        assert [(await call)[0].duplicate for call in calls] == [False, False, True, True, True, True]
        results = await log.append(*(Append(topic="b", data=[b"%d" % n], key="k") for n in range(3)))
        assert [one.duplicate for one in results] == [False, True, True]
        assert await whole(log, "b") == [(1, "message", b"0")]


@scenario
async def test_a_name_that_is_no_unicode_fails_its_own_append_alone(engine: Engine) -> None:
    async with engine.open() as log:
        good = [log.append(Append(topic="a", data=[b"x"], key=f"k{n}"), patient=True) for n in range(3)]
        for fields in ({"key": "\ud800"}, {"owner": "\udfff"}, {"name": "\ud800"}):
            with pytest.raises(LogError, match="ud"):
                await put(log, "b", b"x", **fields)
        assert [(await call)[0].first for call in good] == [1, 2, 3]
        assert (await put(log, "b", b"x", owner="é😀", key="ü", name="名")).first == 1
        assert flat(await log.read("b", 0)) == [(1, "名", b"x")]


@scenario
async def test_a_key_is_answered_even_when_its_topic_was_closed_by_it(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", b"1", key="k", close=True, owner="me")
        assert (await put(log, "a", b"1", key="k", close=True)).duplicate
        with pytest.raises(WrongOwner):
            await put(log, "a", b"1", key="k", owner="you")


@scenario
async def test_a_failed_append_keeps_no_key(engine: Engine) -> None:
    async with engine.open() as log:
        with pytest.raises(LogConflict):
            await put(log, "a", b"1", key="k", expect=5)
        assert not (await put(log, "a", b"1", key="k")).duplicate


@scenario
async def test_nothing_follows_the_close(engine: Engine) -> None:
    async with engine.open() as log:
        commits = CommitList(log)
        await put(log, "a", b"1")
        await put(log, "a", b"2", close=True)
        with pytest.raises(LogConflict) as error:
            await put(log, "a", b"3")
        assert (error.value.closed, error.value.actual) == (True, 3)
        part = await log.read("a", 0)
        assert (part.closed, part.head) == (True, 2)
        assert [commit.closed for commit in commits] == [False, True]


@scenario
async def test_a_topic_can_be_made_and_closed_without_an_event(engine: Engine) -> None:
    async with engine.open() as log:
        commits = CommitList(log)
        first = await put(log, "a", owner="me")
        assert (first.first, first.last) == (1, 0)
        assert await log.read("a", 0) == Slice(epoch=first.epoch, owner="me")
        await put(log, "a", b"1")
        await put(log, "a", expect=2)
        await put(log, "a", close=True)
        await put(log, "b", close=True)
        assert (await log.read("a", 0)).closed
        assert (await log.read("b", 0)).closed
        closing = [commit for commit in commits if commit.closed]
        assert [(commit.topic, commit.block and commit.block.last) for commit in closing] == [("a", 1), ("b", 0)]


# Reading


@scenario
async def test_a_missing_topic_reads_as_empty(engine: Engine) -> None:
    async with engine.open() as log:
        assert await log.read("nothing", 0) == Slice(epoch="")
        assert await log.topics("") == []
        assert not await log.delete("nothing")


@scenario
async def test_a_read_starts_strictly_after_any_offset(engine: Engine) -> None:
    async with engine.open() as log:
        for n in range(0, 30, 3):
            await put(log, "a", *(b"%d" % (n + k) for k in range(3)), name=f"n{n % 2}")
        events = await whole(log, "a")
        assert [at for at, _, _ in events] == list(range(1, 31))
        for after in range(31):
            assert flat(await log.read("a", after)) == events[after:]
        for past in (30, 31, 1000):
            part = await log.read("a", past)
            assert (part.blocks, part.head, part.oldest) == ([], 30, 1)


@scenario
async def test_a_read_is_bounded_by_events_and_bytes_but_moves_on(engine: Engine) -> None:
    async with engine.open() as log:
        await put(log, "a", *(b"%03d" % n for n in range(10)))
        for n in range(10, 20):
            await put(log, "a", b"%03d" % n)
        await put(log, "a", b"x" * 5000)
        events = await whole(log, "a")
        for after in range(21):
            for limit in (1, 2, 7, 100):
                by_events = flat(await log.read("a", after, max_events=limit))
                assert by_events == events[after : after + len(by_events)]
                assert 1 <= len(by_events) <= limit
            for size in (0, 1, 3, 10, 31):
                by_bytes = flat(await log.read("a", after, max_bytes=size))
                assert by_bytes == events[after : after + len(by_bytes)]
                assert len(by_bytes) == 1 or 1 <= sum(len(line) for _, _, line in by_bytes) <= size


@scenario
async def test_topics_are_listed_last_changed_first(engine: Engine) -> None:
    async with engine.open() as log:
        for n, (topic, owner) in enumerate([("c/1", "me"), ("c/2", "you"), ("c/3", "me"), ("d/1", "me"), ("c", "")]):
            engine.clock.now_s += 1
            result = await put(log, topic, b"x", owner=owner)
            assert (result.first, n) == (1, n)
        engine.clock.now_s += 1
        await put(log, "c/1", b"y", close=True)
        assert [info.topic for info in await log.topics("c/")] == ["c/1", "c/3", "c/2"]
        assert [info.topic for info in await log.topics("c")] == ["c/1", "c", "c/3", "c/2"]
        assert [info.topic for info in await log.topics("", owner="me")] == ["c/1", "d/1", "c/3"]
        assert [info.topic for info in await log.topics("c/", open_only=True)] == ["c/3", "c/2"]
        assert [info.topic for info in await log.topics("", limit=2)] == ["c/1", "c"]
        newest = (await log.topics("c/"))[0]
        assert (newest.head, newest.owner, newest.closed) == (2, "me", True)
        assert newest.updated_ms == int(engine.clock.now_s * 1000)
        assert [info.topic for info in await log.topics("c/", before_ms=newest.updated_ms)] == ["c/3", "c/2"]


@scenario
async def test_a_deleted_topic_starts_anew_in_another_epoch(engine: Engine) -> None:
    async with engine.open() as log:
        first = await put(log, "a", b"1", b"2", owner="me", key="k", close=True)
        commits = CommitList(log)
        assert await log.delete("a")
        assert [(commit.topic, commit.block) for commit in commits] == [("a", None)]
        assert (await log.read("a", 0)).epoch == ""
        assert not await log.delete("a")
        again = await put(log, "a", b"x", owner="you", key="k")
        assert (again.first, again.duplicate) == (1, False)
        assert again.epoch != first.epoch
        assert await whole(log, "a") == [(1, "message", b"x")]


@scenario
async def test_a_delete_comes_after_the_appends_before_it(engine: Engine) -> None:
    async with engine.open() as log:
        before = log.append(Append(topic="a", data=[b"1"]), patient=True)
        delete = asyncio.create_task(log.delete("a"))
        await asyncio.sleep(0)
        after = log.append(Append(topic="a", data=[b"2"]), patient=True)
        assert await delete
        assert (await before)[0].epoch != (await after)[0].epoch
        assert await whole(log, "a") == [(1, "message", b"2")]
