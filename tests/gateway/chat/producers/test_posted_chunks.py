"""What a worker posts is taken in order and once, from the one whose lease holds, and checked chunk by chunk."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw

from gateway.errors import TrilaneError
from tests.support.virtual_time import simulated
from tests.support.work_stage import NAME, work_staged


@simulated
async def test_a_lost_worker_is_fenced_and_three_are_enough() -> None:
    jobs: list[Any] = []
    async with work_staged() as stage:
        saying = asyncio.ensure_future(stage.say())
        for _ in range(3):
            jobs.append(await stage.desk.claim(NAME, 60))
        with pytest.raises(TrilaneError) as error:
            await jobs[0].post(1, [Raw(b'{"type":"text-delta","id":"t","delta":"late"}')])
        assert (error.value.code, error.value.status) == ("fenced", 409)
        with pytest.raises(TrilaneError):
            stage.desk.session(jobs[2].job.run_id, jobs[0].job.lease)
        await saying
        assert (await stage.ended())["code"] == "agent_lost"


@pytest.mark.parametrize(
    "posted",
    [
        b'{"type":"start","messageId":"m"}',
        b'{"type":"tool-approval-request","approvalId":"a","toolCallId":"t"}',
        b'{"type":"text-delta","id":"t"}',
        b'{"type":"call","n":2,"kind":"step","name":"s"}',
        b'{"type":"call","n":1,"kind":"step","name":""}',
        b'{"type":"call","n":1,"kind":"step","name":"s","input":[1]}',
        b'{"type":"call","n":1,"kind":"other","name":"s"}',
        b'{"type":"model","id":"m","messages":[{"no":"role"}]}',
        b'{"type":"model","id":"m","messages":[{"id":"u","role":"user","parts":[7]}]}',
        b'{"type":"park"}',
        b"[1]",
        b'{"type":7}',
    ],
)
@simulated
async def test_what_is_no_chunk_ends_the_run(posted: bytes) -> None:
    async with work_staged() as stage:
        saying = asyncio.ensure_future(stage.say())
        session = await stage.desk.claim(NAME, 60)
        assert session is not None
        await session.post(1, [Raw(posted)])
        [(_, told)] = await session.commands(0, 1) or [(0, b"")]
        assert b'"cancel"' in told
        await saying
        assert (await stage.ended())["code"] == "bad_chunk"


@simulated
async def test_a_post_that_is_repeated_is_taken_once_and_a_gap_is_refused() -> None:
    pieces = [Raw(b'{"type":"text-delta","id":"t","delta":"%d"}' % n) for n in range(3)]
    async with work_staged() as stage:
        saying = asyncio.ensure_future(stage.say())
        session = await stage.desk.claim(NAME, 60)
        assert session is not None
        assert await session.post(1, pieces[:2]) == 3
        assert await session.post(1, pieces) == 4
        assert await session.post(1, []) == 4
        for expect, code in ((5, "bad_expect"), (0, "bad_expect")):
            with pytest.raises(TrilaneError) as error:
                await session.post(expect, pieces)
            assert error.value.code == code
        with pytest.raises(TrilaneError) as error:
            await session.post(4, pieces * 400)
        assert error.value.code == "too_many_chunks"
        await session.post(4, [Raw(b'{"type":"end"}')])
        await saying
        assert await stage.brief() == ["012"]


@simulated
async def test_a_desk_that_leaves_lets_workers_elsewhere_go_and_serves_the_runs_it_has() -> None:
    async with work_staged() as stage:
        elsewhere = asyncio.ensure_future(stage.desk.claim(NAME, 30))
        await asyncio.sleep(1)
        stage.desk.leave()
        assert await elsewhere is None
        assert await stage.desk.claim(NAME, 30) is None
        ours = asyncio.ensure_future(stage.desk.claim(NAME, None))
        saying = asyncio.ensure_future(stage.say())
        session = await ours
        assert session is not None
        await session.post(1, [Raw(b'{"type":"end"}')])
        await saying
        assert (await stage.ended())["outcome"] == "finish"
