"""The desk brings together the runs of this process that wait for a worker, and the workers that wait for a run.

Both wait in order, a run for a bounded time. It is this process's alone: where several serve, a worker claims at each.
"""

import asyncio
from collections import defaultdict, deque

from gateway.chat.workers.protocol import WorkJob
from gateway.chat.workers.session import WorkSession, fenced
from gateway.errors import Overloaded, TrilaneError, UpstreamUnreachable

MAX_CLAIMS = 10_000
"""Claims of one name that wait at once."""

_Claim = asyncio.Future[WorkSession | None]


class WorkDesk:
    """Runs that wait, workers that wait, and claims that are being worked on."""

    def __init__(self) -> None:
        self._claims = defaultdict[str, deque[_Claim]](deque)
        self._offers = defaultdict[str, deque[tuple[WorkJob, _Claim]]](deque)
        self._sessions: dict[str, WorkSession] = {}
        self._is_leaving = False

    # Of workers

    async def claim(self, agent: str, wait_s: float | None) -> WorkSession | None:
        """Returns a run of this agent's that waits; None when none came within `wait_s`. Raises Overloaded."""
        offers = self._offers[agent]
        while offers:
            job, taken = offers.popleft()
            if not taken.done():
                session = self._opened(job)
                taken.set_result(session)
                return session
        if self._is_leaving and wait_s is not None:
            return None
        claims = self._claims[agent]
        if len(claims) >= MAX_CLAIMS:
            raise Overloaded(f"{len(claims)} workers wait for runs of {agent!r} already")
        given: _Claim = asyncio.get_running_loop().create_future()
        claims.append(given)
        try:
            return await _within(given, wait_s)
        finally:
            if given in claims:
                claims.remove(given)

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
        taken: _Claim = asyncio.get_running_loop().create_future()
        self._offers[job.agent].append((job, taken))
        session = await _within(taken, wait_s)
        if session is not None:
            return session
        raise UpstreamUnreachable(
            f"no worker has claimed this run of {job.agent!r} within {wait_s:g} s: start one, or give it more room",
            code="no_worker",
        )

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

    def _opened(self, job: WorkJob) -> WorkSession:
        session = WorkSession(job, asyncio.get_running_loop())
        self._sessions[job.run_id] = session
        return session


async def _within(claim: _Claim, wait_s: float | None) -> WorkSession | None:
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
