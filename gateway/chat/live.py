"""Reads a chat as a whole: all of its runs, one after another, and what else happens in it meanwhile.

It is two cursors, one on the chat's topic and one on the run that is being told, and no queue: what a slow reader has
not taken stays in the log. A run is told to its end before the next one begins, so the frames are those that readers of
each run get, in the same order. Events of the chat come as they are noticed, and have no place among those; nor have
the other people, of whom it is told what is, before all else that is due.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from events.log.cursor import decode_cursor
from events.log.hub import Hub, TopicReader
from events.log.port import Block, EventLog, Position, read_past_damage
from gateway.access.grants import Principal
from gateway.chat.chats import Chats, WholeEncoderOf
from gateway.chat.history import History, read_history
from gateway.chat.live_people import LineOf, LivePeople, PeopleReader
from gateway.chat.records.chat_record import FIRST_RECORD, ChatShared, RunStarted
from gateway.chat.records.messages import UIMessage
from gateway.chat.runs import Runs
from gateway.chat.topics import chat_topic, check_id
from gateway.errors import Gone, LogDamaged

NEW_RUN = b"#"
"""Beginning of the line that says that a run has started; nobody is sent it."""
NEW_SHARE = b"@"
"""Beginning of the line that says that the chat has members from now on; nobody is sent it."""
_decode_started = msgspec.json.Decoder(RunStarted).decode


class LiveDialect(NamedTuple):
    """How a chat is told: in lines, each of which ends with a line feed."""

    frames_of: WholeEncoderOf
    event: Callable[[str, bytes], bytes]
    """A function that returns the line of an event of the chat, by its name and data; b"" for one that is not told."""
    people: LineOf
    """A function that returns the line of what other people do in the chat."""
    gap: Callable[[str, str], bytes]
    """A function that returns the line that says what cannot be told, by the reason and the chat's id."""


class ChatLines(msgspec.Struct, frozen=True):
    """An encoder of a chat's topic: what is told of it, and where its runs start."""

    event: Callable[[str, bytes], bytes]

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name == RunStarted.event:
            return [b"%b%d %b\n" % (NEW_RUN, offset, data) for offset, data in enumerate(block.data, block.first)]
        if block.name == ChatShared.event:
            return [b"%b%b\n" % (NEW_SHARE, data) for data in block.data]
        return [self.event(block.name, data) for data in block.data]


class LiveSources(NamedTuple):
    """What a reader of a whole chat reads from, in one process."""

    log: EventLog
    hub: Hub
    chats: Chats
    runs: Runs
    people: LivePeople


class LiveChat:
    """A reader of one chat as a whole, which need not exist yet. `poll` gives lines; `ended` says that it was deleted.

    To be begun once, by `begin`, and closed whatever becomes of that.
    """

    def __init__(self, sources: LiveSources, who: Principal, chat_id: str, dialect: LiveDialect) -> None:
        """Raises BadRequest for what is no chat's id."""
        self._sources = sources
        self._who = who
        self._chat_id = check_id("chat id", chat_id)
        self.topic = chat_topic(who.sub, chat_id)
        self._dialect = dialect
        self._chat: TopicReader | None = None
        self._run: TopicReader | None = None
        self._people: PeopleReader | None = None
        """Who else looks at it; None while it is not shared."""
        self._detach: Callable[[], None] = _nothing
        self._untold: list[bytes] = []
        """Lines that come before all others."""
        self._lines: deque[bytes] = deque()
        """Lines of the chat's topic that were taken from its reader, a write of them at most."""
        self._late: TopicReader | None = None
        """The reader for which `catch_up` has to fetch."""
        self.on_wake: Callable[[], object] = _nothing
        """Called when something may be due; its user sets it."""

    # Beginning

    async def begin(self, cursor: str | None) -> None:
        """Begins with the start of the active run, or with the next one; with a run's cursor, strictly after that.

        Where it cannot go on from a cursor, it says so first, and begins as without one.
        Raises BadRequest for what is no cursor, LogError, Overloaded.
        """
        if self._sources.chats.lookup.may_be_shared(self._who.sub, self._chat_id):
            history = await self._history()  # which says what its topic is
            await self._sources.chats.note_opened(self._who, history)
            if history.shared_id:
                await self._join(history.shared_id)
        if cursor is not None:
            run_id, position = decode_cursor(cursor)
            try:
                await self._resume(run_id, position)
            except (Gone, LogDamaged) as err:
                self._miss(err)
                self._close_chat()
            else:
                self._sources.runs.figures.note_resume("recovered")
                return
        history = await self._history()
        await self._open_chat(Position(history.epoch, history.head))
        active = history.active
        if active is not None:
            await self._open_run(active.run_id, None, history.answer(active.message_id))

    async def _history(self) -> History:
        chats = self._sources.chats
        with chats.in_memory.hold() as held:
            history = await chats.read(self._who.sub, self._chat_id, held)
        self.topic = history.topic
        return history

    async def _join(self, shared_id: str) -> None:
        self._people = await self._sources.people.join(self._who.sub, shared_id, self._dialect.people)
        self._people.on_wake = self._woken

    async def _resume(self, run_id: str, position: Position) -> None:
        """Goes on in a run; what the chat has told since that started is told again."""
        epoch, offset, started = await self._find(run_id)
        await self._open_chat(Position(epoch, offset))
        answer = await self._answer_before(offset, started) if position.offset < FIRST_RECORD else None
        await self._open_run(run_id, position, answer)

    async def _find(self, run_id: str) -> tuple[str, int, RunStarted]:
        """Returns where a run started, and the event of it. Raises Gone when it is not one of this chat."""
        async for part in read_past_damage(self._sources.log, self.topic, _passed_over):
            for block in part.blocks:
                for offset, data in enumerate(block.data if block.name == RunStarted.event else (), block.first):
                    started = _decode_started(data)
                    if started.run_id == run_id:
                        return part.epoch, offset, started
        raise Gone("this chat has no such run", code="unknown_cursor")

    async def _open_chat(self, after: Position) -> None:
        hub, encode = self._sources.hub, ChatLines(self._dialect.event)
        if after.epoch:
            self._chat = await hub.open(self.topic, encode, after)
        else:
            self._chat = hub.open_new(self.topic, encode)
            hub.refresh(self.topic)  # it may have been made since somebody looked
        self._chat.on_wake = self._woken

    async def _open_run(self, run_id: str, after: Position | None, answer: UIMessage | None) -> None:
        encode = self._dialect.frames_of(run_id, answer)
        attached = await self._sources.chats.attach(self._chat_id, run_id, after, encode)
        self._run = attached.reader
        self._run.on_wake = self._woken
        if attached.run is not None:
            self._detach = self._sources.runs.attached(attached.run)

    async def _answer_before(self, offset: int, started: RunStarted) -> UIMessage | None:
        """Returns the answer that a run goes on from, as it was when that started; None when it began a new one."""
        if started.message_id == f"msg-{started.run_id}":
            return None
        with self._sources.chats.in_memory.hold() as held:
            history = await read_history(
                self._sources.log, self._who.sub, self._chat_id, held.count, offset, self.topic
            )
        return history.answer(started.message_id)

    # Reading

    @property
    def ended(self) -> bool:
        """Returns whether the chat was deleted, and all else told."""
        return self._chat is not None and self._chat.ended and self._run is None and not self._lines

    @property
    def is_late(self) -> bool:
        """Returns whether it reads from the log what it has missed."""
        return self._late is not None

    def poll(self) -> list[bytes] | None:
        """Returns the lines due now; none when there are none; None when `catch_up` must fetch them."""
        if self._untold:
            untold, self._untold = self._untold, []
            return untold
        if self._people is not None and self._people.is_due and (lines := self._people.poll()):
            return lines
        if self._run is not None:
            data = self._run.poll()
            if data is None:
                self._late = self._run
                return None
            if data:
                return data.splitlines(keepends=True)
            if self._run.ended:
                is_cut = not self._run.complete
                self._leave_run()
                if is_cut:
                    self._miss(Gone("this answer is no longer kept", code="evicted"))
                    return self.poll()
        return self._poll_chat()

    def _poll_chat(self) -> list[bytes] | None:
        chat = self._chat
        if chat is None:
            return []
        due: list[bytes] = []
        if not self._lines:
            data = chat.poll()
            if data is None:
                self._late = chat
                return None
            self._lines.extend(data.splitlines(keepends=True))
        while self._lines and not self._lines[0].startswith((NEW_RUN, NEW_SHARE)):
            due.append(self._lines.popleft())
        if self._lines and not due and (self._run is None or self._lines[0].startswith(NEW_SHARE)):
            return None  # the next run, or the first members
        return due

    async def catch_up(self) -> None:
        """Fetches one bounded slice of what is due, or begins the next run. Raises LogError, TrilaneError."""
        late, self._late = self._late, None
        try:
            if late is not None:
                await late.catch_up()
            elif self._lines and self._lines[0].startswith(NEW_SHARE):
                data = self._lines.popleft().removeprefix(NEW_SHARE)
                if self._people is None:
                    await self._join(msgspec.json.decode(data, type=ChatShared).shared_id)
            elif self._lines:
                offset, _, data = self._lines.popleft().removeprefix(NEW_RUN).partition(b" ")
                started = _decode_started(data)
                await self._open_run(started.run_id, None, await self._answer_before(int(offset), started))
        except (Gone, LogDamaged) as err:
            if late is not None and late is self._chat:
                raise
            self._leave_run()
            self._miss(err)

    def close(self) -> None:
        """Reads no more. Idempotent."""
        self._close_chat()
        if self._people is not None:
            self._people.close()
            self._people = None

    def _close_chat(self) -> None:
        self._leave_run()
        if self._chat is not None:
            self._chat.close()
            self._chat = None
        self._lines.clear()

    def _woken(self) -> None:
        self.on_wake()

    def _leave_run(self) -> None:
        detach, self._detach = self._detach, _nothing
        if self._run is not None:
            self._run.close()
            self._run = None
        detach()

    def _miss(self, error: Gone | LogDamaged) -> None:
        reason = error.code if isinstance(error, Gone) else "damaged"
        self._sources.runs.figures.note_resume(reason)
        self._untold.append(self._dialect.gap(reason, self._chat_id))


def _nothing() -> None:
    """Does nothing: nobody waits, and nothing is held."""


def _passed_over(first: int, last: int) -> None:
    """Passes over what is damaged: whoever reads the whole chat is told of it."""
