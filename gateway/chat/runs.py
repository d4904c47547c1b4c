"""The runs of this process: made, counted and ended. Past `limits.local_runs` a new one is refused."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from events.log.port import Append, Appended, EventLog
from gateway.chat.abandoned import end_run
from gateway.chat.agents.agents import Agents
from gateway.chat.agents.prompt import AgentPrompt
from gateway.chat.closing import Follow
from gateway.chat.ending import Aborted, Failed, Parking, RunLimit, RunOutcome
from gateway.chat.figures import ChatFigures
from gateway.chat.inbox import Inbox
from gateway.chat.notices import notices
from gateway.chat.producers.passed import Passage, PassedProducer
from gateway.chat.producers.tools import Call
from gateway.chat.records.chat_record import CancelAfter, OnDisconnect, ParkedRequest, RunInfo
from gateway.chat.records.messages import UpstreamMessage
from gateway.chat.records.recorder import Recorder
from gateway.chat.recovery import Recovery
from gateway.chat.run import Run
from gateway.chat.run_leases import RunLeases, with_reserved
from gateway.chat.run_span import end_run_span, run_span
from gateway.chat.steps import ToolPolicy
from gateway.chat.tools.toolbox import NO_TOOLS, Toolbox
from gateway.chat.upstreams.failover import Upstreams
from gateway.chat.upstreams.upstream import Request
from gateway.chat.writers import Writers, affinity_of
from gateway.core.fleet import WrittenRun
from gateway.core.leases import NO_LEASE, Lease
from gateway.core.limits import Limiter
from gateway.core.prices import NO_PRICES, Prices
from gateway.core.telemetry import Metrics
from gateway.core.usage import now_ms, reserved
from gateway.errors import Overloaded, TrilaneError
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.core.tracing import Span, Tracer

DRAINING = "draining"
"""Code of the error of a process that takes no new run."""
CLOSE_S = 15.0
"""Seconds that the ends of runs may take when this process ends."""

log = structlog.get_logger("runs")


class Runs:
    """Makes, counts and ends runs."""

    def __init__(
        self,
        event_log: EventLog,
        upstreams: Upstreams,
        settings: Settings,
        metrics: Metrics,
        prices: Prices = NO_PRICES,
        toolbox: Toolbox = NO_TOOLS,
        tracer: "Tracer | None" = None,
        agents: Agents | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.agents = agents or Agents([], settings.first_token_s)
        self.tools = ToolPolicy(toolbox, settings.max_steps, settings.ask_s)
        self._writers = Writers(upstreams, self.agents, self.tools, settings.between_tokens_s)
        self.follow: Follow | None = None
        """Prepares the answer to what waits in a chat, when one of its runs has come to its end."""
        self._tracer = tracer
        self.draining = False
        self.figures = ChatFigures(metrics)
        self.figures.watch(
            lambda: len(self._runs),
            lambda: upstreams.in_flight() | self.agents.in_flight(),
            lambda: upstreams.circuits() | self.agents.circuits(),
        )
        upstreams.router.on_error = self.agents.router.on_error = self.figures.note_upstream_error
        self._log = event_log
        self._settings = settings
        self._runs: dict[str, Run] = {}
        self._leaving: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._attached: dict[str, int] = {}
        self._policies: dict[str, OnDisconnect] = {}
        self.leases = RunLeases(limiter, prices)
        self._lonely: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def oldest(self) -> Iterator[WrittenRun]:
        """Yields the runs of this process, the oldest first."""
        return (WrittenRun(run.info.run_id, run.recorder.emitted) for run in self._runs.values())

    def get(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def make(
        self,
        info: RunInfo,
        request: Request,
        recorder: Recorder,
        on_disconnect: OnDisconnect,
        lease: Lease = NO_LEASE,
    ) -> Run:
        """Returns a run that a model or an agent writes once by way of `recorder`.

        `lease` is given back when it has ended.
        """
        self._check_room()
        info, span = with_reserved(info, lease), self._span(info)
        run = Run(info, [self._writers.once(info, span, request)], recorder, self._log, limit=self._limit(info))
        return self._keep(run, span, on_disconnect, lease)

    def make_passed(
        self, info: RunInfo, passage: Passage, request: Request, content: bytes, lease: Lease
    ) -> tuple[Run, PassedProducer]:
        """Returns a run that passes `content`, which says `request`, to an upstream, and ends with its client."""
        self._check_room()
        info, span = with_reserved(info, lease), self._span(info)
        key = affinity_of(info, request)
        producer = PassedProducer(self.upstreams, passage, request, content, info.model, span, key)
        run = Run(info, [producer], Recorder(), self._log, limit=self._limit(info))
        return self._keep(run, span, "cancel", lease), producer

    def make_of_chat(
        self,
        info: RunInfo,
        request: Request,
        recorder: Recorder,
        on_disconnect: OnDisconnect,
        lease: Lease,
        calls: list[Call],
        parked: ParkedRequest,
        same_as: str,
        prompt: AgentPrompt | None,
    ) -> Run:
        """Returns a run of a chat, whose model may call tools; `calls` are made before it is asked.

        It parks with `parked`, as the run `same_as` did, if any. The messages of `request` end before the answer that
        it continues. An agent makes its calls itself, and is asked what `prompt` says.
        """
        self._check_room()
        span, inbox = self._span(info), Inbox(info, self._log)
        producers = self._writers.of_chat(info, span, request, recorder, prompt, calls, inbox)
        has_tools = prompt is not None or bool(calls or self.tools.toolbox.offered(info.sub))
        parking = Parking(request=parked, ask_s=self.tools.ask_s, same_as=same_as, is_told_first=has_tools)
        limit = self._limit(info)
        run = Run(info, producers, recorder, self._log, limit=limit, parking=parking, inbox=inbox, follow=self.follow)
        return self._keep(run, span, on_disconnect, lease)

    def _check_room(self) -> None:
        if self.draining:
            raise Overloaded("this process is shutting down", code=DRAINING, retry_after="1")
        if len(self._runs) - len(self._leaving) >= self._settings.limits.local_runs:
            raise Overloaded(f"{len(self._runs)} answers are being written already")

    def _limit(self, info: RunInfo) -> RunLimit:
        """Returns the time that a run may take: the longest that one of those who may answer is given."""
        serving = self.agents.serving(info.model) or self.upstreams.serving(info.model)
        limits = [
            RunLimit(upstream.settings.run_s, f"run_s of the upstream {upstream.settings.name!r}")
            for upstream in serving
            if upstream.settings.run_s is not None
        ]
        if len(limits) < len(serving) or not limits:
            limits.append(RunLimit(self._settings.run_s))
        return max(limits)

    def _span(self, info: RunInfo) -> "Span | None":
        return None if self._tracer is None else run_span(self._tracer, info)

    def _keep(self, run: Run, span: "Span | None", on_disconnect: OnDisconnect, lease: Lease) -> Run:
        run_id = run.info.run_id
        run.span = span
        self._runs[run_id] = run
        self.leases.keep(run_id, lease)
        if on_disconnect != "continue":
            self._policies[run_id] = on_disconnect
        return run

    def opening(self, run: Run) -> list[Append]:
        """Returns the appends that make a run exist, with its reserved usage."""
        appends = [*run.opening(), reserved(run.info.sub, run.info.run_id)]
        return [*appends, *notices(run.info, "run-started")] if run.info.chat_id else appends

    async def begin(self, run: Run, *before: Append) -> None:
        """Appends `before` and the run's opening as one, and lets it run; or leaves nothing."""
        opening = self._log.append(*before, *self.opening(run))
        self.let_run(run, opening)
        try:
            await asyncio.shield(opening)  # to cancel it would not undo it, and the run would think that it failed
        finally:
            del opening  # it holds its error, whose frames hold it

    def let_run(self, run: Run, opening: "asyncio.Future[list[Appended]]") -> None:
        """Lets a run produce, whose opening is on its way to the log."""
        task = run.start(opening)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(run, done))

    def _ended(self, run: Run, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self.forget(run)
        self.figures.note_end(run)
        self._settle(run)
        if run.span is not None:
            end_run_span(run.span, run)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("run task failed", run=run.info.run_id, exc_info=error)

    def _settle(self, run: Run) -> None:
        """Gives back what the run held of limits, and charges for it if this process has written its end."""
        run_id = run.info.run_id
        if run.finished.cancelled():  # it was never opened
            self.leases.cancel(run_id)
            return
        finished = run.finished.result() if run.finished.done() else None
        row = run.usage_row if finished is not None else None
        self.leases.end(run_id, row, finished.usage.total_tokens if finished is not None else 0)

    async def end_other(self, run_id: str, outcome: RunOutcome) -> None:
        """Ends a run that another process owns, or one that is too slow to stop, unless somebody was first."""
        ending = await end_run(self._log, run_id, outcome)
        if ending is not None:
            self.leases.end_other(ending)

    def forget(self, run: Run) -> None:
        """Holds a run no more: it has ended, or never began."""
        self._runs.pop(run.info.run_id, None)
        self._leaving.discard(run.info.run_id)
        self._policies.pop(run.info.run_id, None)
        self._attached.pop(run.info.run_id, None)
        if (waiting := self._lonely.pop(run.info.run_id, None)) is not None:
            waiting.cancel()

    def leave_limits(self, run_id: str) -> None:
        """Gives back the place that a run holds among those of its user and of this process: what follows takes it."""
        self.leases.leave_place(run_id)
        if run_id in self._runs:
            self._leaving.add(run_id)

    def discard(self, run: Run) -> None:
        """Lets go of a run that was made and never began."""
        run.unwatch()
        run.journal.close()
        self.forget(run)
        self.leases.cancel(run.info.run_id)

    # Who is attached

    def attached(self, run: Run) -> Callable[[], None]:
        """Counts a reader in; call what it returns when the reader is gone."""
        run_id = run.info.run_id
        if (waiting := self._lonely.pop(run_id, None)) is not None:
            waiting.cancel()
        if run_id in self._runs:
            self._attached[run_id] = self._attached.get(run_id, 0) + 1
        return lambda: self._detached(run)

    def attached_to(self, run_id: str) -> Callable[[], None]:
        """Does as `attached` by a run's id, and nothing for a run that this process does not write."""
        run = self._runs.get(run_id)
        return self.attached(run) if run is not None else lambda: None

    def _detached(self, run: Run) -> None:
        run_id = run.info.run_id
        if run_id not in self._attached:
            return
        self._attached[run_id] -= 1
        policy = self._policies.get(run_id)
        if self._attached[run_id] or policy is None or self.draining:  # a drain sends readers away: they come back
            return
        if isinstance(policy, CancelAfter):
            self._lonely[run_id] = asyncio.get_running_loop().call_later(
                policy.cancel_after, self._cancel_if_alone, run
            )
        else:
            self._cancel_if_alone(run)

    def _cancel_if_alone(self, run: Run) -> None:
        if not self._attached.get(run.info.run_id):
            run.stop(Aborted("disconnected"))

    def take_over(self, recovery: Recovery, turns: list[UpstreamMessage]) -> Run:
        """Returns the run that goes on with one of another process; `turns` are the conversation before it."""
        request: Request = recovery.request.asking(turns)
        info, recorder = recovery.info, recovery.recorder
        span, inbox = self._span(info), Inbox(recovery.info, self._log)
        prompt, calls, steps = recovery.prompt, recovery.calls, recovery.steps
        producers = self._writers.of_chat(info, span, request, recorder, prompt, calls, inbox, steps)
        parking = Parking(request=recovery.request, ask_s=self.tools.ask_s)
        is_old = info.started_ms and not recovery.is_left
        used_s = max(0, now_ms() - info.started_ms) / 1000 if is_old else 0.0
        limit = self._limit(info)._replace(used_s=used_s)
        run = Run(info, producers, recorder, self._log, limit=limit, parking=parking, inbox=inbox, follow=self.follow)
        return self._keep(run, span, "continue", self.leases.of_another(info))

    # Leaving

    async def drain(self) -> None:
        """Takes no new run, and waits until every run of this process has ended."""
        self.draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Ends what still runs as `interrupted`. An end that the log does not take is left open."""
        error = TrilaneError("the gateway was shut down during this answer", code="interrupted", retryable=True)
        for run in list(self._runs.values()):
            run.stop(Failed(error))
        self.draining = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_S)
        for task in self._tasks:
            task.cancel()
        await self.drain()
