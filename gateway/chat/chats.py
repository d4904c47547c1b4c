"""Chats: following and stopping their runs, and what a client needs to catch up.

A chat is a topic; this module reads it anew for each request and keeps nothing between them, so any process can serve
any chat. Changes are compare-and-append: of two devices that write at once, one gets a conflict and looks again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from events.log.cursor import NOWHERE, decode_cursor, encode_cursor
from events.log.hub import Hub
from events.log.port import NO_EVENTS, Block, EventLog, Position
from events.log.ring import Encode
from gateway.access.grants import Principal
from gateway.access.memberships import ChatLink, Memberships, link_appends
from gateway.chat.ending import Aborted
from gateway.chat.history import History, read_history
from gateway.chat.listing import ChatPage, list_chats
from gateway.chat.lookup import ChatLookup
from gateway.chat.notices import answered_notices
from gateway.chat.records.asks import instead_of_answers
from gateway.chat.records.chat_record import (
    Actor,
    Ask,
    ChatEvent,
    ChatOpened,
    MemberRole,
    MessagesDeleted,
    RunFinished,
    SteerAt,
    StopCommand,
    decode_event,
)
from gateway.chat.records.messages import UIMessage
from gateway.chat.roles import Right, require, require_stop
from gateway.chat.room import chats_in_memory
from gateway.chat.run_start import AttachedReader, chat_appends
from gateway.chat.runs import Runs
from gateway.chat.titles import Titles
from gateway.chat.topics import chat_topic, run_topic
from gateway.core.usage import now_ms
from gateway.errors import Gone, LogConflict, LogDamaged, NotFound
from gateway.serving.bodies import HeldBody
from gateway.settings import Settings

CONFLICT_TRIES = 5
SUPERSEDE_S = 3.0
"""Seconds that a new message waits for the run before it to end by itself; then that run is ended from here."""
T = TypeVar("T")
WholeEncoderOf = Callable[[str, UIMessage | None], Encode]
"""An `EncoderOf` that is also given the answer which the run continues, or None, and tells that first."""


class ActiveRun(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    run_id: str
    cursor: str
    sub: str = ""
    """The user whose message it answers, who may stop it; in a shared chat alone."""

    @classmethod
    def of(cls, history: History) -> "ActiveRun | None":
        if history.active is None:
            return None
        run_id = history.active.run_id
        sub = history.sender_of(run_id) if history.shared_id else ""
        return cls(run_id, encode_cursor(run_id, NOWHERE), sub)


class ChatMember(msgspec.Struct, frozen=True):
    """One member of a chat."""

    sub: str
    role: MemberRole


class WaitingMessage(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A message that waits, as a snapshot shows it."""

    id: str
    message: UIMessage
    at: SteerAt
    actor: Actor
    run_id: str = ""
    """The run that may take it; empty: any."""


class AcceptedRun(msgspec.Struct, frozen=True, rename="camel"):
    """A run that goes on by itself, and where to read it."""

    id: str
    """The chat's id."""
    run_id: str | None
    """The run; None when none has begun for it: people are asked, or its message waits or went into another answer."""
    cursor: str | None
    """The cursor before its first chunk."""
    stream_url: str

    @classmethod
    def of(cls, chat_id: str, run_id: str) -> "AcceptedRun":
        """Returns a run of a chat; an empty `run_id` is none."""
        url, cursor = f"/api/chat/{chat_id}/stream", encode_cursor(run_id, NOWHERE) if run_id else None
        return cls(chat_id, run_id or None, cursor, f"{url}?after={cursor}" if cursor else url)


class ChatSnapshot(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    id: str
    messages: list[UIMessage]
    active_run: ActiveRun | None
    pending: list[Ask]
    """What is asked of people about calls of the last message, and nobody has answered."""
    queue: list[WaitingMessage]
    """The messages that wait, in order."""
    lost: int = 0
    """Number of the chat's events that cannot be read any more, because the log is damaged."""
    shared_id: str = ""
    """The id that addresses the chat for all of its members; none of a chat that never had any."""
    members: list[ChatMember] = []
    """Everybody who may read it, where users sign in."""


class Chats:
    """All chats, as one process reads and changes them."""

    def __init__(self, event_log: EventLog, hub: Hub, runs: Runs, memberships: Memberships, settings: Settings) -> None:
        self._log = event_log
        self._memberships = memberships
        self.lookup = ChatLookup(event_log, memberships)
        self._hub = hub
        self._runs = runs
        self.in_memory = chats_in_memory(settings.limits.bodies_bytes)
        self._titles = Titles(event_log)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()

    # One after the other

    def turn(self, sub: str, chat_id: str) -> asyncio.Lock:
        """Returns the lock under which this process takes what a user sends to a chat."""
        return self._turns.setdefault(chat_topic(sub, chat_id), asyncio.Lock())

    async def sent_before(self, sub: str, chat_id: str) -> None:
        """Waits until what the user has sent to the chat is in the log: a stop that overtook it would find nothing."""
        turn = self._turns.get(chat_topic(sub, chat_id))
        if turn is not None and turn.locked():
            async with turn:
                pass

    # Reading

    async def snapshot(self, who: Principal, chat_id: str, held: HeldBody) -> ChatSnapshot:
        """Returns a chat as it stands, whose bytes `held` counts."""
        history = await self.existing(who, chat_id, held)
        await self.note_opened(who, history)
        active = ActiveRun.of(history)
        for first, last in history.lost:
            self._hub.on_damage(history.topic, first, last)
        lost = sum(last - first + 1 for first, last in history.lost)
        waiting = history.queue.waiting.values()
        queue = [WaitingMessage(item.id, item.message, item.at, item.actor, item.run_id) for item in waiting]
        members = members_of(history) if self._memberships.are_kept else []
        asks, shared_id = history.open_asks, history.shared_id
        return ChatSnapshot(chat_id, history.messages, active, asks, queue, lost, shared_id, members)

    async def page(self, who: Principal, cursor: str | None) -> ChatPage:
        return await list_chats(self._log, self._titles, self._memberships, who.sub, cursor)

    async def existing(self, who: Principal, chat_id: str, held: HeldBody, right: Right = "read") -> History:
        """Returns a chat in which the caller has the right.

        Raises NotFound when there is none for them, Forbidden (`role_forbidden`), TrilaneError (409 `chat_ambiguous`).
        """
        return require(await self.read(who.sub, chat_id, held), who.sub, right, chat_id)

    async def read(self, sub: str, chat_id: str, held: HeldBody) -> History:
        """Returns the chat that a user means; see `ChatLookup.find`, and `require` for what they may do in it.

        A run that is over is not active in it, even when the chat's own word of that is lost.
        """
        history = await self.lookup.find(sub, chat_id, held.count)
        active = history.active
        if active is not None and self._runs.get(active.run_id) is None:
            run = await self._log.read(run_topic(active.run_id), NO_EVENTS, max_events=1)
            if run.closed or not run.epoch:  # the end stands in both topics, so in the chat, too, by now
                history = await read_history(self._log, history.owner, history.chat_id, topic=history.topic)
                history.active = history.active if history.active != active else None
        return history

    # Following

    async def follow(
        self, who: Principal, chat_id: str, cursor: str | None, encoder_of: WholeEncoderOf
    ) -> AttachedReader | None:
        """Returns a reader of the active run from its start, or strictly after the cursor; None when nothing is active.

        A run that continues an answer is read from the start of that answer.
        Raises Gone with the snapshot's URL when that history is not kept, BadRequest for what is no cursor.
        """
        with self.in_memory.hold() as held:
            history = await self.read(who.sub, chat_id, held)
        await self.note_opened(who, history)
        if cursor is None:
            active = history.active
            if active is None:
                return None
            encoder = encoder_of(active.run_id, history.answer(active.message_id))
            return await self.attach(chat_id, active.run_id, None, encoder, history.topic)
        run_id, position = decode_cursor(cursor)
        if run_id not in history.runs:
            raise _gone(chat_id, Gone("this chat has no such run", code="unknown_cursor"))
        return await self.attach(chat_id, run_id, position, encoder_of(run_id, None), history.topic)

    async def attach(
        self, chat_id: str, run_id: str, after: Position | None, encoder: Encode, topic: str = ""
    ) -> AttachedReader:
        """Returns a reader of a run; `topic` is that of its chat, which its reader needs the right to."""
        try:
            reader = await self._hub.open(run_topic(run_id), encoder, after)
        except Gone as err:
            raise _gone(chat_id, err) from err
        except LogDamaged as err:
            first = after.offset + 1 if after else 1
            self._hub.on_damage(run_topic(run_id), first, first)
            raise _gone(chat_id, Gone("a part of this answer is damaged", code="damaged")) from err
        return AttachedReader(reader, self._runs.get(run_id), topic)

    async def note_opened(self, who: Principal, history: History) -> None:
        """Notes that a member whom somebody else has added looks at the chat: from now on they are told of it."""
        if who.sub in history.roles and who.sub not in history.opened_by and who.sub in history.members:
            with contextlib.suppress(LogConflict):  # the next look notes it
                await self._log.append(*chat_appends(who, history, [ChatOpened(who.sub)]))

    # Stopping and deleting

    async def supersede(self, who: Principal, history: History) -> None:
        """Stops the answer that is still coming when a new message arrives; its text is kept."""
        assert history.active is not None
        run_id = history.active.run_id
        run_end = asyncio.get_running_loop().create_future()

        def see(block: Block) -> None:
            for data in block.data if block.name == RunFinished.event else ():
                finished = decode_event(block.name, data)
                if isinstance(finished, RunFinished) and finished.run_id == run_id and not run_end.done():
                    run_end.set_result(None)

        run = self._runs.get(run_id)
        unwatch = self._hub.watch(history.topic, Position(epoch=history.epoch, offset=history.head), see)
        try:
            await self._command_stop(who, history, run_id)
            async with asyncio.timeout(SUPERSEDE_S):
                await run_end
                if run is not None:
                    await run.over()  # what it holds of limits is free for the next
        except TimeoutError:
            await self._runs.end_other(run_id, Aborted("superseded"))
        except LogConflict:
            return
        finally:
            unwatch()

    async def stop(self, who: Principal, chat_id: str, run_id: str | None) -> str | None:
        """Has the process that owns the active run stop it; returns the run's id, or None when nothing was to stop."""

        async def attempt() -> str | None:
            with self.in_memory.hold() as held:
                history = await self.existing(who, chat_id, held, "send")
            active, asks = history.active, history.open_asks
            if active is None and asks:
                require_stop(history, who.sub, asks[0].run_id)
                await self._stop_asking(who, history)
            active = active or history.runs.get(history.spoken_run)  # it may be written, and still spoken
            if active is None or run_id not in (None, "", active.run_id):
                return None
            require_stop(history, who.sub, active.run_id)
            await self._command_stop(who, history, active.run_id)
            return active.run_id

        await self.sent_before(who.sub, chat_id)
        return await again(attempt)

    async def _stop_asking(self, who: Principal, history: History) -> None:
        """Ends what waits for people; nothing goes on."""
        answers = instead_of_answers(history.open_asks, "stopped", now_ms(), who.sub)
        await self._log.append(*chat_appends(who, history, answers), *answered_notices(history, who.sub, answers))

    async def _command_stop(self, who: Principal, history: History, run_id: str) -> None:
        if run_id not in history.stopped:  # else another device was first
            await self.append(who, history, [StopCommand(run_id)])

    async def append(self, who: Principal, history: History, events: Sequence[ChatEvent]) -> None:
        """Appends events to a chat; LogConflict when it has changed since `history`."""
        await self._log.append(*chat_appends(who, history, events))

    async def delete(self, who: Principal, chat_id: str) -> None:
        """Stops what runs, then removes the chat and its runs for good."""
        await self.sent_before(who.sub, chat_id)
        with self.in_memory.hold() as held:
            history = await self.existing(who, chat_id, held, "manage")
            if history.active is not None:
                await self.supersede(who, history)
                history = await self.existing(who, chat_id, held, "manage")
        await self._log.delete(history.topic)
        if history.shared_id:
            link = ChatLink(history.shared_id, history.chat_id, history.topic, history.epoch, history.owner)
            appends = [link_appends(sub, link, is_member=False) for sub in history.members]
            await self._log.append(*[append for pair in appends for append in pair])
        for run_id in history.runs:
            await self._log.delete(run_topic(run_id))

    async def delete_message(self, who: Principal, chat_id: str, message_id: str) -> None:
        """Removes one message for good: an answer that is being written is stopped first. Idempotent."""

        async def attempt() -> None:
            with self.in_memory.hold() as held:
                history = await self.existing(who, chat_id, held, "manage")
            if history.active is not None and history.active.message_id == message_id:
                await self.supersede(who, history)
                with self.in_memory.hold() as held:
                    history = await self.existing(who, chat_id, held, "manage")
            if message_id in history.deleted:
                return
            if all(message.id != message_id for message in history.messages):
                raise NotFound(f"chat {chat_id!r} has no message {message_id[:64]!r}", code="message_not_found")
            await self.append(who, history, [MessagesDeleted([message_id])])

        await self.sent_before(who.sub, chat_id)
        await again(attempt)


def members_of(history: History) -> list[ChatMember]:
    return [ChatMember(sub, role) for sub, role in history.members.items()]


def _gone(chat_id: str, reason: Gone) -> Gone:
    extra: dict[str, str | int | None] = {"snapshot": f"/api/chat/{chat_id}"}
    return Gone(reason.detail, code=reason.code, extra=extra)


async def again(attempt: Callable[[], Awaitable[T]]) -> T:
    """Makes an attempt again while another device's write comes between."""
    for _ in range(CONFLICT_TRIES - 1):
        try:
            return await attempt()
        except LogConflict:
            continue
    return await attempt()
