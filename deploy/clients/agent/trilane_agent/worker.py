"""A worker claims runs and enters its agent for each. How it reaches the gateway is its `Wire`'s concern.

The order of what it says is kept: a task sends what has gathered, in one post at a time.
"""

import asyncio
import json
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from trilane_agent.context import AgentError, AgentFunction, Context, Parked

MAX_POSTED = 500
MAX_POSTED_CHARS = 1_048_576
"""Length past which a post takes no further chunk."""
MAX_CHUNK_CHARS = 4_000_000
MAX_GATHERED = 1000
"""Chunks that wait to be posted past which the function waits."""
QUICK_S = 1.0
"""Seconds below which a claim that brought nothing is not repeated at once."""

Job = Mapping[str, Any]
Command = Mapping[str, Any]


class Fenced(Exception):
    """The run is not this worker's any more: it stops."""


class Wire(Protocol):
    """The way to the gateway. Its methods raise Fenced where a run is lost, and repeat what can be repeated."""

    async def claim(self) -> Job | None: ...
    async def post(self, job: Job, expect: int, chunks: Sequence[str]) -> None:
        """Posts chunks, each of them JSON already."""
        ...

    async def commands(self, job: Job, after: int) -> Sequence[Command]: ...
    def beat(self, job: Job) -> None:
        """Shows that the worker lives. Called in a thread of its own, whatever the event loop does."""
        ...


class Worker:
    """Runs one agent, several answers at once."""

    def __init__(self, function: AgentFunction, wire: Wire, max_runs: int) -> None:
        self._function = function
        self._wire = wire
        self._max_runs = max_runs
        self._jobs: dict[str, Job] = {}
        self._heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    async def run(self) -> None:
        """Claims runs until it is cancelled."""
        self._heartbeat.start()
        room = asyncio.Semaphore(self._max_runs)
        running: set[asyncio.Task[None]] = set()
        while True:
            await room.acquire()
            asked_at = time.monotonic()
            job = await self._wire.claim()
            if job is None:
                room.release()
                if time.monotonic() - asked_at < QUICK_S:
                    await asyncio.sleep(QUICK_S)
                continue
            task = asyncio.ensure_future(self._answer(job))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda done: room.release())

    async def _answer(self, job: Job) -> None:
        self._jobs[str(job["lease"])] = job
        try:
            await Answer(job, self._function, self._wire).live()
        finally:
            del self._jobs[str(job["lease"])]

    def _beat(self) -> None:
        while True:
            time.sleep(min([float(job["heartbeatS"]) for job in list(self._jobs.values())], default=1.0))
            for job in list(self._jobs.values()):
                try:
                    self._wire.beat(job)
                except Exception as err:
                    print(f"heartbeat of run {job['runId']}: {err}", file=sys.stderr)


class Answer:
    """One run, from its claim to its end."""

    def __init__(self, job: Job, function: AgentFunction, wire: Wire) -> None:
        self._job = job
        self._function = function
        self._wire = wire
        self._gathered: list[str] = []
        self._stirred = asyncio.Event()
        self._sent = asyncio.Event()
        self._context = Context(job, self._say, self._room)

    async def live(self) -> None:
        """Enters the function and serves it; returns when nothing of it runs any more."""
        entered = asyncio.ensure_future(self._enter())
        send, listen = asyncio.ensure_future(self._send()), asyncio.ensure_future(self._listen(entered))
        flushed = asyncio.ensure_future(self._flushed(entered))
        try:
            await asyncio.wait((flushed, send), return_when=asyncio.FIRST_COMPLETED)
            if not entered.done():  # the run is lost
                self._context.cancelled.set()
        finally:
            self._context.cancel_steps()
            for task in (entered, send, listen, flushed):
                task.cancel()
            await asyncio.gather(entered, send, listen, flushed, return_exceptions=True)

    async def _enter(self) -> None:
        try:
            await self._context.run(self._function)
            await self._context.steps_over()
            self._say({"type": "end"})
        except Parked:
            await self._context.steps_over()
            self._say({"type": "park"})
        except AgentError as err:
            self._say({"type": "fail", "text": str(err)})
        except asyncio.CancelledError:
            raise
        except Exception as err:
            traceback.print_exc()
            self._say({"type": "fail", "text": f"the agent failed: {type(err).__name__}"})

    async def _send(self) -> None:
        """Posts what is said, in order, until the run is lost."""
        expect = int(self._job["expect"])
        while True:
            await self._stirred.wait()
            chunks: list[str] = []
            size = 0
            for chunk in self._gathered[:MAX_POSTED]:
                size += len(chunk)
                if chunks and size > MAX_POSTED_CHARS:
                    break
                chunks.append(chunk)
            try:
                await self._wire.post(self._job, expect, chunks)
            except Fenced:
                return
            expect += len(chunks)
            del self._gathered[: len(chunks)]
            if not self._gathered:
                self._stirred.clear()
            self._sent.set()

    async def _listen(self, entered: "asyncio.Future[None]") -> None:
        after = 0
        while True:
            try:
                commands = await self._wire.commands(self._job, after)
            except Fenced:
                self._stop(entered)  # a function that says nothing for long would learn it from nobody else
                return
            for command in commands:
                after = int(command["n"])
                if command["type"] == "cancel":
                    self._stop(entered)
                else:
                    self._context.take(command)

    def _stop(self, entered: "asyncio.Future[None]") -> None:
        """Has the function left, once: how it leaves is its own business."""
        if not entered.done() and not self._context.cancelled.is_set():
            self._context.cancelled.set()
            entered.cancel()
            self._context.cancel_steps()

    def _say(self, chunk: Mapping[str, Any]) -> None:
        data = json.dumps(chunk, separators=(",", ":"))
        if len(data) > MAX_CHUNK_CHARS:
            raise ValueError(f"a chunk of {len(data)} characters: at most {MAX_CHUNK_CHARS} are taken at once")
        self._gathered.append(data)
        self._stirred.set()

    async def _room(self) -> None:
        """Waits until not too much is waiting to be posted; lets others have their turn."""
        await asyncio.sleep(0)
        while len(self._gathered) >= MAX_GATHERED:
            self._sent.clear()
            await self._sent.wait()

    async def _flushed(self, entered: "asyncio.Future[None]") -> None:
        """Waits until all that the function had to say has been posted."""
        await asyncio.wait((entered,))
        while self._gathered:
            self._sent.clear()
            await self._sent.wait()
