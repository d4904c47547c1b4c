"""An agent that workers run: an upstream of the kind `worker`, or `python`, whose worker is a process of ours.

That process is a worker like any other, which speaks the protocol as lines over its pipes. It runs under the
keeper that servers of tools have, so it never outlives the gateway; when it ends it is started again.
"""

import asyncio
import random
import sys
from contextlib import aclosing

import msgspec
import structlog
from msgspec import Raw

from gateway.chat.tools.kept_process import KeptProcess
from gateway.chat.tools.lines import Overlong
from gateway.chat.workers.desk import WorkDesk
from gateway.chat.workers.session import WorkSession, numbered
from gateway.errors import TrilaneError, UpstreamUnreachable
from gateway.upstream_settings import UpstreamSettings

MAX_LINE_BYTES = 16_777_216
QUEUED_POSTS = 64
"""Posts of one run that wait while the log is behind; past that the process is not read."""
END_S = 5.0
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
STEADY_S = 30.0
"""Seconds after which a process counts as one that worked, so that pauses begin anew."""

log = structlog.get_logger("agents")
_json = msgspec.json.Encoder().encode


class ChildLine(msgspec.Struct, frozen=True, rename="camel"):
    """A line that the process writes: a claim, or a post."""

    type: str
    run_id: str = ""
    lease: str = ""
    expect: int = 0
    chunks: list[Raw] = []


_line = msgspec.json.Decoder(ChildLine).decode


class PythonChild:
    """The process of one agent. `start` it within the event loop, and `aclose` it."""

    def __init__(self, settings: UpstreamSettings, desk: WorkDesk) -> None:
        self._name = settings.name
        self._env = settings.env
        self._max_runs = settings.max_concurrency
        python = settings.agent_python or sys.executable
        self._command = [python, "-m", "trilane_agent", f"{settings.name}={settings.function}", "--pipes"]
        self._desk = desk
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"agent {self._name}")

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began = loop.time()
            service = PipeService(self._name, self._desk, self._max_runs)
            try:
                process = await KeptProcess.start(self._name, self._command, self._env)
            except (OSError, ValueError) as err:
                reason = f"it cannot be started: {err}"
            else:
                reason = await service.serve(process)
            log.warning("agent_process_ended", agent=self._name, reason=reason)
            if not service.has_claimed:
                self._desk.refuse(
                    self._name,
                    UpstreamUnreachable(
                        f"the process of agent {self._name!r} does not run: {reason}", code="no_worker"
                    ),
                )
            if service.has_claimed and loop.time() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class PipeService:
    """Serves one process until it ends: its claims, its posts, and the commands for it."""

    def __init__(self, name: str, desk: WorkDesk, max_runs: int) -> None:
        self.has_claimed = False
        """Whether the process has come so far as to ask for work."""
        self._name = name
        self._desk = desk
        self._max_runs = max_runs
        self._posts: dict[str, asyncio.Queue[ChildLine]] = {}
        self._claims = 0
        self._group: asyncio.TaskGroup | None = None

    async def serve(self, process: KeptProcess) -> str:
        """Returns how the process has ended."""
        sessions: list[WorkSession] = []
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._read(process, self._group, sessions)
                self._group.create_task(_leave())
        except* _Left:
            pass
        finally:
            self._group = None
            for session in sessions:
                self._desk.close_session(session)
            try:
                async with asyncio.timeout(END_S):
                    reason = await process.end() if not process.is_open else "it writes what is no line of the protocol"
            except TimeoutError:
                reason = "it has closed its output"
            await process.stop()
        return reason

    async def _read(self, process: KeptProcess, group: asyncio.TaskGroup, sessions: list[WorkSession]) -> None:
        async with aclosing(process.lines(MAX_LINE_BYTES, 1024)) as lines:
            async for line in lines:
                try:
                    told = _line(line) if not isinstance(line, Overlong) else None
                except (msgspec.DecodeError, UnicodeDecodeError):
                    told = None
                if told is None:
                    log.error("agent_line_refused", agent=self._name)
                    return
                if told.type == "claim" and self._claims < self._max_runs:
                    self.has_claimed = True
                    self._claims += 1
                    group.create_task(self._work(process, sessions))
                elif told.type == "post" and (queue := self._posts.get(told.run_id)) is not None:
                    await queue.put(told)

    async def _work(self, process: KeptProcess, sessions: list[WorkSession]) -> None:
        """Gives the process one run, and serves it to its end."""
        while (session := await self._desk.claim(self._name, None)) is None:
            pass  # this process is leaving: the process is here for the runs that it still has
        assert isinstance(session, WorkSession)  # an agent of ours is given no run of another process
        sessions.append(session)
        run_id, queue = session.job.run_id, asyncio.Queue[ChildLine](QUEUED_POSTS)
        self._posts[run_id] = queue
        loop = asyncio.get_running_loop()
        commands = loop.create_task(_tell(process, session))
        posts = loop.create_task(_take(session, queue))
        try:
            await process.write(_json(session.job))
            await asyncio.wait((commands, posts), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((commands,), timeout=END_S)  # what it is told last
            await process.write(_json({"type": "fenced", "runId": run_id, "lease": session.job.lease}))
        except BrokenPipeError:
            pass  # it has ended, and its output ends too
        finally:
            self._claims -= 1
            if self._posts.get(run_id) is queue:
                del self._posts[run_id]
            while not queue.empty():
                queue.get_nowait()  # so that nobody waits for room
            sessions.remove(session)
            self._desk.close_session(session)
            for task in (commands, posts):
                task.cancel()
            await asyncio.wait((commands, posts))


async def _take(session: WorkSession, queue: asyncio.Queue[ChildLine]) -> None:
    """Takes what is posted until the claim is over, or a post is wrong."""
    while not session.is_closed:
        told = await queue.get()
        try:
            await session.post(told.expect, told.chunks)
        except TrilaneError:
            return


async def _tell(process: KeptProcess, session: WorkSession) -> None:
    after = 0
    while True:
        try:
            waiting = await session.commands(after, None)
        except TrilaneError:
            return
        after = waiting[-1][0]
        told = Raw(b"[%b]" % b",".join(numbered(number, data) for number, data in waiting))
        try:
            await process.write(_json({"type": "commands", "runId": session.job.run_id, "commands": told}))
        except BrokenPipeError:
            return


class _Left(Exception):
    """The process has ended: what is done for it ends too."""


async def _leave() -> None:
    raise _Left


class WorkAgent:
    """One agent, and the desk at which its runs wait."""

    def __init__(self, settings: UpstreamSettings, desk: WorkDesk) -> None:
        self.settings = settings
        self.desk = desk
        self.in_flight = 0
        self.child = PythonChild(settings, desk) if settings.kind == "python" else None

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def shown(self) -> str:
        """Returns who runs it."""
        return self.settings.function or f"any worker with the grant `worker: [{self.name}]`"

    @property
    def names(self) -> list[str]:
        """Returns the models that stand for it."""
        listed = [*self.settings.models, *([self.settings.model] if self.settings.model else [])]
        return listed or [self.settings.name]

    def start(self) -> None:
        """Starts its process, where it has one of ours. Call within the event loop."""
        if self.child is not None:
            self.child.start()

    async def aclose(self) -> None:
        if self.child is not None:
            await self.child.aclose()
