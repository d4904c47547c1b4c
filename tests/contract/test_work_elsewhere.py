"""A worker that comes to any process has the runs of all, over every log that several processes share."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import Raw

from events.log.hub import Hub
from events.log.port import NO_EVENTS, EventLog
from gateway.chat.workers.desk import WorkDesk
from gateway.chat.workers.exchange import WorkExchange
from gateway.chat.workers.letters import BOXES, WAITING
from gateway.chat.workers.protocol import Make, WorkJob, WorkUser
from gateway.chat.workers.session import ClaimedRun, WorkSession
from gateway.errors import TrilaneError
from tests.contract.engines import Engine, put, scenario

NAME = "helper"
WAIT_S = 20.0


class Process:
    """What of a process of the gateway knows of workers."""

    def __init__(self, log: EventLog, **settings: float) -> None:
        self.log = log
        self.desk = WorkDesk()
        self.hub = Hub(log)
        self.exchange = WorkExchange(log, self.hub, self.desk, frozenset({NAME}), **settings)
        self.taken: list[str] = []

    async def offer(self, run_id: str) -> WorkSession:
        """Has a run wait for a worker; returns its claim."""
        session = await self.desk.offer(job(run_id), WAIT_S)
        session.take = lambda chunk: self.taken.append(json.loads(bytes(chunk))["delta"])
        return session

    async def claim(self) -> ClaimedRun:
        claimed = await self.desk.claim(NAME, WAIT_S)
        assert claimed is not None
        return claimed

    def die(self) -> None:
        """Reads nothing any more, as after a kill."""
        self.hub.log.listener = lambda commits: None


def job(run_id: str) -> WorkJob:
    empty = {"system": "", "extra": {}, "messages": [], "decisions": []}
    return WorkJob(run_id=run_id, agent=NAME, chat_id="c", user=WorkUser("alice"), **empty)


def text(*words: str) -> list[Raw]:
    return [Raw(json.dumps({"type": "text-delta", "id": "t", "delta": word}, indent=1).encode()) for word in words]


@asynccontextmanager
async def processes(engine: Engine, count: int, **settings: float) -> AsyncIterator[list[Process]]:
    if count == 0:
        yield []
        return
    async with processes(engine, count - 1, **settings) as others, engine.open() as log:
        process = Process(log, **settings)
        await process.exchange.open()
        try:
            yield [*others, process]
        finally:
            await process.exchange.aclose()
            await process.hub.close()


def address(claimed: ClaimedRun) -> tuple[str, str]:
    told = json.loads(claimed.encoded_job)
    return told["runId"], told["lease"]


@pytest.mark.parametrize("first", ["the run", "the worker"])
@scenario
async def test_a_claim_a_post_and_a_command_at_three_processes(shared_engine: Engine, first: str) -> None:
    async with processes(shared_engine, 3) as (owner, near, far):
        waiting = [owner.offer("r1"), near.claim()]
        tasks = [asyncio.ensure_future(one) for one in (waiting if first == "the run" else reversed(waiting))]
        done = await asyncio.gather(*tasks)
        session, claimed = done if first == "the run" else reversed(done)
        assert isinstance(session, WorkSession)
        where = address(claimed)
        posts = [far, near, owner, far]
        for number, process in enumerate(posts):
            at = process.exchange.session(*where)
            assert await at.post(1 + 2 * number, text(f"a{number}", f"b{number}")) == 3 + 2 * number
            assert await at.post(1 + 2 * number, text(f"a{number}", f"b{number}")) == 3 + 2 * number, "once more"
        assert owner.taken == [f"{letter}{number}" for number in range(4) for letter in "ab"]
        with pytest.raises(TrilaneError) as error:
            await far.exchange.session(*where).post(99, text("x"))
        assert (error.value.code, error.value.status) == ("bad_expect", 400)
        asked = asyncio.ensure_future(far.exchange.session(*where).commands(0, 25))
        await asyncio.sleep(0.05)
        session.tell(Make(call=1, key="k"))
        [(number, command)] = await asked
        assert (number, json.loads(command)) == (1, {"type": "make", "call": 1, "key": "k"})
        session.close("stopped")
        with pytest.raises(TrilaneError) as error:
            await near.exchange.session(*where).post(9, text("late"))
        assert (error.value.code, error.value.status) == ("fenced", 409)


@scenario
async def test_many_runs_and_workers_anywhere_come_together_each_once(shared_engine: Engine) -> None:
    async with processes(shared_engine, 3) as all_of_them:
        runs = [f"r{number}" for number in range(30)]
        offers = [asyncio.ensure_future(all_of_them[n % 3].offer(run)) for n, run in enumerate(runs)]
        claims = await asyncio.gather(*(all_of_them[n * n % 3].claim() for n in range(30)))
        assert sorted(address(claim)[0] for claim in claims) == sorted(runs)
        leases = sorted(session.job.lease for session in await asyncio.gather(*offers))
        assert leases == sorted(address(claim)[1] for claim in claims)


@scenario
async def test_a_run_whose_worker_left_meanwhile_is_given_back(shared_engine: Engine) -> None:
    async with processes(shared_engine, 2) as (owner, near):
        offered = asyncio.ensure_future(owner.offer("r1"))
        claimed = await near.claim()
        session = await offered
        claimed.close()
        async with asyncio.timeout(WAIT_S):
            await session.over


@scenario
async def test_a_process_that_is_gone_is_fenced(shared_engine: Engine) -> None:
    async with processes(shared_engine, 2, reply_s=2.0) as (owner, near):
        offered = asyncio.ensure_future(owner.offer("r1"))
        claimed = await near.claim()
        await offered
        owner.die()
        with pytest.raises(TrilaneError) as error:
            await claimed.post(1, text("late"))
        assert error.value.code == "fenced"
        assert owner.taken == []


@scenario
async def test_who_comes_to_the_run_s_own_process_writes_no_letter(shared_engine: Engine) -> None:
    async with processes(shared_engine, 2) as (owner, near):
        claim = asyncio.ensure_future(owner.claim())
        await asyncio.sleep(0)
        await owner.offer("r1")
        claimed = owner.exchange.session(*address(await claim))
        assert await claimed.post(1, text("a")) == 2
        assert await near.log.topics(BOXES) == []
        assert not (await near.log.read(WAITING, NO_EVENTS, max_events=1)).epoch


@scenario
async def test_what_another_release_writes_disturbs_nobody(shared_engine: Engine) -> None:
    async with processes(shared_engine, 2) as (owner, near):
        for process in (owner, near):
            await put(process.log, f"{BOXES}{process.desk.process}", b'{"of": "another release"}', name="letter")
            await put(process.log, f"{BOXES}{process.desk.process}", b"[]", name="reply")
        await put(owner.log, WAITING, b'{"of": "another release"}', name="waits")
        offered = asyncio.ensure_future(owner.offer("r1"))
        assert address(await near.claim())[0] == "r1"
        await offered


@pytest.mark.parametrize("lease", ["guess", "a.b", "../../x.y.helper", "0" * 12 + ".y"])
@scenario
async def test_what_is_no_lease_is_fenced(shared_engine: Engine, lease: str) -> None:
    async with processes(shared_engine, 1) as [process]:
        with pytest.raises(TrilaneError) as error:
            await process.exchange.session("r1", lease).post(1, [])
        assert error.value.code == "fenced"
