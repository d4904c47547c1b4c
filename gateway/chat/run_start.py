"""Starts a run of a chat: what it is known by, what the chat is told of it, and the one append of all that.

Limits are asked first. Then all becomes durable at once, fenced by what was read of the chat, or there never was a run.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from events.log.hub import Hub, TopicReader
from events.log.port import Append, Appended
from events.log.ring import Encode
from events.log.rules import size_of
from gateway.access.grants import Principal
from gateway.chat.agents.completion_prompt import system_of
from gateway.chat.agents.prompt import AgentPrompt, decision_of
from gateway.chat.change import Change
from gateway.chat.history import History
from gateway.chat.journal import next_offset, opening_of
from gateway.chat.notices import message_notices, notices, queue_notices
from gateway.chat.producers.tools import Call
from gateway.chat.records.chat_record import (
    ChatCreated,
    ChatEvent,
    OnDisconnect,
    ParkedRequest,
    RunInfo,
    RunStarted,
    encode_event,
)
from gateway.chat.records.messages import UIMessage, bytes_of_parts, unfolded
from gateway.chat.records.record import LEFT
from gateway.chat.records.recorder import Recorder
from gateway.chat.records.retelling import outcome_of
from gateway.chat.room import check_room
from gateway.chat.run import Run
from gateway.chat.run_leases import with_reserved
from gateway.chat.runs import Runs
from gateway.chat.submission import Submission
from gateway.chat.topics import LEFT_RUNS, chat_topic, new_run_id
from gateway.chat.upstreams.loose_fields import objects_of
from gateway.chat.upstreams.upstream import Request
from gateway.core.leases import NO_LEASE, Lease
from gateway.core.limits import Limiter, wants_of_run
from gateway.core.usage import BYTES_PER_TOKEN, now_ms, reserved
from gateway.settings import Settings

EncoderOf = Callable[[str], Encode]
"""A function that returns a dialect's encoder for a run's id. Two encoders for one run are equal, so readers share."""


class AttachedReader(msgspec.Struct, frozen=True):
    """A reader on a run, and the run itself when this process owns it."""

    reader: TopicReader
    run: Run | None
    chat: str = ""
    """The topic of the chat that it belongs to."""
    lease: Lease | None = None
    """What was taken of limits, the reader's stream too, where this is a new run; None: nothing was yet."""


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is to be started."""

    info: RunInfo
    change: Change
    request: Request
    """The body of its completion."""
    started: RunStarted
    calls: list[Call] = []
    """Calls of the answer that it continues, to be made first."""
    on_disconnect: OnDisconnect = "continue"
    notices: Sequence[Append] = ()
    """What else is told with it."""
    has_stream: bool = True
    """Whether its reader is one more stream of the user; not where that is open already."""


class RunStarter:
    """Starts the runs of chats in one process."""

    def __init__(self, hub: Hub, runs: Runs, limiter: Limiter, settings: Settings) -> None:
        self._hub = hub
        self._runs = runs
        self._limiter = limiter
        self._max_chat_bytes = settings.limits.chat_bytes
        self._posts_ends = bool(settings.run_webhook_url)

    async def start(self, who: Principal, history: History, plan: RunPlan, encoder_of: EncoderOf) -> AttachedReader:
        """Starts a run, and returns a reader on it.

        Raises TooLarge, Overloaded, LogConflict when the chat was changed meanwhile, or LogError: there is no run then.
        """
        prepared = await self.prepare(who, history, plan)
        run = prepared.run
        reader = self._hub.open_new(run.topic, encoder_of(plan.info.run_id))
        try:
            await self._runs.begin(run, *prepared.before)
        except BaseException:
            reader.close()
            prepared.lease.cancel()
            raise
        return AttachedReader(reader, run, history.topic, prepared.lease)

    async def prepare(self, who: Principal, history: History, plan: RunPlan) -> "PreparedRun":
        """Makes a run that is to be begun by its appends.

        Raises TooLarge, Overloaded, RateLimited, LogError: there is no run then.
        """
        change = plan.change
        info, appends, lease = await self._admit(who, history, plan)
        try:
            prompt = prompt_of(history, plan) if self._runs.agents.serving(info.model) else None
            recorder = recorder_of(change, begins_step=prompt is not None or not plan.calls)
            parked = parked_request(history, plan, is_agents=prompt is not None)
            same_as = parked_before(history, parked)
            run = self._runs.make_of_chat(
                info, plan.request, recorder, plan.on_disconnect, lease, plan.calls, parked, same_as, prompt
            )
        except BaseException:
            lease.cancel()
            raise
        run.watch(self._hub, history)
        run.inbox.head += sum(len(append.data) for append in appends)
        for event in change.events:  # what this run answers does not wait for it
            run.inbox.queue.apply(event)
        return PreparedRun(self._runs, run, lease, [*appends, *_beside(info, history, plan)])

    async def leave(self, who: Principal, history: History, plan: RunPlan) -> "Remainder":
        """Makes a run that another process is to write, because this one takes none any more.

        Raises TooLarge, RateLimited, LogError: there is no run then.
        """
        info, appends, lease = await self._admit(who, history, plan)
        is_agents = bool(self._runs.agents.serving(info.model))
        request = msgspec.json.encode(parked_request(history, plan, is_agents=is_agents))
        opening = opening_of(info, recorder_of(plan.change, begins_step=False).start(info.message_id), request)
        left = Append(topic=opening[0].topic, data=[b"{}"], name=LEFT, expect=next_offset(opening))
        told = Append(topic=LEFT_RUNS, data=[info.run_id.encode()], name=LEFT)
        beside = [*_beside(info, history, plan), reserved(info.sub, info.run_id), *notices(info, RunStarted.event)]
        return Remainder([*appends, *opening, left, *beside, told], lease)

    async def _admit(self, who: Principal, history: History, plan: RunPlan) -> tuple[RunInfo, list[Append], Lease]:
        """Asks the limits; returns what a run is known by, what its chat is told, and what it holds of the limits."""
        info, change = info_in_chat(plan.info, history), plan.change
        is_owners = info.sub == (history.owner or who.sub)
        started = plan.started if is_owners else msgspec.structs.replace(plan.started, sub=info.sub)
        appends = chat_appends(who, history, [*change.events, started])
        await self.check_room(who, history, appends, change.conversation)
        wants = wants_of_run(info.prompt_bytes // BYTES_PER_TOKEN, plan.request, has_stream=plan.has_stream)
        lease = await self._limiter.admit(who, wants)
        info = with_reserved(info, lease)
        if info.background and self._posts_ends:
            info = msgspec.structs.replace(info, posts_end=True)
        return info, appends, lease

    async def check_room(
        self, who: Principal, history: History, appends: Sequence[Append], conversation: Sequence[UIMessage] = ()
    ) -> None:
        """Raises TooLarge when a chat has no room for `appends`, RateLimited when its owner may not store them."""
        check_room(history, appends, conversation, self._max_chat_bytes)
        await self._limiter.keep(who, topics=0 if history.head else 1, stored_bytes=size_of(appends))


class PreparedRun:
    """A run that is made and not begun; a Successor."""

    def __init__(self, runs: Runs, run: Run, lease: Lease, before: list[Append]) -> None:
        """`before` are the appends of the chat, and what is told with them."""
        self.run = run
        self.lease = lease
        self.before = before
        self._runs = runs

    @property
    def appends(self) -> list[Append]:
        return [*self.before, *self._runs.opening(self.run)]

    def begin(self) -> None:
        opening: asyncio.Future[list[Appended]] = asyncio.get_running_loop().create_future()
        opening.set_result([])
        self._runs.let_run(self.run, opening)

    def cancel(self) -> None:
        self._runs.discard(self.run)


class Remainder:
    """Appends that go with the end of a run and begin nothing in this process; a Successor."""

    def __init__(self, appends: list[Append], lease: Lease = NO_LEASE) -> None:
        """`lease` is that of a run which another process is to write: that one settles what it has taken of rates."""
        self.appends = appends
        self._lease = lease

    def begin(self) -> None:
        self._lease.end()

    def cancel(self) -> None:
        self._lease.cancel()


def _beside(info: RunInfo, history: History, plan: RunPlan) -> list[Append]:
    """Returns what is told with a run, beside its chat."""
    events = plan.change.events
    return [
        *plan.notices,
        *message_notices(history, info.sub, events),
        *queue_notices(history, info.sub, events),
    ]


def info_in_chat(info: RunInfo, history: History) -> RunInfo:
    """Returns what a run is known by, with its chat's topic and members, where the chat is not its sender's alone."""
    is_own = history.topic in ("", chat_topic(info.sub, info.chat_id))
    if is_own and not history.shared_id:
        return info
    return msgspec.structs.replace(
        info,
        chat_id=history.chat_id,
        topic="" if is_own else history.topic,
        shared_id=history.shared_id,
        members=[sub for sub in history.noticed if sub != info.sub],
    )


def run_info(submission: Submission, change: Change, asked_by: RunStarted | None = None) -> RunInfo:
    """Returns what a new run is known by; one that continues an answer bears the id of that message.

    `asked_by` is the run that it goes on from once all is answered; None where there is none.
    """
    request, run_id = submission.request, submission.run_id or new_run_id()
    return RunInfo(
        run_id=run_id,
        sub=submission.who.sub,
        message_id=change.answer.id if change.answer else f"msg-{run_id}",
        chat_id=request.id,
        model=request.model or "",
        prompt_bytes=bytes_of_parts(change.conversation) + request.size(),
        started_ms=now_ms(),
        key=submission.who.key_id,
        background=bool(request.background) or (asked_by is not None and asked_by.background),
    )


def run_started(submission: Submission, info: RunInfo, continues: str = "") -> RunStarted:
    """Returns the event that tells the chat of a new run."""
    return RunStarted(
        run_id=info.run_id,
        message_id=info.message_id,
        key=submission.key,
        trigger=submission.posting.trigger,
        continues=continues,
        background=info.background,
        extra=submission.extra,
    )


def parked_request(history: History, plan: RunPlan, *, is_agents: bool) -> ParkedRequest:
    """Returns what a run goes on with once what it asks is answered."""
    fields = {name: value for name, value in plan.request.items() if name != "messages"}
    shown = [message.id for message in plan.change.conversation]
    if history.by_id.keys() <= set(shown):
        shown = []
    system = system_of(plan.request)
    return ParkedRequest(model=plan.info.model, system=system, fields=fields, shown=shown, is_agents=is_agents)


def parked_before(history: History, parked: ParkedRequest) -> str:
    """Returns the id of the newest run that parked, when that was with the same request; else nothing."""
    newest = next(reversed(history.parked), "")
    return newest if newest and history.parked[newest] == parked else ""


def prompt_of(history: History, plan: RunPlan) -> AgentPrompt:
    """Returns what an agent is asked; a run that goes on after a question has what the one before it was asked with."""
    info, change, started = plan.info, plan.change, plan.started
    asked_by = history.runs.get(started.continues)
    entered_for = history.entry_of(started)
    return AgentPrompt(
        entered_for=entered_for,
        parts_before=len(change.answer.parts) if change.answer and entered_for == info.run_id else 0,
        chat_id=info.chat_id,
        run_id=info.run_id,
        messages=[piece for message in change.conversation for piece in unfolded(message)],
        trigger=started.trigger,
        message_id=change.answer.id if change.answer else "",
        system=system_of(plan.request),
        functions=objects_of(plan.request.get("tools", [])),
        extra=started.extra or (asked_by.extra if asked_by is not None else {}),
        stored=history.by_id.keys(),
        decisions=[
            decision_of(ask, answered)
            for ask in history.asks.values()
            if (answered := history.decisions.get(ask.approval_id)) is not None
        ],
    )


def recorder_of(change: Change, *, begins_step: bool) -> Recorder:
    """Returns the recorder of a run, which goes on from the answer that it continues, if it continues one."""
    outcomes = [record for part in change.results if (record := outcome_of(part)) is not None]
    return Recorder(change.answer.parts if change.answer else [], outcomes, begins_step=begins_step)


def chat_appends(who: Principal, history: History, events: Sequence[ChatEvent]) -> list[Append]:
    """Returns the appends of `events`, fenced by what was read of the chat; the first of a new one says which it is."""
    topic = history.topic or chat_topic(who.sub, history.chat_id)
    new: list[ChatEvent] = [] if history.head else [ChatCreated(id=history.chat_id)]
    return [
        Append(topic=topic, owner=history.owner or who.sub, name=name, data=[data], expect=offset)
        for offset, (name, data) in enumerate(map(encode_event, [*new, *events]), history.head + 1)
    ]
