"""Every engine tells its listener of each commit, and answers each append, whatever becomes of the caller."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from events.log.port import Append, Appended, Commit, Slice
from gateway.errors import LogUnavailable
from tests.contract.engines import CommitList, Engine, flat, put, scenario, whole


@scenario
async def test_the_listener_hears_before_the_append_is_done(engine: Engine) -> None:
    async with engine.open() as log:
        calls: list[Any] = []
        notes: list[tuple[int, bool]] = []

        def hear(commits: Sequence[Commit]) -> None:
            notes.extend((commit.block.last, any(call.done() for call in calls)) for commit in commits if commit.block)

        log.listener = hear
        calls += [log.append(Append(topic="a", data=[b"x"]))]
        await asyncio.gather(*calls)
        assert notes == [(1, False)]


@scenario
async def test_a_read_that_starts_when_told_sees_what_was_told(engine: Engine) -> None:
    async with engine.open() as log:
        reads: list[asyncio.Task[Slice]] = []
        heads: list[int] = []

        def hear(commits: Sequence[Commit]) -> None:
            heads.append(max(commit.block.last for commit in commits if commit.block))
            reads.append(asyncio.create_task(log.read("a", 0)))

        log.listener = hear
        for n in range(30):
            await put(log, "a", b"%d" % n)
        parts = await asyncio.gather(*reads)
        assert all(one.head >= head for one, head in zip(parts, heads, strict=True))


@scenario
async def test_the_listener_hears_each_event_once_and_in_order(engine: Engine) -> None:
    async with engine.open() as log:
        commits = CommitList(log)
        calls = [
            log.append(Append(topic=f"t{n % 3}", data=[b"%d" % n] * (n % 2 + 1), name="ab"[n % 4 > 1]), patient=True)
            for n in range(300)
        ]
        results = [(await call)[0] for call in calls]
        for t in range(3):
            blocks = [commit.block for commit in commits if commit.topic == f"t{t}" and commit.block]
            events = flat(Slice(epoch="", blocks=blocks))
            assert events == await whole(log, f"t{t}")
            assert {commit.epoch for commit in commits if commit.topic == f"t{t}"} == {results[t].epoch}


@scenario
async def test_a_listener_that_fails_leaves_no_append_waiting(engine: Engine) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail(commits: Sequence[Commit]) -> None:
        raise RuntimeError("no")

    async with engine.open() as log:
        log.listener = fail
        assert (await put(log, "a", b"1")).first == 1
        assert len(complaints) == 1


@scenario
async def test_an_append_that_nobody_awaits_any_more_is_still_made(engine: Engine) -> None:
    async with engine.open() as log:

        async def wait(n: int) -> Appended:
            return (await log.append(Append(topic="a", data=[b"%d" % n]), patient=True))[0]

        tasks = [asyncio.create_task(wait(n)) for n in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        tasks[4].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, Appended) for one in results] == [True] * 3 + [False] * 2 + [True] * 5
        assert [line for _, _, line in await whole(log, "a")] == [b"%d" % n for n in range(10)]


@scenario
async def test_close_writes_and_answers_what_is_pending(engine: Engine) -> None:
    log = engine.make()
    await log.open()
    commits = CommitList(log)
    calls = [log.append(Append(topic="a", data=[b"%d" % n]), patient=True) for n in range(400)]
    await log.close()
    await log.close()
    assert all(call.done() for call in calls)
    assert sum(len(commit.block.data) for commit in commits if commit.block) == 400
    with pytest.raises(LogUnavailable):
        await put(log, "a", b"late")
    if engine.is_shared:
        async with engine.open() as again:
            assert len(await whole(again, "a")) == 400


@scenario
async def test_a_log_that_is_not_open_takes_nothing(engine: Engine) -> None:
    with pytest.raises(LogUnavailable):
        await put(engine.make(), "a", b"1")


@scenario
async def test_appends_beyond_what_may_wait_are_refused_at_once(plain_engine: Engine) -> None:
    async with plain_engine.open(max_pending_bytes=1000) as log:
        first = log.append(Append(topic="a", data=[b"x" * 900]))
        over = log.append(Append(topic="a", data=[b"x" * 101]))
        assert over.done()
        with pytest.raises(LogUnavailable):
            await over
        await first
        await put(log, "a", b"x" * 1000)
        with pytest.raises(LogUnavailable):
            await put(log, "a", b"x" * 1001)
        assert (await log.read("a", 0)).head == 2
