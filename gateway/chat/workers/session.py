"""A session is one claim of a run by a worker: its lease, the chunks that it posts, in order, and its commands.

Nothing here knows how a worker is reached: routes and pipes both call `post` and `commands`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Protocol
from urllib.parse import quote

import msgspec
from msgspec import Raw

from gateway.chat.workers.protocol import LEASE_S, MAX_CHUNKS, WorkCancel, WorkCommand, WorkJob
from gateway.errors import BadRequest, TrilaneError

MAX_WAITING = 256
"""Commands that wait for the worker past which models that it asked are paused."""
_json = msgspec.json.Encoder().encode


def fenced() -> TrilaneError:
    """Returns the error of a worker whose lease of a run is over: it stops, and undoes nothing."""
    return TrilaneError("this run is not yours any more: stop", code="fenced", status=409)


def new_lease(process: str, agent: str) -> str:
    """Returns a lease that cannot be guessed, and tells in which process it holds and for which agent."""
    return f"{process}.{token_hex(16)}.{agent}"


def process_of(lease: str) -> str:
    """Returns the process in which a lease holds."""
    return lease.partition(".")[0]


def agent_of(lease: str) -> str:
    """Returns the agent of a lease, whose grant its bearer needs; raises TrilaneError (409 `fenced`) for no lease."""
    parts = lease.split(".", 2)
    if len(parts) < 3:
        raise fenced()
    return parts[2]


class ClaimedRun(Protocol):
    """A run that a worker has claimed, wherever it is written. The methods raise TrilaneError (409 `fenced`)."""

    @property
    def encoded_job(self) -> bytes:
        """Returns the job as its worker is sent it."""
        ...

    async def post(self, expect: int, chunks: Sequence[Raw]) -> int:
        """Takes chunks, of which the first has the number `expect`; returns the number of the next one."""
        ...

    async def commands(self, after: int, wait_s: float | None) -> list[tuple[int, bytes]]:
        """Returns the commands after number `after`, each with its number; none when `wait_s` have passed."""
        ...

    def close(self) -> None:
        """Gives the claim back: another worker may have the run."""
        ...


class WorkSession:
    """One claim of a run that this process writes. Its producer sets `take` and `on_flow`, and closes it."""

    def __init__(self, job: WorkJob, loop: asyncio.AbstractEventLoop, process: str) -> None:
        lease = new_lease(process, job.agent)
        url = f"/api/runs/{job.run_id}/commands?lease={quote(lease, '')}"
        self.job = msgspec.structs.replace(job, lease=lease, commands=url)
        self.heard_at = loop.time()
        self.take: Callable[[Raw], None] = _nobody
        """Takes one chunk."""
        self.on_flow: Callable[[bool], None] = lambda is_full: None
        """Called with whether so many commands wait that no more should be made for now."""
        self.is_closed = False
        self._loop = loop
        self._next = 1
        self._waiting = deque[tuple[int, bytes]]()
        self._told = 0
        self._stirred = asyncio.Event()
        self._is_full = False
        self._pauses: set[str] = set()
        self._may_post = asyncio.Event()
        self._may_post.set()
        self._posting = asyncio.Lock()
        self._over: asyncio.Future[None] = loop.create_future()

    # Of the worker

    @property
    def encoded_job(self) -> bytes:
        return _json(self.job)

    async def post(self, expect: int, chunks: Sequence[Raw]) -> int:
        """Takes chunks, of which the first has the number `expect`; returns the number of the next one.

        What was taken before is passed over. Raises TrilaneError (409 `fenced`), BadRequest.
        """
        if len(chunks) > MAX_CHUNKS:
            raise BadRequest(f"{len(chunks)} chunks: at most {MAX_CHUNKS} come with one post", code="too_many_chunks")
        async with self._posting:
            self.check()
            self.heard_at = self._loop.time()
            if expect > self._next or expect < 1:
                raise BadRequest(f"expect={expect}: the next chunk is number {self._next}", code="bad_expect")
            for chunk in chunks[self._next - expect :]:
                while not self._may_post.is_set():
                    await self._until(self._may_post)
                    self.heard_at = self._loop.time()  # it was we who kept it waiting
                self.check()
                self._next += 1
                self.take(chunk)
            return self._next

    async def commands(self, after: int, wait_s: float | None) -> list[tuple[int, bytes]]:
        """Returns the commands after number `after`, each with its number, once there is one or `wait_s` have passed.

        The others are let go of. Raises TrilaneError (409 `fenced`) when there are none and will be none.
        """
        while self._waiting and self._waiting[0][0] <= after:
            self._waiting.popleft()
        if self._is_full and len(self._waiting) < MAX_WAITING // 2:
            self._is_full = False
            self.on_flow(False)
        if not self._waiting:
            self.check()
            self._stirred.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._until(self._stirred)
            except TimeoutError:
                return []
        return list(self._waiting)

    def check(self) -> None:
        """Raises TrilaneError (409 `fenced`) when this claim is over."""
        if self.is_closed:
            raise fenced()

    async def _until(self, event: asyncio.Event) -> None:
        waiting = self._loop.create_task(event.wait())
        try:
            await asyncio.wait((waiting, self._over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    # Of the gateway

    def tell(self, command: WorkCommand) -> None:
        """Tells the worker something; it is never waited for."""
        if self.is_closed:
            return
        self._told += 1
        self._waiting.append((self._told, _json(command)))
        self._stirred.set()
        if len(self._waiting) >= MAX_WAITING and not self._is_full:
            self._is_full = True
            self.on_flow(True)

    def pause(self, reason: str = "log") -> None:
        """Keeps posts waiting, for each reason until `resume` is called with it; by itself: the log is behind."""
        self._pauses.add(reason)
        self._may_post.clear()

    def resume(self, reason: str = "log") -> None:
        self._pauses.discard(reason)
        if not self._pauses:
            self._may_post.set()

    @property
    def deadline(self) -> float:
        """Returns when the lease ends, by the event loop's clock, unless the worker posts before."""
        return self.heard_at + LEASE_S

    @property
    def over(self) -> "asyncio.Future[None]":
        """A future that is done once the claim is over, whoever has ended it."""
        return self._over

    def close(self, reason: str = "") -> None:
        """Ends the claim: nothing more is taken. With a reason the worker is told to stop. Idempotent."""
        if self.is_closed:
            return
        if reason:
            self.tell(WorkCancel(reason=reason))
        self.is_closed = True
        self._stirred.set()
        self.take, self.on_flow = _nobody, lambda is_full: None  # they hold the producer
        if not self._over.done():
            self._over.set_result(None)


def _nobody(chunk: Raw) -> None:
    """Takes nothing: this claim is over."""


def numbered(number: int, command: bytes) -> bytes:
    """Returns a command as a worker is sent it, with its number."""
    return b'{"n":%d,%b' % (number, command[1:])
