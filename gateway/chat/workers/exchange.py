"""Lets a worker that comes to any process of a log have the runs of all: what it claims, posts and is told.

A run stays in its process, which alone decides about claims, the order of chunks, and what was taken before. Another
one sends it letters by way of the log, and what it replies is the answer to the worker. A worker that comes to the
run's own process costs nothing of this; elsewhere a post costs two appends more, however many chunks it has. A process
that does not reply within the time of a lease is taken for dead: its claims are fenced, which is right either way.
"""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from itertools import count

import msgspec
import structlog
from msgspec import Raw

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Appended, Block, EventLog, Position
from gateway.chat.workers.desk import WorkDesk
from gateway.chat.workers.letters import (
    LETTER,
    REPLY,
    WAITING,
    WAITS,
    AskCommands,
    AskRun,
    GiveBack,
    Letter,
    ReplyProblem,
    SendChunks,
    WaitingRuns,
    WorkReply,
    box_of,
    decode_letter,
    decode_reply,
    decode_waiting,
    replying,
    sending,
    telling,
)
from gateway.chat.workers.protocol import LEASE_S, WorkJob
from gateway.chat.workers.session import ClaimedRun, agent_of, fenced, process_of
from gateway.errors import Overloaded, TrilaneError

TELL_AGAIN_S = 3.0
"""Seconds after which runs that still wait are told of again, for processes that have started meanwhile."""
TELL_GAP_S = 0.05
"""Seconds in which runs that begin to wait are told of together."""
STALE_S = 10.0
"""Seconds after which a run that was not told of again is forgotten."""
MAX_TOLD = 100
"""Runs of one agent that are told of at once: those that have waited longest."""
MAX_KNOWN = 1000
"""Runs of one agent that are known to wait elsewhere; past that news of others is passed over until it comes again."""
MAX_LETTERS = 10_000
"""Letters that are answered at once."""
COMMANDS_S = 10.0
POST_S = 5.0
"""Seconds within which a letter is replied to: then with no command, or that the log is behind."""
_PROCESS = re.compile(r"[0-9a-f]{12}", re.ASCII)

log = structlog.get_logger("agents")
_json = msgspec.json.Encoder().encode
_job = msgspec.json.Decoder(WorkJob | None).decode
_commands = msgspec.json.Decoder(list[tuple[int, Raw]]).decode


class WorkExchange:
    """The desks of all processes of a log, as one of them sees them."""

    def __init__(
        self, event_log: EventLog, hub: Hub, desk: WorkDesk, agents: frozenset[str], *, reply_s: float = LEASE_S
    ) -> None:
        """`agents` are those whose workers come from elsewhere; after `reply_s` without a reply a process is dead."""
        self._log = event_log
        self._hub = hub
        self._desk = desk
        self._agents = agents
        self._reply_s = reply_s
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._replies: dict[int, asyncio.Future[WorkReply]] = {}
        self._elsewhere = defaultdict[str, dict[str, tuple[str, float]]](dict)
        """Runs that wait in other processes, by agent and id: the process, and when it told of them."""
        self._asking = defaultdict[str, int](int)
        """Workers on whose behalf a run is being asked for, by agent."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwatch: list[Callable[[], None]] = []
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._told_at = 0.0

    async def open(self) -> None:
        """Takes part from now on. Raises LogError."""
        box, news = box_of(self._desk.process), await self._log.read(WAITING, NO_EVENTS, max_events=1)
        self._unwatch = [
            self._hub.watch(box, Position("", 0), self._receive, is_standing=True),
            self._hub.watch(WAITING, Position(news.epoch, news.head), self._hear, is_standing=True),
        ]
        self._desk.on_waiting = self._waits

    async def aclose(self) -> None:
        for end in self._unwatch:
            end()
        for timer in self._timers.values():
            timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def session(self, run_id: str, lease: str) -> ClaimedRun:
        """Returns a claim, wherever its run is. Raises TrilaneError (409 `fenced`) for what is none."""
        process = process_of(lease)
        if process == self._desk.process or not _PROCESS.fullmatch(process) or not agent_of(lease):
            return self._desk.session(run_id, lease)
        return ClaimElsewhere(self, run_id, lease)

    async def ask(self, process: str, letter: Letter) -> Raw:
        """Sends a letter, and returns what comes of it.

        Raises the error that the other process tells, LogError, and TrilaneError (409 `fenced`) when it tells nothing.
        """
        reply: asyncio.Future[WorkReply] = self._loop.create_future()
        self._replies[letter.n] = reply
        try:
            async with asyncio.timeout(self._reply_s):
                await self._log.append(sending(letter, process))
                told = await reply
        except TimeoutError:
            raise fenced() from None
        finally:
            del self._replies[letter.n]
        if told.problem is not None:
            raise told.problem.error()
        return told.value

    def post(self, letter: Letter, process: str) -> None:
        """Sends a letter whose reply nobody waits for."""
        self._append(sending(letter, process))

    def address(self) -> tuple[int, str]:
        """Returns the number and the sender of the next letter."""
        return next(self._numbers), self._desk.process

    # Letters of other processes

    def _receive(self, block: Block) -> None:
        for data in block.data if block.name in (LETTER, REPLY) else ():
            try:
                told = (decode_reply if block.name == REPLY else decode_letter)(data)
            except msgspec.DecodeError as err:
                log.warning("a letter of another release is passed over", reason=str(err))
                continue
            if not isinstance(told, WorkReply):
                self._spawn(self._reply(told))
            elif (reply := self._replies.get(told.n)) is not None and not reply.done():
                reply.set_result(told)

    async def _reply(self, letter: Letter) -> None:
        try:
            if len(self._tasks) > MAX_LETTERS:
                raise Overloaded(f"{MAX_LETTERS} requests of workers wait already")
            reply = WorkReply(letter.n, Raw(await self._result(letter)))
        except TrilaneError as err:
            reply = WorkReply(letter.n, problem=ReplyProblem.of(err))
        except TimeoutError:
            late = Overloaded("the log is behind: post this once more", code="log_behind")
            reply = WorkReply(letter.n, problem=ReplyProblem.of(late))
        self._append(replying(reply, letter.sender))

    async def _result(self, letter: Letter) -> bytes:
        match letter:
            case AskRun():
                claimed = self._desk.take(letter.agent, letter.run_id)
                return claimed.encoded_job if claimed is not None else b"null"
            case SendChunks():
                session = self._desk.session(letter.run_id, letter.lease)
                async with asyncio.timeout(POST_S):
                    return _json(await session.post(letter.expect, letter.chunks))
            case AskCommands():
                session = self._desk.session(letter.run_id, letter.lease)
                commands = await session.commands(letter.after, COMMANDS_S)
                return _json([(number, Raw(command)) for number, command in commands])
            case GiveBack():
                self._desk.session(letter.run_id, letter.lease).close()
                return b"null"

    # Runs and workers that wait in different processes

    def _waits(self, agent: str) -> None:
        """Looks elsewhere for what a worker, or a run, has begun to wait for here."""
        if agent not in self._agents:
            return
        if self._desk.claims(agent):
            self._seek(agent)
        else:
            self._later(max(0.0, self._told_at + TELL_GAP_S - self._loop.time()), self._tell_waiting)

    def _tell_waiting(self) -> None:
        runs = self._desk.waiting(self._agents, MAX_TOLD)
        if runs:
            self._told_at = self._loop.time()
            self._append(telling(WaitingRuns(self._desk.process, runs)))
            self._later(TELL_AGAIN_S, self._tell_waiting)

    def _hear(self, block: Block) -> None:
        for data in block.data if block.name == WAITS else ():
            with contextlib.suppress(msgspec.DecodeError):  # another release tells of them otherwise
                told = decode_waiting(data)
                if told.process != self._desk.process:
                    self._note_waiting(told)

    def _note_waiting(self, told: WaitingRuns) -> None:
        now = self._loop.time()
        for agent in told.runs.keys() & self._agents:
            known = self._elsewhere[agent]
            for run_id, (_, heard_at) in list(known.items()):
                if now - heard_at > STALE_S:
                    del known[run_id]
            for run_id in told.runs[agent]:
                if run_id in known or len(known) < MAX_KNOWN:
                    known[run_id] = told.process, now
            self._seek(agent)

    def _seek(self, agent: str) -> None:
        """Asks for as many runs elsewhere as there are workers waiting here."""
        known = self._elsewhere[agent]
        while known and self._asking[agent] < self._desk.claims(agent):
            run_id, (process, heard_at) = next(iter(known.items()))
            del known[run_id]
            if self._loop.time() - heard_at <= STALE_S:
                self._asking[agent] += 1
                self._spawn(self._claim(agent, run_id, process))

    async def _claim(self, agent: str, run_id: str, process: str) -> None:
        try:
            n, sender = self.address()
            told = await self.ask(process, AskRun(n=n, sender=sender, run_id=run_id, agent=agent))
            if (job := _job(told)) is not None:
                claimed = ClaimElsewhere(self, run_id, job.lease, bytes(told))
                if not self._desk.give(agent, claimed):
                    claimed.close()
        except TrilaneError as err:
            log.info("a run of another process cannot be claimed", run=run_id, reason=err.detail)
        finally:
            self._asking[agent] -= 1
            self._seek(agent)

    # Of this process

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Calls a method after a delay, in place of what it was to be called for before."""
        if (timer := self._timers.get(call)) is not None:
            timer.cancel()
        self._timers[call] = self._loop.call_later(delay_s, call)

    def _append(self, append: Append) -> None:
        """Appends without waiting: who gets no letter, or no reply, asks again."""
        self._log.append(append).add_done_callback(_note_failure)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class ClaimElsewhere:
    """A claim of a run that another process writes."""

    def __init__(self, exchange: WorkExchange, run_id: str, lease: str, encoded_job: bytes = b"") -> None:
        self.encoded_job = encoded_job
        self._exchange = exchange
        self._run_id = run_id
        self._lease = lease
        self._process = process_of(lease)

    async def post(self, expect: int, chunks: Sequence[Raw]) -> int:
        n, sender = self._exchange.address()
        told = await self._exchange.ask(
            self._process,
            SendChunks(
                n=n,
                sender=sender,
                run_id=self._run_id,
                lease=self._lease,
                expect=expect,
                chunks=list(chunks),
            ),
        )
        return msgspec.json.decode(told, type=int)

    async def commands(self, after: int, wait_s: float | None) -> list[tuple[int, bytes]]:
        """Waits for less than `wait_s`, so that a worker soon learns that the run's process is dead."""
        n, sender = self._exchange.address()
        letter = AskCommands(n=n, sender=sender, run_id=self._run_id, lease=self._lease, after=after)
        return [
            (number, bytes(command)) for number, command in _commands(await self._exchange.ask(self._process, letter))
        ]

    def close(self) -> None:
        n, sender = self._exchange.address()
        self._exchange.post(GiveBack(n=n, sender=sender, run_id=self._run_id, lease=self._lease), self._process)


def _note_failure(append: "asyncio.Future[list[Appended]]") -> None:
    if not append.cancelled() and (error := append.exception()) is not None:
        log.warning("a letter to another process is lost", reason=str(error))
