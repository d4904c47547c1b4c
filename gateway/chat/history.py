"""A history is a chat as its topic tells it; what a client posts is reconciled with it.

Pure but for `read_history`. What each event means stands with its type, in `gateway.chat.records.chat_record`.
"""

from hashlib import sha256
from typing import assert_never

import msgspec

from events.log.port import Block, EventLog, read_to_head
from gateway.chat.records.chat_record import (
    ChatCreated,
    ChatEvent,
    RunFinished,
    RunStarted,
    StopCommand,
    Trigger,
    Truncate,
    decode_event,
)
from gateway.chat.records.messages import UIMessage, merge_tool_results
from gateway.chat.topics import chat_topic, check_id
from gateway.errors import BadRequest


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

    def apply(self, block: Block) -> None:
        for data in block.data:
            event = decode_event(block.name, data)
            if event is not None:
                self._apply(event)
        self.head = block.last

    def _apply(self, event: ChatEvent) -> None:
        match event:
            case UIMessage():
                put(self.messages, event)
            case Truncate(keep):
                del self.messages[keep:]
                for run_id in [run_id for run_id, place in self.places.items() if place > keep]:
                    self._forget(run_id)  # its question was edited away: asked again, it is a new one
            case RunStarted():
                self.runs[event.run_id] = self.active = event
                self.places[event.run_id] = len(self.messages)
            case RunFinished():
                self._finish(event)
            case ChatCreated() | StopCommand():
                pass
            case _:
                assert_never(event)

    def _finish(self, finished: RunFinished) -> None:
        if finished.message is not None:
            put(self.messages, finished.message)
        elif finished.outcome == "error":
            self._forget(finished.run_id)  # refused before anything was visible: the same may be asked again
        if self.active is not None and self.active.run_id == finished.run_id:
            self.active = None

    def _forget(self, run_id: str) -> None:
        """Removes a run's key, so that no request finds the run by it any more."""
        if self.places.pop(run_id, None) is not None:
            self.runs[run_id] = msgspec.structs.replace(self.runs[run_id], key="")

    def run_of(self, key: str) -> RunStarted | None:
        """Returns the run that a request with this key has started before."""
        return next((run for run in self.runs.values() if key and run.key == key), None)

    def answer(self, message_id: str) -> UIMessage | None:
        return next((m for m in self.messages if m.id == message_id and m.role == "assistant"), None)


async def read_history(log: EventLog, owner: str, chat_id: str) -> History:
    """Returns the chat as the log holds it, empty when there is none. Raises BadRequest for what is no chat's id."""
    history = History(chat_id=check_id("chat id", chat_id))
    async for part in read_to_head(log, chat_topic(owner, chat_id)):
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


class Change(msgspec.Struct):
    """The change that a request makes to a chat."""

    events: list[ChatEvent]
    """Events to append to the chat's topic."""
    conversation: list[UIMessage]
    """The conversation that the model is sent."""
    answer: UIMessage | None = None
    """The answer that is continued after tool results; None for a new one."""


def reconcile(history: History, posted_messages: list[UIMessage], trigger: Trigger, message_id: str) -> Change:
    """Brings the stored history to what the client asks for.

    A device that has not seen the newest messages loses nothing: what it does not know stays. Only an edit (of
    `message_id`, or of a message whose content differs) or a regeneration ends history earlier. Stored answers win over
    posted ones, except for tool results. Raises BadRequest when nothing is left to answer.
    """
    conversation = _requested(history.messages, posted_messages, trigger, message_id)
    stored_messages = history.messages
    events: list[ChatEvent] = []
    same = 0
    while same < min(len(stored_messages), len(conversation)) and stored_messages[same].id == conversation[same].id:
        if stored_messages[same].role == "assistant":
            merged_answer = merge_tool_results(stored_messages[same], conversation[same])
            if merged_answer is not None:
                events.append(merged_answer)
            conversation[same] = merged_answer or stored_messages[same]
        elif stored_messages[same] is not conversation[same]:
            break
        same += 1
    if same < len(stored_messages):
        events.append(Truncate(same))
    events += conversation[same:]
    if not conversation:
        raise BadRequest("there is no message to answer")
    last = conversation[-1]
    return Change(events, conversation, last if last.role == "assistant" else None)


def _requested(
    stored_messages: list[UIMessage], posted_messages: list[UIMessage], trigger: Trigger, message_id: str
) -> list[UIMessage]:
    """Returns the conversation that the client asks for; stored user messages are the same objects unless edited."""
    conversation = list(stored_messages)
    index = {message.id: at for at, message in enumerate(stored_messages)}
    at = index.get(message_id)
    if at is not None and trigger == "regenerate-message":
        del conversation[at if stored_messages[at].role == "assistant" else at + 1 :]
    elif at is not None and stored_messages[at].role != "assistant":
        del conversation[at:]
    for message in posted_messages:
        at = index.get(message.id, len(conversation))
        if at >= len(conversation):
            if message.id not in index or trigger == "submit-message":
                index[message.id] = len(conversation)
                conversation.append(message)
        elif message.role == "assistant":
            conversation[at] = message
        elif _digest(conversation[at]) != _digest(message):
            conversation[at:] = [message]
    while trigger == "regenerate-message" and conversation and conversation[-1].role == "assistant":
        conversation.pop()
    return conversation


def _digest(message: UIMessage) -> str:
    try:
        parts = [msgspec.json.decode(raw) for raw in message.parts]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def request_key(posted_messages: list[UIMessage], trigger: Trigger, message_id: str) -> str:
    """Returns what makes a request the same as an earlier one, when the client names no key of its own.

    It is made of the last message's id and content: a message that was edited, or an answer that got tool results,
    keeps its id and is a new request. A regeneration is the same only when it names the same answer.
    """
    if trigger == "regenerate-message":
        return f"regenerate:{message_id}" if message_id else ""
    if not posted_messages:
        return ""
    last = posted_messages[-1]
    return f"message:{last.id}:{_digest(last)[:16]}"
