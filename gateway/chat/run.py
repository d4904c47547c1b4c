"""One answer, from its start to its one end: which producer is next, and when it is over.

A run lives in its own task and writes its own topic by way of its `Journal`. Its producers write one after another,
each a step of its own; whatever happens to them becomes one outcome.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec
import structlog

from events.log.hub import Hub
from events.log.port import Append, Appended, Block, EventLog, Position
from gateway.chat.closing import Closing, Follow
from gateway.chat.ending import Aborted, Failed, Finished, Parking, RunEnding, RunLimit, RunOutcome
from gateway.chat.history import History
from gateway.chat.inbox import Inbox
from gateway.chat.journal import NEVER, Journal
from gateway.chat.producers.producer import Producer
from gateway.chat.records.chat_record import MemberChange, RunFinished, RunInfo, StopCommand, decode_event
from gateway.chat.records.record import FinishReason
from gateway.chat.records.recorder import Recorder
from gateway.core.usage import UsageRow, now_ms, total_of
from gateway.errors import LogError, TrilaneError

if TYPE_CHECKING:
    from gateway.core.tracing import Span

MIN_TICK_S = 0.02

log = structlog.get_logger("run")


class Run:
    """One answer that this process owns. It is the Sink of its producers."""

    def __init__(
        self,
        info: RunInfo,
        producers: Iterable[Producer],
        recorder: Recorder,
        event_log: EventLog,
        *,
        limit: RunLimit,
        parking: Parking | None = None,
        inbox: Inbox | None = None,
        follow: Follow | None = None,
    ) -> None:
        """Advances `producers` only when the one before has come to its end; `limit` is for all of them.

        `parking` is how it asks something; a run of no chat asks nothing. `follow` prepares the answer to what waits.
        """
        self.info = info
        self.recorder = recorder
        self.journal = Journal(info, event_log, self._log_failed)
        self.write = self.journal.write
        loop = asyncio.get_running_loop()
        self.verdict: asyncio.Future[None] = loop.create_future()
        """A future, done when something is visible or the run is over; raises what the first producer failed with."""
        self.finished: asyncio.Future[RunFinished | None] = loop.create_future()
        """A future that is done when the end is in the log; its result is None when another process wrote that."""
        self.usage_row: UsageRow | None = None
        """Its row of usage, from its end on."""
        self.span: Span | None = None
        """What traces tell of it; None where there are none."""
        self.verdict.add_done_callback(_retrieve)
        self.outcome: RunOutcome | None = None
        """The run's outcome; None until it has ended."""
        self.first_token_s: float | None = None
        self.lasted_s = 0.0
        """Seconds from its start to its end, once it has an outcome."""
        self._producers = iter(producers)
        self._producer: Producer | None = None
        self._used: list[Producer] = []
        self._limit = limit
        self._parking = parking
        self.inbox = inbox or Inbox(info, event_log)
        self._follow = follow
        self._is_cuttable = self._is_taking = False
        self._loop = loop
        self._task: asyncio.Task[None] | None = None
        self._ending: RunOutcome | None = None
        self._is_producing = False
        """Whether its task is where a cancellation becomes an outcome."""
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = NEVER
        self._started_at = loop.time()
        self._deadline = self._started_at + limit.seconds - limit.used_s
        self._unwatch: Callable[[], None] = _nothing

    @property
    def topic(self) -> str:
        return self.journal.topic

    @property
    def model(self) -> str:
        """Returns the model that answers, once one does."""
        return next((producer.model for producer in reversed(self._used) if producer.model), self.info.model)

    # Starting

    def opening(self) -> list[Append]:
        """Returns the appends that make this run exist; the caller appends them, the chat's and the usage's as one."""
        parking = self._parking
        request = msgspec.json.encode(parking.request) if parking is not None and parking.is_told_first else b""
        return self.journal.opening(self.recorder.start(self.info.message_id), request)

    def watch(self, hub: Hub, history: History) -> None:
        """Obeys the commands on the chat's topic that follow `history`. Call before the opening is appended."""
        self.inbox.adopt(history)
        after = Position(epoch=history.epoch, offset=history.head)
        self._unwatch = hub.watch(self.inbox.topic, after, self._command)

    def unwatch(self) -> None:
        """Obeys no commands any more."""
        self._unwatch()
        self._unwatch = _nothing  # nothing that ended is left for the garbage collector to find

    def start(self, opening: "asyncio.Future[list[Appended]]") -> "asyncio.Task[None]":
        """Begins to produce while the opening is on its way to the log: a quarter of the time to a first token.

        All that follows is fenced by the opening, so nobody can read anything before it. When it fails there never was
        a run: the producer is aborted, and `finished` cancelled.
        """
        opening.add_done_callback(self._check_opening)
        self._task = self._loop.create_task(self._live(opening), name=self.topic)
        return self._task

    def _check_opening(self, opening: "asyncio.Future[list[Appended]]") -> None:
        if _has_failed(opening):
            self.stop(Failed(LogError("this run could not be opened")))

    async def over(self) -> None:
        """Waits until nothing of it runs any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # Ending, from outside

    def stop(self, outcome: RunOutcome) -> None:
        """Ends the run; what its producer holds open elsewhere is closed before this returns. Idempotent."""
        if self._ending is not None or self.outcome is not None:
            return
        self._ending = outcome
        if self._producer is not None:
            self._producer.abort()
        if self._is_producing and not self._is_taking and self._task is not None:
            self._task.cancel()

    def _command(self, block: Block) -> None:
        for data in block.data:
            event = decode_event(block.name, data) if block.name in (StopCommand.event, MemberChange.event) else None
            if isinstance(event, StopCommand) and event.run_id == self.info.run_id:
                self.stop(Aborted("stopped"))
            elif isinstance(event, MemberChange) and event.role is None and event.sub in self.info.members:
                self.info = msgspec.structs.replace(self.info, members=[s for s in self.info.members if s != event.sub])
        self.inbox.see(block)
        if self._is_cuttable and self.inbox.is_urgent:
            self._cut()

    def _cut(self) -> None:
        """Ends the step that is being written; what it has written stays, and the next one begins."""
        self._is_cuttable, self.inbox.is_cut = False, True
        if self._producer is not None and self._task is not None:
            self._producer.abort()
            self._task.cancel()

    def _log_failed(self, failure: TrilaneError) -> None:
        self.stop(Failed(failure))

    # What a producer says

    def begin(self, records: list[bytes]) -> None:
        if self.first_token_s is None and records:
            self.first_token_s = self._loop.time() - self._started_at
        self.journal.write_now(records)
        if not self.verdict.done():
            self.verdict.set_result(None)
        self.deadline_moved()

    async def note(self, name: str, data: bytes) -> None:
        await self.journal.note(name, data)

    async def take(self, records: list[bytes], told: Append) -> bool:
        self._is_taking = True  # whether both were written must be known before this run can end
        try:
            if not (is_written := await self.journal.take(records, told)):
                await self.inbox.refresh()
        finally:
            self._is_taking = False
        if is_written and told.expect is not None:
            self.inbox.see(Block(first=told.expect, data=told.data, name=told.name, time_ms=0))
        return is_written

    def deadline_moved(self) -> None:
        """Has the deadlines looked at when the producer's is due: never at once, in a task that this may cancel."""
        if self._producer is not None and (due := self._producer.deadline()) < self._next_tick:
            self._tick_at(due)

    # The life

    async def _live(self, opening: "asyncio.Future[list[Appended]]") -> None:
        try:
            outcome = self.outcome = await self._outcome()
            await asyncio.wait((opening,))
            if _has_failed(opening):
                self.verdict.cancel()
                self.finished.cancel()
                await self._close_producer()
                return
            self._decide(outcome)
            closing = self._conclude(outcome)
            try:
                finished = await self.journal.settle(closing)
                if finished is not None:
                    self.finished.set_result(finished)
                    closing.begin()
            finally:
                closing.cancel()
            await self._close_producer()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.unwatch()
            self.journal.close()
            if not self.finished.done():
                self.finished.set_result(None)

    async def _outcome(self) -> RunOutcome:
        """Produces until there is a reason to end. The boundary of the run: whatever happens becomes an outcome."""
        self._is_producing = True
        self._tick()
        try:
            return self._ending or await self._produce()
        except TrilaneError as err:
            return self._ending or Failed(err.with_traceback(None))  # its frames hold this run, which keeps it
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._ending is None or task is None:
                self._ending = Failed(TrilaneError("the gateway shut down during this answer", code="interrupted"))
            while task is not None and task.cancelling():
                task.uncancel()
            return self._ending
        except Exception as err:
            log.exception("run failed", run=self.info.run_id)
            return Failed(TrilaneError(f"the gateway failed: {type(err).__name__}"))
        finally:
            self._is_producing = False
            if self._producer is not None:
                self._producer.abort()

    async def _produce(self) -> RunOutcome:
        reason: FinishReason = "other"
        for producer in self._producers:
            await self._close_producer()
            if producer.is_step and (self._used or not self.recorder.is_in_step):
                self.write(self.recorder.next_step())
            self._producer = producer
            self._used.append(producer)
            self.journal.lead(producer)
            reason = await self._let_write(producer)
            if self._ending is not None:
                return self._ending
        return Finished(reason)

    async def _let_write(self, producer: Producer) -> FinishReason:
        """Returns why a producer stopped; one that is cut for a message has not been cancelled for good."""
        if producer.is_step and self.inbox.is_urgent:  # it came while the one before was closed
            self.inbox.is_cut = True
            return "other"
        self._is_cuttable = producer.is_step
        try:
            return await producer.produce(self)
        except asyncio.CancelledError:
            if not self.inbox.is_cut or self._ending is not None or self._task is None:
                raise
            self._task.uncancel()
            return "other"
        finally:
            self._is_cuttable = False

    async def _close_producer(self) -> None:
        if self._producer is not None:
            await self._producer.aclose()

    def _decide(self, outcome: RunOutcome) -> None:
        """Tells whoever still waits for the verdict of the end."""
        if self.verdict.done():
            return
        if isinstance(outcome, Failed):
            self.verdict.set_exception(outcome.error)
        else:
            self.verdict.set_result(None)

    def _conclude(self, outcome: RunOutcome) -> Closing:
        self.lasted_s = self._loop.time() - self._started_at
        upstream = next((producer.upstream for producer in reversed(self._used) if producer.upstream), "")
        usage = total_of([producer.usage() for producer in self._used])
        asks = [ask for producer in self._used for ask in producer.asks] if isinstance(outcome, Finished) else []
        may_follow = isinstance(outcome, Finished) and not self.recorder.is_waiting
        ending = RunEnding(
            self.info,
            outcome,
            self.recorder,
            usage,
            model=self.model,
            upstream=upstream,
            ended_ms=now_ms(),
            asks=asks,
            parking=self._parking,
            took=self.inbox.took(),
        )
        self.usage_row = ending.row
        return Closing(ending, self.inbox, self._follow if may_follow and not ending.is_parked else None)

    # Deadlines: one timer for all, which looks at what happened instead of being moved by it

    def _tick(self) -> None:
        now = self._loop.time()
        if now >= self._deadline:
            self.stop(self._limit.failure())
        if not self._is_producing or self._ending is not None:
            return
        producer_deadline = self._producer.deadline() if self._producer is not None else self._deadline
        if self._producer is not None and now >= producer_deadline:
            self._producer.expire()
        self._tick_at(min(self._deadline, producer_deadline, self.journal.beat(now)))

    def _tick_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_tick = max(due, self._loop.time() + MIN_TICK_S)
        self._timer = self._loop.call_at(self._next_tick, self._tick)


def _has_failed(opening: "asyncio.Future[list[Appended]]") -> bool:
    return opening.cancelled() or opening.exception() is not None


def _retrieve(verdict: "asyncio.Future[None]") -> None:
    """Looks at a refusal that nobody waits for any more: it is in the run's log all the same."""
    if not verdict.cancelled():
        verdict.exception()


def _nothing() -> None:
    """Does nothing: there is nothing to end."""
