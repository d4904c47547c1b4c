"""A history is a chat as its topic tells it.

Pure but for `read_history`. What each event means stands with its type, in `gateway.chat.records.chat_record`; what a
request makes of a history, in `gateway.chat.change`.
"""

from typing import assert_never

import msgspec

from events.log.port import Block, EventLog, read_past_damage
from gateway.chat.records.chat_record import (
    ChatCreated,
    ChatEvent,
    MessagesDeleted,
    RunFinished,
    RunStarted,
    StopCommand,
    Truncate,
    decode_event,
)
from gateway.chat.records.messages import UIMessage
from gateway.chat.topics import chat_topic, check_id


class History(msgspec.Struct):
    """A chat up to `head`."""

    chat_id: str
    epoch: str = ""
    """The epoch of the chat's topic; empty while there is no such chat."""
    head: int = 0
    messages: list[UIMessage] = []
    runs: dict[str, RunStarted] = {}
    places: dict[str, int] = {}
    """The number of messages that each run was started with, by the run's id."""
    active: RunStarted | None = None
    deleted: set[str] = set()
    """Ids of messages that somebody wanted gone for good; none of them comes back."""
    continued: dict[str, str] = {}
    """Id of the newest run that goes on from the tool results of each answer, by the answer's id."""
    lost: list[tuple[int, int]] = []
    """First and last offset of the events that the log holds and nobody can read any more."""
    answers_changed: list[str] = []
    """Ids of answers that were put since a run was started last."""

    def apply(self, block: Block) -> None:
        for data in block.data:
            event = decode_event(block.name, data)
            if event is not None:
                self._apply(event)
        self.head = block.last

    def lose(self, first: int, last: int) -> None:
        """Goes on without the events from offset `first` to `last`, which cannot be read."""
        self.lost.append((first, last))
        self.head = last

    def _apply(self, event: ChatEvent) -> None:
        match event:
            case UIMessage():
                self._put(event)
                if event.role == "assistant":
                    self.answers_changed.append(event.id)
            case MessagesDeleted(ids):
                self._delete(set(ids))
            case Truncate(keep):
                del self.messages[keep:]
                for run_id in [run_id for run_id, place in self.places.items() if place > keep]:
                    self._forget(run_id)  # its question was edited away: asked again, it is a new one
            case RunStarted():
                self._start(event)
            case RunFinished():
                self._finish(event)
            case ChatCreated():
                self.chat_id = event.id
            case StopCommand():
                pass
            case _:
                assert_never(event)

    def _start(self, started: RunStarted) -> None:
        self.runs[started.run_id] = self.active = started
        self.places[started.run_id] = len(self.messages)
        if self.answer(started.message_id) is not None:
            self.continued[started.message_id] = started.run_id
        for message_id in self.answers_changed:
            self.continued[message_id] = started.run_id
        self.answers_changed.clear()

    def _put(self, message: UIMessage) -> None:
        if message.id not in self.deleted:
            put(self.messages, message)

    def _delete(self, ids: set[str]) -> None:
        gone = [place for place, message in enumerate(self.messages) if message.id in ids]
        for run_id, place in list(self.places.items()):
            if place - 1 in gone:
                self._forget(run_id)
            else:
                self.places[run_id] = place - sum(at < place for at in gone)
        self.messages = [message for message in self.messages if message.id not in ids]
        self.deleted |= ids

    def _finish(self, finished: RunFinished) -> None:
        if finished.message is not None:
            self._put(finished.message)
        elif finished.outcome == "error":
            self._forget(finished.run_id)  # refused before anything was visible: the same may be asked again
        if self.active is not None and self.active.run_id == finished.run_id:
            self.active = None

    def _forget(self, run_id: str) -> None:
        """Removes a run's key, so that no request finds the run by it any more."""
        if self.places.pop(run_id, None) is not None:
            self.runs[run_id] = msgspec.structs.replace(self.runs[run_id], key="")
            self.continued = {answer: run for answer, run in self.continued.items() if run != run_id}

    def run_of(self, key: str) -> RunStarted | None:
        """Returns the run that a request with this key has started before."""
        return next((run for run in self.runs.values() if key and run.key == key), None)

    def answer(self, message_id: str) -> UIMessage | None:
        return next((m for m in self.messages if m.id == message_id and m.role == "assistant"), None)


async def read_history(log: EventLog, owner: str, chat_id: str) -> History:
    """Returns the chat as the log holds it, without what is damaged; it is empty when there is none.

    Raises BadRequest for what is no chat's id.
    """
    history = History(chat_id=check_id("chat id", chat_id))
    async for part in read_past_damage(log, chat_topic(owner, chat_id), history.lose):
        history.epoch = part.epoch
        for block in part.blocks:
            history.apply(block)
    return history


def put(messages: list[UIMessage], message: UIMessage) -> None:
    """Replaces the message of the same id, or adds it at the end."""
    for index, earlier in enumerate(messages):
        if earlier.id == message.id:
            messages[index] = message
            return
    messages.append(message)
