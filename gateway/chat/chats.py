"""Chats: who may see which, starting and stopping runs, what a client needs to catch up.

A chat is a topic; this module reads it anew for each request and keeps nothing between them, so any process can serve
any chat. Changes are compare-and-append: of two devices that write at once one is told to look again, and does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, Raw, UnsetType

from events.log.cursor import decode_cursor
from events.log.hub import Hub, TopicReader
from events.log.port import Append, EventLog, Position, TopicInfo
from gateway.access.auth import Principal
from gateway.chat.dialects.ui_message import UIFrames
from gateway.chat.ending import Aborted, RunInfo, StopCommand, chat_topic, new_run_id, run_topic
from gateway.chat.history import Change, History, RunStarted, Trigger, reconcile, request_key
from gateway.chat.messages import UIMessage, text_of, to_upstream
from gateway.chat.run import OnDisconnect, Run
from gateway.chat.runs import Runs
from gateway.errors import BadRequest, Forbidden, Gone, LogConflict, NotFound, WrongOwner

CONFLICT_TRIES = 5
SUPERSEDE_S = 3.0
"""How long a new message waits for the run before it to end by itself; then it is ended from here."""
TITLE_CHARS = 80
PAGE = 50
_ID = re.compile(r"[A-Za-z0-9._:@~+=-]{1,128}", re.ASCII)
_json = msgspec.json.Encoder().encode
T = TypeVar("T")


class SendRequest(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of `POST /api/chat`. Fields that are not ours are kept in the run's record as `extra`."""

    id: str
    messages: list[UIMessage] | UnsetType = UNSET
    message: UIMessage | UnsetType = UNSET
    trigger: Trigger = "submit-message"
    message_id: str | None = None
    model: str | None = None
    on_disconnect: OnDisconnect = "continue"

    def posted(self) -> list[UIMessage]:
        if isinstance(self.message, UnsetType) == isinstance(self.messages, UnsetType):
            raise BadRequest("send either `messages` or `message`")
        posted = [self.message] if isinstance(self.message, UIMessage) else self.messages
        assert not isinstance(posted, UnsetType)
        for message in posted:
            check_id("message id", message.id)
        return posted


class ActiveRun(msgspec.Struct, frozen=True, rename="camel"):
    run_id: str
    cursor: str


class ChatSnapshot(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    messages: list[UIMessage]
    active_run: ActiveRun | None
    pending: list[Raw]


class ChatSummary(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    title: str
    updated_at: int
    """Milliseconds since 1970."""


class ChatPage(msgspec.Struct, frozen=True):
    chats: list[ChatSummary]
    cursor: str | None


class Attached(msgspec.Struct, frozen=True):
    """A reader on a run, and the run itself when this process owns it."""

    reader: TopicReader
    run: Run | None


def check_id(what: str, value: str) -> str:
    """The id as it came; BadRequest when it could not be one."""
    if not _ID.fullmatch(value):
        shown = value[:40].encode("ascii", "backslashreplace").decode()
        raise BadRequest(f"{what} {shown!r} is not valid: 1 to 128 of A-Z a-z 0-9 . _ : @ ~ + = -", code="bad_id")
    return value


class Chats:
    """All chats, for one process."""

    def __init__(self, event_log: EventLog, hub: Hub, runs: Runs, max_messages: int) -> None:
        self._log = event_log
        self._hub = hub
        self._runs = runs
        self._max_messages = max_messages
        self._turns = WeakValueDictionary[str, asyncio.Lock]()

    # Reading

    async def history(self, who: Principal, chat_id: str) -> History:
        """The chat, empty when there is none; NotFound when it is someone else's."""
        history = await self._read(chat_id)
        if history.epoch and history.owner != who.sub:
            raise NotFound(f"there is no chat {chat_id!r}", code="chat_not_found")
        return history

    async def _read(self, chat_id: str) -> History:
        history = History(chat_id=check_id("chat id", chat_id))
        while True:
            found = await self._log.read(chat_topic(chat_id), history.head)
            history.owner, history.epoch = found.owner, found.epoch
            for block in found.blocks:
                history.apply(block)
            if history.head >= found.head or not found.blocks:
                return history

    async def snapshot(self, who: Principal, chat_id: str) -> ChatSnapshot:
        history = await self._existing(who, chat_id)
        active = history.active and ActiveRun(history.active.run_id, f"{history.active.run_id}.0.0")
        return ChatSnapshot(chat_id, history.messages, active, [])

    async def page(self, who: Principal, cursor: str | None) -> ChatPage:
        before_ms, seen = _page_cursor(cursor) if cursor is not None else (None, 0)
        topics = await self._log.topics(
            "chat/", owner=who.sub, before_ms=before_ms + 1 if before_ms is not None else None, limit=PAGE + seen
        )
        full = len(topics) == PAGE + seen
        topics = [t for at, t in enumerate(topics) if at >= seen or t.updated_ms != before_ms]
        chats = [await self._summary(topic) for topic in topics]
        if not full or not topics:
            return ChatPage(chats, None)
        last_ms = topics[-1].updated_ms
        same = sum(t.updated_ms == last_ms for t in topics) + (seen if last_ms == before_ms else 0)
        return ChatPage(chats, f"{last_ms}.{same}")

    async def _summary(self, info: TopicInfo) -> ChatSummary:
        found = await self._log.read(info.topic, 0, max_events=1)
        first = found.blocks[0] if found.blocks else None
        title = ""
        if first is not None and first.name == "message":
            title = text_of(msgspec.json.decode(first.data[0], type=UIMessage))
        title = " ".join(title.split())
        short = title if len(title) <= TITLE_CHARS else title[: TITLE_CHARS - 1] + "…"
        return ChatSummary(info.topic.removeprefix("chat/"), short or "Untitled", info.updated_ms)

    async def _existing(self, who: Principal, chat_id: str) -> History:
        history = await self.history(who, chat_id)
        if not history.epoch:
            raise NotFound(f"there is no chat {chat_id!r}", code="chat_not_found")
        return history

    # Following

    async def follow(self, who: Principal, chat_id: str, cursor: str | None) -> Attached | None:
        """A reader of the active run from its start, or strictly after the cursor; None when nothing is active.

        Raises Gone with the snapshot's URL when that history is not kept, BadRequest for what is no cursor.
        """
        history = await self.history(who, chat_id)
        if cursor is None:
            return await self.attach(chat_id, history.active.run_id, None) if history.active else None
        run_id, position = decode_cursor(cursor)
        if run_id not in history.runs:
            raise self._gone(chat_id, Gone("this chat has no such run", code="unknown_cursor"))
        return await self.attach(chat_id, run_id, position)

    async def attach(self, chat_id: str, run_id: str, after: Position | None) -> Attached:
        try:
            reader = await self._hub.open(run_topic(run_id), UIFrames(run_id), after)
        except Gone as err:
            raise self._gone(chat_id, err) from err
        return Attached(reader, self._runs.get(run_id))

    def _gone(self, chat_id: str, reason: Gone) -> Gone:
        extra: dict[str, str | int | None] = {"snapshot": f"/api/chat/{chat_id}"}
        return Gone(reason.detail, code=reason.code, extra=extra)

    # Starting

    async def send(self, who: Principal, request: SendRequest, key: str, extra: dict[str, Raw]) -> Attached:
        """Starts the run that a request asks for, or finds the one it has started before.

        Raises BadRequest, Forbidden (someone else's chat), Overloaded, LogError.
        """
        posted = request.posted()
        if len(posted) > self._max_messages:
            raise BadRequest(
                f"{len(posted)} messages: at most {self._max_messages} are allowed", code="too_many_messages"
            )
        key = key or request_key(posted, request.trigger, request.message_id or "")
        # The upstream is asked before a run is known to be the only one, so of two requests here the second waits.
        turn = self._turns.setdefault(check_id("chat id", request.id), asyncio.Lock())
        async with turn:
            return await self._send(who, request, posted, key, extra)

    async def _send(
        self, who: Principal, request: SendRequest, posted: list[UIMessage], key: str, extra: dict[str, Raw]
    ) -> Attached:
        # What a new chat holds needs no reading.
        history = None if self._log.exists(chat_topic(request.id)) else History(chat_id=request.id)
        for _ in range(CONFLICT_TRIES):
            if history is None:
                history = await self._writable(who, request.id)
            known = history.run_of(key)
            if known is not None:
                return await self.attach(request.id, known.run_id, None)
            if history.active is not None:
                await self._supersede(history)
                history = None
                continue
            try:
                return await self._start(who, request, posted, key, extra, history)
            except (LogConflict, WrongOwner):
                history = None
        raise LogConflict(chat_topic(request.id), None, -1)

    async def _writable(self, who: Principal, chat_id: str) -> History:
        history = await self._read(chat_id)
        if history.epoch and history.owner != who.sub:
            raise Forbidden(f"the chat {chat_id!r} belongs to someone else", code="chat_forbidden")
        return history

    async def _start(
        self,
        who: Principal,
        request: SendRequest,
        posted: list[UIMessage],
        key: str,
        extra: dict[str, Raw],
        history: History,
    ) -> Attached:
        change = reconcile(history, posted, request.trigger, request.message_id or "")
        run_id = new_run_id()
        message_id = change.answer.id if change.answer else f"msg-{run_id}"
        conversation = to_upstream(change.conversation)
        info = RunInfo(
            run_id=run_id,
            sub=who.sub,
            message_id=message_id,
            chat_id=request.id,
            model=request.model or "",
            prompt_bytes=len(_json(conversation)),
        )
        run = self._runs.make(
            info, {"messages": conversation}, change.answer.parts if change.answer else [], request.on_disconnect
        )
        run.watch(Position(epoch=history.epoch, offset=history.head))
        reader = self._hub.open_new(run.topic, UIFrames(run_id))
        started = RunStarted(run_id=run_id, message_id=message_id, key=key, trigger=request.trigger, extra=extra)
        try:
            await self._runs.begin(run, *_chat_appends(who, history, change, started))
        except BaseException:
            reader.close()
            raise
        return Attached(reader, run)

    async def _supersede(self, history: History) -> None:
        """A new message while an answer is still coming: that one is stopped, its text is kept."""
        active = history.active
        assert active is not None
        reader = await self._hub.open(run_topic(active.run_id), UIFrames(active.run_id), None)
        try:
            await self._command_stop(history, active.run_id)
            async with asyncio.timeout(SUPERSEDE_S):
                while not reader.ended:
                    await reader.next()
        except TimeoutError:
            await self._runs.end_other(active.run_id, Aborted("superseded"))
        except LogConflict:
            return
        finally:
            reader.close()

    # Stopping and deleting

    async def stop(self, who: Principal, chat_id: str, run_id: str | None) -> str | None:
        """Asks the process that owns the active run to stop it; the run's id, or None when nothing was to stop."""

        async def attempt() -> str | None:
            history = await self._existing(who, chat_id)
            active = history.active
            if active is None or run_id not in (None, "", active.run_id):
                return None
            await self._command_stop(history, active.run_id)
            return active.run_id

        return await _again(attempt)

    async def _command_stop(self, history: History, run_id: str) -> None:
        data = [_json(StopCommand(run_id))]
        await self._log.append(
            Append(topic=chat_topic(history.chat_id), name="stop", data=data, expect=history.head + 1)
        )

    async def delete(self, who: Principal, chat_id: str) -> None:
        """Stops what runs, then removes the chat and its runs for good."""
        history = await self._existing(who, chat_id)
        if history.active is not None:
            await self._supersede(history)
            history = await self._existing(who, chat_id)
        await self._log.delete(chat_topic(chat_id))
        for run_id in history.runs:
            await self._log.delete(run_topic(run_id))


def _page_cursor(cursor: str) -> tuple[int, int]:
    """(millisecond, how many chats of that millisecond were listed already)."""
    match = re.fullmatch(r"([0-9]{1,15})\.([0-9]{1,4})", cursor, re.ASCII)
    if match is None:
        raise BadRequest(f"the cursor {cursor[:40]!r} is not one of this list", code="bad_cursor")
    return int(match[1]), int(match[2])


def _chat_appends(who: Principal, history: History, change: Change, started: RunStarted) -> list[Append]:
    """The chat's part of a start: its new messages and the run, fenced by what was read."""
    topic = chat_topic(history.chat_id)
    events = [*change.events, ("run-started", _json(started))]
    return [
        Append(topic=topic, owner=who.sub, name=name, data=[data], expect=offset)
        for offset, (name, data) in enumerate(events, history.head + 1)
    ]


async def _again(attempt: Callable[[], Awaitable[T]]) -> T:
    """Repeats what another device's write came between."""
    for _ in range(CONFLICT_TRIES - 1):
        try:
            return await attempt()
        except LogConflict:
            continue
    return await attempt()
