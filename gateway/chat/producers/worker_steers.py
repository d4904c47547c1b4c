"""Tells a worker's agent of the messages that wait for its run, and takes those that it says it has taken.

An agent that is entered once more comes to what it took at the same place: after the same logged call. What it has not
taken it is told only once it has come past what the log has, so it goes on as it began.
"""

import asyncio
from collections.abc import Callable, Sequence

from events.log.port import Append
from gateway.chat.producers.logged_calls import LoggedCalls
from gateway.chat.producers.producer import Sink
from gateway.chat.producers.taken_steers import WaitingSteers, take_steers
from gateway.chat.records.messages import UIMessage
from gateway.chat.workers.protocol import SteerGone, WorkSteer
from gateway.chat.workers.session import WorkSession
from gateway.errors import TrilaneError


class WorkerSteers:
    """The messages of one run, as its worker is told of them."""

    def __init__(self, waiting: WaitingSteers | None, on_failure: Callable[[TrilaneError], None]) -> None:
        """`waiting` is None for a run of no chat; `on_failure` is called when the log does not take what was taken."""
        self._waiting = waiting
        self._on_failure = on_failure
        self._session: WorkSession | None = None
        self._logged = LoggedCalls("", [], {})
        self._told: set[str] = set()
        self._taken: set[str] = set()
        self._taking: asyncio.Task[None] | None = None

    def enter(self, session: WorkSession, logged: LoggedCalls) -> None:
        """Begins with a claim."""
        self._session, self._logged, self._told = session, logged, set()
        if self._waiting is not None:
            self._waiting.on_change = self._tell
            self._tell()

    async def leave(self) -> None:
        """Ends a claim, once it is known whether what was being taken is in the log."""
        self._session = None
        if self._taking is not None:
            await asyncio.wait((self._taking,))

    def come_to(self, call: int) -> None:
        """Takes note that the agent has come to a logged call, whose result it is not told yet."""
        if self._session is not None:
            for message in self._logged.steers.pop(call, ()):
                self._session.tell(steer_of(message))
        self._tell()

    def take(self, sink: Sink, ids: Sequence[str], records: Callable[[], list[bytes]]) -> None:
        """Takes what waits of `ids`; until that is known, the worker posts nothing more.

        `records` returns those that come before. What has been taken, or was removed, is passed over.
        """
        session, waiting = self._session, self._waiting
        if session is None or waiting is None or not any(queued.id in ids for queued in waiting.steers()):
            return
        sink.write(records())
        self._taken.update(ids)
        session.pause("taking")
        self._taking = asyncio.get_running_loop().create_task(self._take(session, sink, waiting, ids))

    async def _take(self, session: WorkSession, sink: Sink, waiting: WaitingSteers, ids: Sequence[str]) -> None:
        try:
            await take_steers(sink, waiting, ids)
        except TrilaneError as err:
            self._on_failure(err)
        finally:
            self._taking = None
            session.resume("taking")

    def _tell(self) -> None:
        session = self._session
        if session is None or self._waiting is None or self._logged.is_replaying:
            return
        waiting = {queued.id: queued.message for queued in self._waiting.steers()}
        for message_id, message in waiting.items():
            if message_id not in self._told:
                session.tell(WorkSteer(id=message_id, message=message))
        for message_id in self._told - waiting.keys() - self._taken:
            session.tell(SteerGone(id=message_id))
        self._told = set(waiting)

    def close(self) -> None:
        """Lets go of the run."""
        if self._waiting is not None:
            self._waiting.on_change = _nobody


class HoldingSink:
    """The Sink of a run whose producer takes messages while others of its tasks write: they wait meanwhile."""

    def __init__(self, sink: Sink) -> None:
        self.recorder = sink.recorder
        self.write = self._write
        self.begin = sink.begin
        self.deadline_moved = sink.deadline_moved
        self._sink = sink
        self._held: list[bytes] = []
        self._is_free = asyncio.Event()
        self._is_free.set()

    def _write(self, records: list[bytes]) -> None:
        if self._is_free.is_set():
            self._sink.write(records)
        else:
            self._held += records

    async def note(self, name: str, data: bytes) -> None:
        await self._is_free.wait()
        await self._sink.note(name, data)

    async def take(self, records: list[bytes], told: Append) -> bool:
        self._is_free.clear()
        try:
            return await self._sink.take(records, told)
        finally:
            self._is_free.set()
            held, self._held = self._held, []
            self._sink.write(held)


def steer_of(message: UIMessage) -> WorkSteer:
    """Returns a message as a worker is told of it."""
    return WorkSteer(id=message.id, message=message)


def _nobody() -> None:
    """Tells nobody: the run has ended."""
