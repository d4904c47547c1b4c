"""A change is what a request makes of a chat: events to append, and the conversation that the model is sent.

The two differ. The model is sent what the client shows; the stored chat loses nothing by what a client does not show,
because a device may be behind, or post a window. Only an edit, a regeneration and a deletion take something away.
Pure, but that long work is done in slices.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec
from msgspec import Raw

from gateway.chat.history import History
from gateway.chat.records.authors import names_of, with_author
from gateway.chat.records.chat_record import ChatEvent, MessagesDeleted, RunStarted, Trigger, Truncate
from gateway.chat.records.heard import as_heard
from gateway.chat.records.messages import (
    UIMessage,
    UpstreamMessage,
    bytes_of_parts,
    ends_with_result,
    joined,
    merge_tool_results,
    parts_of,
    turns_of,
)
from gateway.core.slices import each
from gateway.errors import BadRequest

MAX_SORTED_BYTES = 65_536
"""Bytes of a message's parts past which they are compared as they came: to sort 16 MiB would hold up all streams."""


class Change(msgspec.Struct):
    """The change that a request makes to a chat."""

    events: list[ChatEvent]
    """Events to append to the chat's topic."""
    conversation: list[UIMessage]
    """The conversation that the model is sent."""
    answer: UIMessage | None = None
    """The answer that is continued after tool results; None for a new one."""
    results: list[Raw] = []
    """The parts of that answer which this request has given a result."""


def new_addresses(events: Iterable[ChatEvent]) -> list[str]:
    """Returns the addresses of the files in messages that are new: those of older ones were taken when they came."""
    messages = [event for event in events if isinstance(event, UIMessage) and event.role != "assistant"]
    return [part.url for message in messages for part in parts_of(message) if part.type == "file"]


class Posting(msgspec.Struct, frozen=True):
    """The messages of one request, and what it wants with them."""

    messages: Sequence[UIMessage]
    trigger: Trigger = "submit-message"
    message_id: str = ""
    """Id of the message that is edited, regenerated or continued; empty when the client names none."""
    is_excerpt: bool = False
    """Whether it has only what is new, because the gateway knows the history."""
    truncates: bool = False
    """Whether what it does not show is to be gone for good."""
    author: str = ""
    """The user whose its new messages are; empty where nobody signs in."""


def reconcile(history: History, posting: Posting) -> Change:
    """Brings the stored history to what the client asks for.

    Stored answers win over posted ones, except for tool results. Raises BadRequest when nothing is left to answer.
    """
    draft = Draft(history, posting)
    for message in posting.messages:
        draft.take(message)
    return draft.change()


async def reconcile_in_slices(history: History, posting: Posting) -> Change:
    """Returns what `reconcile` does; a long history leaves others their turn."""
    draft = Draft(history, posting)
    await each(posting.messages, draft.take)
    return draft.change()


async def turns_in_slices(conversation: Sequence[UIMessage]) -> list[UpstreamMessage]:
    """Returns a conversation as the upstream takes it; a long one leaves others their turn."""
    turns: list[UpstreamMessage] = []
    names = names_of(message.metadata for message in conversation if message.role == "user")
    await each(conversation, lambda message: turns.extend(turns_of(message, names)))
    return joined(turns)


class Draft:
    """The chat as it will be: messages kept of the stored ones, and those that are added at the end.

    It takes every posted message, in order; then it tells the change.
    """

    def __init__(self, history: History, posting: Posting) -> None:
        self.added: dict[str, UIMessage] = {}
        self._history = history
        self._stored = history.messages
        self._deleted = history.deleted
        self._posting = posting
        self._places = {message.id: place for place, message in enumerate(self._stored)}
        self._kept = self._stored[: self._cut()]
        self._shown: set[str] = set()

    def _cut(self) -> int:
        """Returns how many stored messages stand before the one that is edited or regenerated."""
        place = self._places.get(self._posting.message_id)
        if place is None:
            return len(self._stored)
        is_answer = self._stored[place].role == "assistant"
        if self._posting.trigger == "regenerate-message":
            return place if is_answer else place + 1
        return len(self._stored) if is_answer else place

    def change(self) -> Change:
        """Returns the change that all posted messages make. Raises BadRequest when nothing is left to answer."""
        self._drop_answers()
        conversation = [*self._visible(), *self.added.values()]
        if not conversation:
            raise BadRequest("there is no message to answer")
        conversation[:-1] = map(as_heard, conversation[:-1])
        last = conversation[-1]
        if last.role != "assistant":
            return Change(self._events(), conversation)
        return Change(self._events(), conversation, last, self._results(last))

    def take(self, message: UIMessage) -> None:
        """Takes one posted message in. Of two of one id the first brings an answer's results."""
        is_last = message is self._posting.messages[-1]
        queue = self._history.queue
        if message.id in queue.taken or (not is_last and queue.knows(message.id)):
            return  # an answer has it, or it waits
        if message.id in self._deleted:
            if is_last and self._posting.trigger == "submit-message":
                raise BadRequest(f"message {message.id[:64]!r} was deleted", code="message_deleted")
            return
        is_repeated = message.id in self._shown
        self._shown.add(message.id)
        place = self._places.get(message.id)
        if self._posting.author and message.role == "user":
            message = self._authored(message, place)
        if place is None or place >= len(self._kept):
            if place is None or self._posting.trigger == "submit-message":
                self.added[message.id] = message
        elif self._kept[place].role == "assistant":
            if not is_repeated:
                asked = self._history.asked_calls.get(message.id, set())
                self._kept[place] = merge_tool_results(self._kept[place], message, asked) or self._kept[place]
        elif not _is_same(self._kept[place], message):
            self._edit(place, message, is_last=is_last)

    def _authored(self, message: UIMessage, place: int | None) -> UIMessage:
        """Returns a posted message with its author: who posts it, unless it stands here already as it is posted."""
        stored = self._stored[place] if place is not None else None
        if stored is not None and _is_same(stored, message):
            return stored
        return by_author(message, self._posting.author)

    def _edit(self, place: int, message: UIMessage, *, is_last: bool) -> None:
        """Replaces a message: the last one posted is to be answered anew, an earlier one keeps what follows it."""
        if is_last:
            del self._kept[place:]
            self.added[message.id] = message
        else:
            self._kept[place] = message

    def _drop_answers(self) -> None:
        """Drops the answers that a regeneration is to replace."""
        if self._posting.trigger != "regenerate-message":
            return
        while self.added and next(reversed(self.added.values())).role == "assistant":
            self.added.popitem()
        while not self.added and self._kept and self._kept[-1].role == "assistant":
            self._kept.pop()

    def _visible(self) -> list[UIMessage]:
        """Returns the kept messages that the client shows, and those at the end that it has not seen yet."""
        if self._posting.truncates:
            return self._shown_of(self._kept)
        if self._posting.is_excerpt or self._asks_again_only():
            return self._kept
        known = [self._places[message_id] for message_id in self._shown if message_id in self._places]
        if not known:
            return []
        seen = max(known) + 1
        return self._shown_of(self._kept[:seen]) + self._kept[seen:]

    def _asks_again_only(self) -> bool:
        """Returns whether a regeneration posts no message at all, and so says nothing of what is shown."""
        return self._posting.trigger == "regenerate-message" and not self._posting.messages

    def _shown_of(self, messages: list[UIMessage]) -> list[UIMessage]:
        return [message for message in messages if message.id in self._shown]

    def _results(self, answer: UIMessage) -> list[Raw]:
        """Returns the parts of an answer that are not as they were stored."""
        place = self._places.get(answer.id)
        before = self._stored[place].parts if place is not None else answer.parts
        return [part for part, earlier in zip(answer.parts, before, strict=False) if part is not earlier]

    def _events(self) -> list[ChatEvent]:
        kept, stored = self._kept, self._stored
        events: list[ChatEvent] = [
            message for message, before in zip(kept, stored, strict=False) if message is not before
        ]
        if len(kept) < len(stored):
            events.append(Truncate(len(kept)))
        hidden = [message.id for message in kept if message.id not in self._shown]
        if self._posting.truncates and hidden:
            events.append(MessagesDeleted(hidden))
        return [*events, *self.added.values()]


def by_author(message: UIMessage, author: str) -> UIMessage:
    """Returns a message whose metadata says who sent it; as it came where nobody signs in and `author` is empty."""
    if not author:
        return message
    return msgspec.structs.replace(message, metadata=with_author(message.metadata, author))


def continuing_run(history: History, posting: Posting) -> RunStarted | None:
    """Returns the run that goes on from the results of an answer, when the posting brings that answer and no new one.

    The same calls were answered on another device, perhaps otherwise: the first answer holds, and there is one run.
    """
    if posting.trigger != "submit-message" or not posting.messages:
        return None
    last = posting.messages[-1]
    stored, run_id = history.answer(last.id), history.continued.get(last.id)
    asked = history.asked_calls.get(last.id, set())
    if stored is None or run_id is None or not (asked or ends_with_result(last)):
        return None
    return history.runs[run_id] if merge_tool_results(stored, last, asked) is None else None


def _is_same(one: UIMessage, other: UIMessage) -> bool:
    """Returns whether two messages hold the same; nearly always they are the same text, and nothing is decoded."""
    return one.parts == other.parts or _digest(one) == _digest(other)


def _digest(message: UIMessage) -> str:
    """Returns a digest of a message's parts in which the order of fields does not count, unless they are large."""
    if bytes_of_parts([message]) > MAX_SORTED_BYTES:
        return sha256(b"[%b]" % b",".join(map(bytes, message.parts))).hexdigest()
    try:
        parts = [msgspec.json.decode(raw) for raw in message.parts]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def request_key(posting: Posting) -> str:
    """Returns what makes a request the same as an earlier one, when the client names no key of its own.

    It is made of the last message's id and content: a message that was edited, or an answer that got tool results,
    keeps its id and is a new request. A regeneration is the same only when it names the same answer.
    """
    if posting.trigger == "regenerate-message":
        return f"regenerate:{posting.message_id}" if posting.message_id else ""
    if not posting.messages:
        return ""
    last = posting.messages[-1]
    return f"message:{last.id}:{_digest(last)[:16]}"
