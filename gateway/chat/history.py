"""A history is a chat as its topic tells it.

Pure but for `read_history`. What each event means stands with its type, in `gateway.chat.records.chat_record`; what a
request makes of a history, in `gateway.chat.change`.
"""

from collections.abc import Callable
from typing import assert_never

import msgspec

from events.log.port import NO_EVENTS, Block, EventLog, read_past_damage
from gateway.chat.queue import ChatQueue
from gateway.chat.records.asks import message_after
from gateway.chat.records.chat_record import (
    Answered,
    Ask,
    ChatCreated,
    ChatEvent,
    ChatOpened,
    ChatShared,
    MemberChange,
    MemberRole,
    MessagesDeleted,
    ParkedRequest,
    Queued,
    ReplySpoken,
    RunFinished,
    RunInfo,
    RunStarted,
    StopCommand,
    Taken,
    Truncate,
    Unqueued,
    decode_event,
)
from gateway.chat.records.heard import IS_SPOKEN, with_speech
from gateway.chat.records.messages import UIMessage, count_of_parts
from gateway.chat.topics import chat_topic, check_id


class History(msgspec.Struct):
    """A chat up to `head`."""

    chat_id: str
    topic: str = ""
    """The chat's topic in the log."""
    owner: str = ""
    """The user who made the chat, or who is about to."""
    epoch: str = ""
    """The epoch of the chat's topic; empty while there is no such chat."""
    head: int = 0
    size: int = 0
    """Bytes of all of its events, those that it has outgrown included."""
    by_id: dict[str, UIMessage] = {}
    """Its messages in order, by id: a long chat must not cost more for each of its messages."""
    parts: int = 0
    """Parts of all its messages, of which one without any counts for one."""
    runs: dict[str, RunStarted] = {}
    questions: dict[str, list[str]] = {}
    """Ids of the runs that were started when a message was the last one, by that message's id."""
    active: RunStarted | None = None
    deleted: set[str] = set()
    """Ids of messages that somebody wanted gone for good; none of them comes back."""
    continued: dict[str, str] = {}
    """Id of the newest run that goes on from the tool results of each answer, by the answer's id."""
    answers_of: dict[str, list[str]] = {}
    """Ids of the answers that each run went on from, by the run's id."""
    lost: list[tuple[int, int]] = []
    """First and last offset of the events that the log holds and nobody can read any more."""
    answers_changed: list[str] = []
    """Ids of answers that were put since a run was started last."""
    stopped: set[str] = set()
    """Ids of the runs that somebody wanted to stop."""
    asks: dict[str, Ask] = {}
    """All that runs have asked of people, by approval id."""
    decisions: dict[str, Answered] = {}
    """The answers to asks, by approval id."""
    asked_calls: dict[str, set[str]] = {}
    """Ids of the calls that have their result by an answer to an ask, and by nothing else, by their message's id."""
    parked: dict[str, ParkedRequest] = {}
    """What each run goes on with that asked something, or that left a queue, by the run's id."""
    queue: ChatQueue = msgspec.field(default_factory=ChatQueue)
    shared_id: str = ""
    """The id by which all members address the chat; empty for one that never had any."""
    roles: dict[str, MemberRole | None] = {}
    """What members were given or lost, by user; who made the chat is an owner until it says otherwise."""
    spoken: dict[str, ReplySpoken] = {}
    """How far answers were spoken, by message id, the newest last."""
    opened_by: set[str] = set()
    """The members that have looked at the chat, of those whom somebody else has added."""

    @property
    def members(self) -> dict[str, MemberRole]:
        """Returns the role of each member, the user who made the chat first."""
        roles: dict[str, MemberRole | None] = {self.owner: "owner", **self.roles}
        return {sub: role for sub, role in roles.items() if role is not None}

    @property
    def messages(self) -> list[UIMessage]:
        """Returns the messages in order; a list of its own each time."""
        return list(self.by_id.values())

    @property
    def open_asks(self) -> list[Ask]:
        """Returns the asks of the last message that nobody has answered; an ask of any other is moot."""
        if len(self.decisions) == len(self.asks) or not self.by_id:
            return []
        last = next(reversed(self.by_id))
        return [ask for ask in self.asks.values() if ask.message_id == last and ask.approval_id not in self.decisions]

    def sender_of(self, run_id: str) -> str:
        """Returns the user whose message a run answers."""
        run = self.runs.get(run_id)
        return (run.sub if run is not None else "") or self.owner

    @property
    def spoken_run(self) -> str:
        """Returns the id of the run whose answer is being spoken; empty when none is."""
        newest = next(reversed(self.spoken.values()), None)
        return newest.run_id if newest is not None and newest.state in IS_SPOKEN else ""

    @property
    def noticed(self) -> list[str]:
        """Returns the members who are told what happens here: a stranger's invitation alone brings no notices."""
        return [sub for sub in self.members if sub == self.owner or sub in self.opened_by]

    def apply(self, block: Block) -> None:
        for data in block.data:
            self.size += len(data)
            event = decode_event(block.name, data)
            if event is not None:
                self._apply(event)
        self.head = block.last

    def lose(self, first: int, last: int) -> None:
        """Goes on without the events from offset `first` to `last`, which cannot be read."""
        self.lost.append((first, last))
        self.head = last

    def _apply(self, event: ChatEvent) -> None:
        self.queue.apply(event)
        match event:
            case UIMessage():
                self._put(event)
                if event.role == "assistant":
                    self.answers_changed.append(event.id)
            case MessagesDeleted(ids):
                self._delete(set(ids))
            case Truncate(keep):
                while len(self.by_id) > max(keep, 0):
                    self._remove(next(reversed(self.by_id)))
            case RunStarted():
                self._start(event)
            case RunFinished():
                self._finish(event)
            case ChatCreated():
                self.chat_id = event.id
            case Ask():
                self.asks[event.approval_id] = event
                self.asked_calls.setdefault(event.message_id, set()).add(event.tool_call_id)
            case Answered():
                self.answer_ask(event)
            case StopCommand():
                self.stopped.add(event.run_id)
            case Queued() | Unqueued() | Taken():
                pass
            case ChatShared(shared_id):
                self.shared_id = shared_id
            case MemberChange():
                self.roles[event.sub] = event.role
                if event.role is None:
                    self.opened_by.discard(event.sub)
                elif event.actor.sub == event.sub:
                    self.opened_by.add(event.sub)
            case ChatOpened(sub):
                self.opened_by.add(sub)
            case ReplySpoken(message_id=message_id):
                self.spoken.pop(message_id, None)
                self.spoken[message_id] = event
                if (answer := self.answer(message_id)) is not None:
                    self._put(answer)
            case _:
                assert_never(event)

    def _start(self, started: RunStarted) -> None:
        self.runs[started.run_id] = self.active = started
        if started.sub:
            self.opened_by.add(started.sub)
        if self.by_id:
            self.questions.setdefault(next(reversed(self.by_id)), []).append(started.run_id)
        answers = [*self.answers_changed, *([started.message_id] if self.answer(started.message_id) else [])]
        self.continued |= dict.fromkeys(answers, started.run_id)
        self.answers_of[started.run_id] = answers
        self.answers_changed.clear()

    def answer_ask(self, answered: Answered) -> None:
        """Notes an answer to an ask, and what it makes of the call in the message."""
        ask = self.asks.get(answered.approval_id)
        if ask is None or answered.approval_id in self.decisions:
            return
        self.decisions[answered.approval_id] = answered
        if ask.kind == "input" and answered.actor.via == "superseded":  # its client may still bring its result
            self.asked_calls[ask.message_id].discard(ask.tool_call_id)
        message = self.answer(ask.message_id)
        if message is not None:
            self._put(message_after(message, ask, answered))
            self.answers_changed.append(message.id)

    def _put(self, message: UIMessage) -> None:
        if message.id not in self.deleted:
            if (spoken := self.spoken.get(message.id)) is not None:
                message = with_speech(message, spoken)
            earlier = self.by_id.get(message.id)
            self.parts += count_of_parts(message) - (count_of_parts(earlier) if earlier is not None else 0)
            self.by_id[message.id] = message

    def _delete(self, ids: set[str]) -> None:
        for message_id in ids & self.by_id.keys():
            self._remove(message_id)
        self.deleted |= ids

    def _remove(self, message_id: str) -> None:
        """Removes a message; the runs that answered it are no result any more: asked again, it is a new question."""
        self.parts -= count_of_parts(self.by_id.pop(message_id))
        for run_id in self.questions.pop(message_id, ()):
            self._forget(run_id)

    def _finish(self, finished: RunFinished) -> None:
        if finished.message is not None:
            self._put(finished.message)
        elif finished.outcome == "error":
            self._forget(finished.run_id)  # refused before anything was visible: the same may be asked again
        if finished.request is not None:
            self.parked[finished.run_id] = self.parked.get(finished.request.same_as, finished.request)
        if self.active is not None and self.active.run_id == finished.run_id:
            self.active = None

    def finish(self, finished: RunFinished) -> None:
        """Notes an end that is about to be appended, after which this history's head is."""
        self._apply(finished)
        self.head += 1

    def _forget(self, run_id: str) -> None:
        """Removes a run's key, so that no request finds the run by it any more."""
        run = self.runs.get(run_id)
        if run is not None:
            self.runs[run_id] = msgspec.structs.replace(run, key="")
            for answer_id in self.answers_of.pop(run_id, ()):
                if self.continued.get(answer_id) == run_id:
                    del self.continued[answer_id]

    def run_of(self, key: str) -> RunStarted | None:
        """Returns the run that a request with this key has started before."""
        return next((run for run in self.runs.values() if key and run.key == key), None)

    def entry_of(self, started: RunStarted) -> str:
        """Returns the id of the run that began what a run goes on with, through all asks that were answered."""
        while (earlier := self.runs.get(started.continues)) is not None:
            started = earlier
        return started.run_id

    def answer(self, message_id: str) -> UIMessage | None:
        message = self.by_id.get(message_id)
        return message if message is not None and message.role == "assistant" else None


async def read_history(
    log: EventLog,
    owner: str,
    chat_id: str,
    count: Callable[[int], None] = lambda size: None,
    before: int = NO_EVENTS,
    topic: str = "",
) -> History:
    """Returns the chat as the log holds it, without what is damaged; it is empty when there is none.

    `count` is called with the bytes of each part that was read, and may end the reading by an error. Events from offset
    `before` on are left out. `topic`: the chat's, where it is not the one that is named by `owner` and `chat_id`.
    Raises BadRequest for what is no chat's id.
    """
    topic = topic or chat_topic(owner, chat_id)
    history = History(chat_id=check_id("chat id", chat_id), topic=topic, owner=owner)
    async for part in read_past_damage(log, topic, history.lose):
        history.epoch, history.owner = part.epoch, part.owner or owner
        size = history.size
        for block in part.blocks:
            if block.last >= before:
                kept = block.data[: before - block.first]
                history.apply(Block(first=block.first, data=kept, name=block.name, time_ms=block.time_ms))
                return history
            history.apply(block)
        count(history.size - size)
    return history


def without_removed(info: RunInfo, history: History) -> RunInfo:
    """Returns what a run is known by, with nobody to tell who is no member any more."""
    members = [sub for sub in info.members if sub in history.members]
    return info if members == info.members else msgspec.structs.replace(info, members=members)
