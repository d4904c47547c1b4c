"""The life of one generation: started once, appended before delivered, ended exactly once.

A run lives in its own task and its own topic `run/<id>`. Its first event says what it is; chunks follow, each append
fenced with the offset it expects; the last append closes the topic, tells the chat how it ended and settles its usage,
in one transaction. So a run that another process has ended can add nothing, and no end lacks its usage row.
"""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec
import structlog
from msgspec import Raw

from events.log.hub import Hub
from events.log.port import Append, Appended, Block, EventLog, Position
from gateway.chat.dialects.ui_message import CHUNK, ChunkWriter
from gateway.chat.ending import (
    Aborted,
    Failed,
    Finished,
    Outcome,
    RunEnding,
    RunFinished,
    RunInfo,
    StopCommand,
    chat_topic,
    run_topic,
)
from gateway.chat.upstreams.completion import FINISH_REASONS, Chunk
from gateway.chat.upstreams.upstream import Generation, Request, Upstreams
from gateway.core.usage import usage_of
from gateway.errors import LogConflict, LogError, TrilaneError, UpstreamTimeout
from gateway.settings import Settings

HEARTBEAT_S = 5.0
"""Silence after which a run says that it lives."""
LINGER_S = 2.0
"""How long a complete answer is read on for its usage figures."""
MAX_UNACKNOWLEDGED = 64
"""Appends on their way to the log; past that the upstream is read no further (a reader never has that effect)."""
SETTLE_TRIES = 8

log = structlog.get_logger("run")
_json = msgspec.json.Encoder().encode


class CancelAfter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cancel_after: float
    """Seconds with nobody attached."""


OnDisconnect = Literal["continue", "cancel"] | CancelAfter


class Run:
    """One generation that this process owns."""

    def __init__(
        self,
        info: RunInfo,
        request: Request,
        base: list[Raw],
        *,
        event_log: EventLog,
        hub: Hub,
        upstreams: Upstreams,
        settings: Settings,
    ) -> None:
        self.info = info
        self.topic = run_topic(info.run_id)
        self.writer = ChunkWriter(base)
        loop = asyncio.get_running_loop()
        self.verdict: asyncio.Future[None] = loop.create_future()
        """Done when something is visible or the run is over; raises what the upstream refused with."""
        self.finished: asyncio.Future[RunFinished | None] = loop.create_future()
        """Done when the end is in the log; None when another process wrote it."""
        self.verdict.add_done_callback(_seen)
        self.outcome: Outcome | None = None
        """How it ended, once it has."""
        self.first_token_s: float | None = None
        self._request = request
        self._log = event_log
        self._hub = hub
        self._upstreams = upstreams
        self._settings = settings
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._generation: Generation | None = None
        self._ending: Outcome | None = None
        self._generating = False
        """Its task is where a cancellation becomes an outcome."""
        self._opened: asyncio.Future[list[Appended]] = loop.create_future()
        self._next = 0
        self._unacknowledged = 0
        self._paused = False
        self._log_failure: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = self._progress_at = self._appended_at = loop.time()
        self._unwatch: Callable[[], None] = _nothing

    # Starting

    def opening(self) -> list[Append]:
        """The appends that make this run exist; the caller adds the chat's and the usage's, and appends all as one."""
        first = self.writer.start(self.info.message_id)
        self._next = 2 + len(first)
        topic, owner = self.topic, self.info.sub
        return [
            Append(topic=topic, owner=owner, data=[_json(self.info)], name="run", expect=1),
            Append(topic=topic, owner=owner, data=first, name=CHUNK, expect=2),
        ]

    def watch(self, after: Position) -> None:
        """Obeys the commands on the chat's topic that follow `after`. Call before the opening is appended."""
        self._unwatch = self._hub.watch(chat_topic(self.info.chat_id), after, self._command)

    @property
    def model(self) -> str:
        """The model that answers, once one does."""
        return self._generation.model if self._generation else self.info.model

    def start(self, opened: "asyncio.Future[list[Appended]]") -> "asyncio.Task[None]":
        """Asks the upstream while the opening is on its way to the log: a quarter of the time to a first token.

        All that follows is fenced by the opening, so nobody sees anything before it. When it fails there never was a
        run: the upstream's request is closed, and `finished` cancelled.
        """
        self._opened = opened
        opened.add_done_callback(self._check_opened)
        self._task = self._loop.create_task(self._live(), name=self.topic)
        return self._task

    def _check_opened(self, opened: "asyncio.Future[list[Appended]]") -> None:
        if opened.cancelled() or opened.exception() is not None:
            self.stop(Failed(LogError("this run could not be opened")))

    # Ending, from outside

    def stop(self, outcome: Outcome) -> None:
        """Ends the run; the upstream request is closed before this returns. Idempotent."""
        if self._ending is not None or self.outcome is not None:
            return
        self._ending = outcome
        if self._generation is not None:
            self._generation.abort()
        if self._generating and self._task is not None:
            self._task.cancel()

    def _command(self, block: Block) -> None:
        if block.name != "stop":
            return
        for data in block.data:
            if msgspec.json.decode(data, type=StopCommand).run_id == self.info.run_id:
                self.stop(Aborted("stopped"))

    # The life

    async def _live(self) -> None:
        self._timer = self._loop.call_later(HEARTBEAT_S, self._tick)
        self._tick()
        try:
            outcome = self.outcome = await self._outcome()
            await asyncio.wait((self._opened,))
            if self._opened.cancelled() or self._opened.exception() is not None:
                self.verdict.cancel()
                self.finished.cancel()
                return
            if not self.verdict.done():
                if isinstance(outcome, Failed):
                    self.verdict.set_exception(outcome.error)
                else:
                    self.verdict.set_result(None)
            await self._settle(outcome)
            if self._generation is not None:
                await self._generation.aclose()
        finally:
            self._timer.cancel()
            self._unwatch()
            self._unwatch = _nothing  # nothing that ended is left for the garbage collector to find
            if not self.finished.done():
                self.finished.set_result(None)

    async def _outcome(self) -> Outcome:
        """Generates until there is a reason to end. The boundary of the run: whatever happens becomes an outcome."""
        self._generating = True
        try:
            return self._ending or await self._generate()
        except TrilaneError as err:
            return Failed(err)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._ending is None or task is None:
                self._ending = Failed(TrilaneError("the gateway shut down during this answer", code="interrupted"))
            if task is not None:
                task.uncancel()
            return self._ending
        except Exception as err:
            log.exception("run failed", run=self.info.run_id)
            return Failed(TrilaneError(f"the gateway failed: {type(err).__name__}"))
        finally:
            self._generating = False
            if self._generation is not None and not self._generation.ended:
                self._generation.abort()

    async def _generate(self) -> Outcome:
        started = await self._upstreams.start(self._request, self.info.model)
        generation = self._generation = started.generation
        self.first_token_s = self._loop.time() - self._started_at
        self._append(self.writer.speaker(generation.model) + self.writer.write(started.chunks), patient=False)
        if not self.verdict.done():
            self.verdict.set_result(None)
        if not generation.ended:
            await generation.pipe(self._take)
        if self._ending is not None:
            return self._ending
        if generation.error is not None and not generation.parser.complete:
            raise generation.error
        return Finished(FINISH_REASONS.get(generation.parser.finish_reason, "other"))

    def _take(self, chunks: list[Chunk]) -> None:
        """A token's way: called in the turn of the event loop that read it."""
        self._progress_at = self._loop.time()
        self._append(self.writer.write(chunks))
        if self._unacknowledged > MAX_UNACKNOWLEDGED and not self._paused and self._generation is not None:
            self._paused = True
            self._generation.pause()

    def _append(self, data: list[bytes], *, name: str = CHUNK, patient: bool = True) -> None:
        if not data:
            return
        appended = self._log.append(Append(topic=self.topic, data=data, name=name, expect=self._next), patient=patient)
        self._next += len(data)
        self._appended_at = self._loop.time()
        self._unacknowledged += 1
        appended.add_done_callback(self._acknowledged)

    def _acknowledged(self, appended: "asyncio.Future[list[Appended]]") -> None:
        self._unacknowledged -= 1
        if self._paused and self._unacknowledged < MAX_UNACKNOWLEDGED // 2 and self._generation is not None:
            self._paused = False
            self._generation.resume()
        failure = None if appended.cancelled() else appended.exception()
        if failure is not None and self._log_failure is None:
            self._log_failure = failure
            self.stop(Failed(failure if isinstance(failure, TrilaneError) else LogError(str(failure))))

    # Deadlines: one timer for all, which looks at what happened instead of being moved by it

    def _tick(self) -> None:
        now = self._loop.time()
        settings, generation = self._settings, self._generation
        if self._timer is not None:
            self._timer.cancel()
        due = [self._started_at + settings.run_s]
        if now >= due[0]:
            self.stop(Failed(UpstreamTimeout(f"the answer took longer than {settings.run_s:g} s", code="run_timeout")))
        elif generation is not None:
            complete = generation.parser.complete
            limit = LINGER_S if complete else settings.between_tokens_s
            due.append(self._progress_at + limit)
            if now >= due[1]:
                self.stop(
                    Finished(FINISH_REASONS.get(generation.parser.finish_reason, "other"))
                    if complete
                    else Failed(UpstreamTimeout(f"no further token from the upstream within {limit:g} s"))
                )
        if now - self._appended_at >= HEARTBEAT_S and self._log_failure is None and self._generating:
            self._append([b"{}"], name="heartbeat")
        due.append(self._appended_at + HEARTBEAT_S)
        self._timer = self._loop.call_later(max(0.02, min(due) - now), self._tick)

    # The end

    async def _settle(self, outcome: Outcome) -> None:
        """Appends the end, as often as it takes while the log cannot be written; never after another has."""
        generation = self._generation
        ending = RunEnding(
            info=self.info,
            outcome=outcome,
            writer=self.writer,
            usage=usage_of(
                generation.parser.usage if generation else None, self._prompt_bytes(), self.writer.parts.emitted
            ),
            model=generation.model if generation else "",
            upstream=generation.upstream if generation else "",
        )
        for attempt in range(SETTLE_TRIES):
            try:
                if self._log_failure is not None:
                    self._next = await self._real_next()
                await self._log.append(*ending.appends(self._next))
            except LogConflict as err:
                if err.closed or self._log_failure is None:
                    log.warning("run was ended by another process", run=self.info.run_id)
                    return
            except LogError as err:
                log.warning("run cannot be ended yet", run=self.info.run_id, reason=err.detail)
                self._log_failure = err
            else:
                if not self.finished.done():
                    self.finished.set_result(ending.finished())
                return
            await asyncio.sleep(min(5.0, 0.1 * 2**attempt))
        log.error("run left open: the log could not be written", run=self.info.run_id)

    def _prompt_bytes(self) -> int:
        return self.info.prompt_bytes if self._generation is not None else 0

    async def _real_next(self) -> int:
        found = await self._log.read(self.topic, 0, max_events=1)
        return found.head + 1


def _seen(verdict: "asyncio.Future[None]") -> None:
    """A refusal that nobody waits for any more is in the run's log all the same."""
    if not verdict.cancelled():
        verdict.exception()


def _nothing() -> None:
    """There is nothing to end."""
