"""Takes messages for an answer that is being written, and looks after those that wait in a chat.

A steer is a queued message that a running answer may take. It is an event on the chat's topic, appended with what was
read of the chat, so what becomes of it is decided by the log: the run takes it, or it waits, or somebody removes it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import msgspec

from events.log.port import EventLog
from events.log.rules import size_of
from gateway.access.grants import Principal
from gateway.chat.change import by_author, new_addresses
from gateway.chat.chats import Chats
from gateway.chat.fetches import check_fetch
from gateway.chat.history import History
from gateway.chat.next_turn import NextTurns, plan_of_queued
from gateway.chat.notices import queue_notices
from gateway.chat.queue import MAX_QUEUED
from gateway.chat.records.chat_record import Actor, ChatEvent, ParkedRequest, Queued, RunInfo, SteerAt, Unqueued
from gateway.chat.records.messages import UIMessage, turns_of
from gateway.chat.room import check_posted, check_room
from gateway.chat.run_start import EncoderOf, chat_appends
from gateway.chat.runs import Runs
from gateway.chat.topics import check_id, run_topic
from gateway.core.limits import Limiter
from gateway.errors import BadRequest, LogConflict, NotFound, TrilaneError
from gateway.settings import Settings

TRIES = 50
"""Tries to write to a chat to which others write at the same time."""
T = TypeVar("T")


class SteerRequest(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The body of a message for an answer that is being written."""

    message: UIMessage
    run_id: str | None = None
    """The run that it is meant for; left out: the active one."""
    at: SteerAt = "step"
    """`step`: before the model's next step; `now`: at once, which cuts the step; `turn`: after the answer."""
    otherwise: Literal["queue", "reject"] = msgspec.field(name="else", default="queue")
    """What to do when that run is not active."""


class SteerResult(msgspec.Struct, frozen=True, rename="camel"):
    """What became of the message."""

    id: str
    run_id: str | None
    """The run that may take it, has taken it or was started with it; None when none is active."""
    state: Literal["accepted", "queued", "started", "duplicate"]


class ResumeResult(msgspec.Struct, frozen=True, rename="camel"):
    """What goes on."""

    run_id: str | None
    """The active run; None when nothing waits, or the chat waits for people."""


class Steering:
    """Takes steers, in one process."""

    def __init__(
        self,
        event_log: EventLog,
        chats: Chats,
        runs: Runs,
        next_turns: NextTurns,
        limiter: Limiter,
        encoder_of: EncoderOf,
        settings: Settings,
    ) -> None:
        self._log = event_log
        self._chats = chats
        self._runs = runs
        self._next_turns = next_turns
        self._limiter = limiter
        self._encoder_of = encoder_of
        self._has_authors = settings.requires_sign_in
        self._max_chat_bytes = settings.limits.chat_bytes
        self._allowed_fetches = settings.allowed_fetches

    async def steer(self, who: Principal, chat_id: str, request: SteerRequest) -> SteerResult:
        """Takes a message; the same message once more changes nothing.

        Raises NotFound (`chat_not_found`), TrilaneError (409 `run_not_active`, `queue_full`), BadRequest, TooLarge.
        """
        message, run_id = by_author(request.message, who.sub if self._has_authors else ""), request.run_id or ""
        self.check(message)

        async def attempt(history: History) -> SteerResult:
            if is_known(history, message.id):
                return SteerResult(message.id, _run_of(history, message.id), "duplicate")
            active = history.active.run_id if history.active is not None else ""
            is_late = run_id != active if run_id else not active
            if is_late and request.otherwise == "reject":
                raise not_active(run_id)
            at = "turn" if run_id and is_late else request.at
            queued = Queued(
                id=message.id,
                message=message,
                at=at,
                run_id=active if run_id and not is_late else "",
                actor=Actor(who.sub),
                key_id=who.key_id,
            )
            if active or history.open_asks:
                await self.enqueue(who, history, queued)
                is_taken = active and at != "turn" and (at == "now" or await self._looks_up(active))
                return SteerResult(message.id, active or None, "accepted" if is_taken else "queued")
            return await self._start_with(who, history, queued)

        return await self._on(who, chat_id, attempt)

    def check(self, message: UIMessage) -> None:
        """Raises BadRequest for what no user could have sent."""
        check_id("message id", message.id)
        if message.role != "user":
            raise BadRequest(f"message: its role is {message.role!r}: want 'user'")
        check_posted([message])
        turns_of(message)
        for url in new_addresses([message]):
            check_fetch(url, self._allowed_fetches)

    async def enqueue(self, who: Principal, history: History, queued: Queued) -> None:
        """Appends a message that is to wait. Raises TrilaneError (409 `queue_full`), TooLarge, RateLimited."""
        if len(history.queue.waiting) >= MAX_QUEUED:
            raise TrilaneError(
                f"{MAX_QUEUED} messages wait in this chat: wait for one to be answered, or remove one",
                code="queue_full",
                status=409,
                retryable=True,
            )
        appends = chat_appends(who, history, [queued])
        check_room(history, appends, [*history.messages, queued.message], self._max_chat_bytes)
        await self._limiter.keep(who, topics=0, stored_bytes=size_of(appends))
        await self._log.append(*appends, *queue_notices(history, who.sub, [queued]))

    async def remove(self, who: Principal, chat_id: str, message_id: str) -> None:
        """Removes a message that waits. Idempotent.

        Raises NotFound (`chat_not_found`, `message_not_found`), TrilaneError (409 `already_taken`).
        """

        async def attempt(history: History) -> None:
            queue = history.queue
            if message_id in queue.taken or message_id in history.by_id:
                raise TrilaneError("an answer has taken this message already", code="already_taken", status=409)
            if message_id in queue.removed:
                return
            if message_id not in queue.waiting:
                raise NotFound(f"no message {message_id[:64]!r} waits in this chat", code="message_not_found")
            events = [Unqueued(id=message_id, actor=Actor(who.sub))]
            await self._log.append(*chat_appends(who, history, events), *queue_notices(history, who.sub, events))

        await self._on(who, chat_id, attempt)

    async def resume(self, who: Principal, chat_id: str) -> ResumeResult:
        """Goes on with what waits, where that does not happen by itself: after an error, a stop or a crash."""

        async def attempt(history: History) -> ResumeResult:
            if history.active is not None:
                return ResumeResult(history.active.run_id)
            if history.open_asks or not history.queue.waiting:
                return ResumeResult(None)
            first, refused = self._next_turns.first_of(history.queue)
            if first is not None:
                return ResumeResult(await self._start(who, history, first, refused))
            await self._log.append(*chat_appends(who, history, refused), *queue_notices(history, who.sub, refused))
            return ResumeResult(None)

        return await self._on(who, chat_id, attempt)

    async def _start_with(self, who: Principal, history: History, queued: Queued) -> SteerResult:
        """Goes on with what waits, of which this message is the last."""
        first, refused = self._next_turns.first_of(history.queue)
        if first is None:
            return SteerResult(queued.id, await self._start(who, history, queued, refused), "started")
        history.queue.apply(queued)
        return SteerResult(queued.id, await self._start(who, history, first, [*refused, queued]), "queued")

    async def _start(self, who: Principal, history: History, queued: Queued, before: Sequence[ChatEvent] = ()) -> str:
        """Starts the run that answers a message; returns its id."""
        sender = queued.actor.sub or who.sub
        await self._runs.tools.toolbox.known(sender)
        plan = await plan_of_queued(sender, history, queued, await self._asked_before(history))
        plan.change.events = [*before, *plan.change.events]
        attached = await self._next_turns.starter.start(who, history, plan, self._encoder_of)
        attached.reader.close()
        if attached.lease is not None:
            attached.lease.leave_stream()
        return plan.info.run_id

    async def _asked_before(self, history: History) -> ParkedRequest:
        """Returns what the last run was asked with, as far as that is kept."""
        last = next(reversed(history.runs), "")
        if last in history.parked:
            return history.parked[last]
        info = await self._info(last) if last else None
        return ParkedRequest(model=info.model if info is not None else "")

    async def _looks_up(self, run_id: str) -> bool:
        """Returns whether who writes a run takes messages between two steps: an agent behind an address does not."""
        info, agents = await self._info(run_id), self._runs.agents
        return info is None or not agents.serving(info.model) or agents.run_by_worker(info.model) is not None

    async def _info(self, run_id: str) -> RunInfo | None:
        run = self._runs.get(run_id)
        if run is not None:
            return run.info
        part = await self._log.read(run_topic(run_id), 0, max_events=1)
        return msgspec.json.decode(part.blocks[0].data[0], type=RunInfo) if part.blocks else None

    async def _on(self, who: Principal, chat_id: str, attempt: Callable[[History], Awaitable[T]]) -> T:
        """Makes an attempt on the chat as it stands, and again while others write to it."""
        await self._chats.sent_before(who.sub, chat_id)
        for left in reversed(range(TRIES)):
            with self._chats.in_memory.hold() as held:
                history = await self._chats.existing(who, chat_id, held, "send")
                try:
                    return await attempt(history)
                except LogConflict:
                    if not left:
                        raise
        raise AssertionError


def is_known(history: History, message_id: str) -> bool:
    """Returns whether a chat has a message, had it or was to have it."""
    return history.queue.knows(message_id) or message_id in history.by_id or message_id in history.deleted


def not_active(run_id: str) -> TrilaneError:
    which = f"run {run_id[:64]!r} is" if run_id else "no run is"
    return TrilaneError(f"{which} {'not ' if run_id else ''}active", code="run_not_active", status=409)


def _run_of(history: History, message_id: str) -> str | None:
    answered = history.questions.get(message_id, [])
    active = history.active.run_id if history.active is not None else None
    return history.queue.taken.get(message_id) or (answered[-1] if answered else active)
