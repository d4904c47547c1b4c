"""The desk brings together the runs of this process that wait for a worker, and the workers that wait for a run.

Both wait in order, a run for a bounded time. It is this process's alone; `WorkExchange` brings those together that wait
in different processes.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from itertools import islice
from secrets import token_hex
from typing import TypeVar

from gateway.chat.workers.protocol import WorkJob
from gateway.chat.workers.session import ClaimedRun, WorkSession, fenced
from gateway.errors import Overloaded, TrilaneError, UpstreamUnreachable

MAX_CLAIMS = 10_000
"""Claims of one name that wait at once."""

_Claim = asyncio.Future[ClaimedRun | None]
_Offer = asyncio.Future[WorkSession | None]


class WorkDesk:
    """Runs that wait, workers that wait, and claims that are being worked on."""

    def __init__(self) -> None:
        self.process = token_hex(6)
        """The process, by a name that no other ever had."""
        self.on_waiting: Callable[[str], None] = _nobody
        """Called with the agent's name each time that a worker or a run begins to wait."""
        self._claims = defaultdict[str, deque[_Claim]](deque)
        self._offers = defaultdict[str, deque[tuple[WorkJob, _Offer]]](deque)
        self._sessions: dict[str, WorkSession] = {}
        self._is_leaving = False

    # Of workers

    async def claim(self, agent: str, wait_s: float | None) -> ClaimedRun | None:
        """Returns a run of this agent's that waits; None when none came within `wait_s`. Raises Overloaded."""
        offers = self._offers[agent]
        while offers:
            job, taken = offers.popleft()
            if not taken.done():
                return self._taken(job, taken)
        if self._is_leaving and wait_s is not None:
            return None
        claims = self._claims[agent]
        if len(claims) >= MAX_CLAIMS:
            raise Overloaded(f"{len(claims)} workers wait for runs of {agent!r} already")
        given: _Claim = asyncio.get_running_loop().create_future()
        claims.append(given)
        self.on_waiting(agent)
        try:
            return await _within(given, wait_s)
        finally:
            if given in claims:
                claims.remove(given)

    def claims(self, agent: str) -> int:
        """Returns how many workers wait here for runs of an agent."""
        return len(self._claims.get(agent, ()))

    def give(self, agent: str, claimed: ClaimedRun) -> bool:
        """Gives the worker that has waited longest a run of another process; False when none waits any more."""
        claims = self._claims.get(agent, deque[_Claim]())
        while claims:
            given = claims.popleft()
            if not given.done():
                given.set_result(claimed)
                return True
        return False

    def session(self, run_id: str, lease: str) -> WorkSession:
        """Returns a claim. Raises TrilaneError (409 `fenced`) when it is over, or was never made here."""
        session = self._sessions.get(run_id)
        if session is None or session.job.lease != lease:
            raise fenced()
        return session

    # Of runs

    async def offer(self, job: WorkJob, wait_s: float) -> WorkSession:
        """Returns the claim of a run, once a worker has made it.

        Raises UpstreamUnreachable (`no_worker`) when none has within `wait_s` seconds.
        """
        claims = self._claims[job.agent]
        while claims:
            given = claims.popleft()
            if not given.done():
                session = self._opened(job)
                given.set_result(session)
                return session
        taken: _Offer = asyncio.get_running_loop().create_future()
        offers = self._offers[job.agent]
        offers.append((job, taken))
        self.on_waiting(job.agent)
        try:
            session = await _within(taken, wait_s)
        finally:
            if (job, taken) in offers:
                offers.remove((job, taken))
        if session is not None:
            return session
        raise UpstreamUnreachable(
            f"no worker has claimed this run of {job.agent!r} within {wait_s:g} s: start one, or give it more room",
            code="no_worker",
        )

    def waiting(self, agents: Collection[str], limit: int) -> dict[str, list[str]]:
        """Returns the ids of the runs that wait, by agent: of each the `limit` that have waited longest."""
        waiting = {agent: [job.run_id for job, taken in self._offers[agent] if not taken.done()] for agent in agents}
        return {agent: list(islice(runs, limit)) for agent, runs in waiting.items() if runs}

    def take(self, agent: str, run_id: str) -> WorkSession | None:
        """Returns the claim of one run, for a worker elsewhere; None when it does not wait here any more."""
        for job, taken in self._offers.get(agent, ()):
            if job.run_id == run_id and not taken.done():
                return self._taken(job, taken)
        return None

    def refuse(self, agent: str, error: TrilaneError) -> None:
        """Fails the runs of an agent that wait: nobody will come for them."""
        offers = self._offers[agent]
        while offers:
            _, taken = offers.popleft()
            if not taken.done():
                taken.set_exception(error)

    def close_session(self, session: WorkSession, reason: str = "") -> None:
        """Ends a claim; its last commands can still be fetched by who is fetching them now."""
        session.close(reason)
        if self._sessions.get(session.job.run_id) is session:
            del self._sessions[session.job.run_id]

    def leave(self) -> None:
        """Lets go of the workers that wait; one that waits without a limit comes back for runs that are left."""
        self._is_leaving = True
        for claims in self._claims.values():
            for given in claims:
                if not given.done():
                    given.set_result(None)
            claims.clear()

    def _taken(self, job: WorkJob, taken: _Offer) -> WorkSession:
        session = self._opened(job)
        taken.set_result(session)
        return session

    def _opened(self, job: WorkJob) -> WorkSession:
        session = WorkSession(job, asyncio.get_running_loop(), self.process)
        self._sessions[job.run_id] = session
        return session


Waited = TypeVar("Waited", bound=ClaimedRun)


async def _within(claim: "asyncio.Future[Waited | None]", wait_s: float | None) -> Waited | None:
    """Returns a claim once it is made; None when it was not in time. Whoever leaves meanwhile ends it."""
    try:
        async with asyncio.timeout(wait_s):
            return await asyncio.shield(claim)
    except TimeoutError:
        if claim.done():
            return claim.result()
        claim.cancel()
        return None
    except asyncio.CancelledError:
        if claim.done() and not claim.cancelled() and claim.exception() is None and (session := claim.result()):
            session.close()
        claim.cancel()
        raise


def _nobody(agent: str) -> None:
    """Tells nobody: all that wait are in this process."""
