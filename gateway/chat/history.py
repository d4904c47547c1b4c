"""A chat as its topic tells it: fold the events, and reconcile what a client posts with what is stored. Pure.

Events of a chat's topic: `message` (a message, new or replacing the one of its id), `truncate` (history ends after so
many messages), `run-started`, `run-finished`, `stop`. Nothing else is the truth about a chat.
"""

from hashlib import sha256
from typing import Literal

import msgspec

from events.log.port import Block
from gateway.chat.ending import RunFinished
from gateway.chat.messages import UIMessage, merge_tool_results
from gateway.errors import BadRequest

Trigger = Literal["submit-message", "regenerate-message"]
_json = msgspec.json.Encoder().encode


class RunStarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    run_id: str
    message_id: str
    """Id of the answer; an older one when the run continues an answer after tool results."""
    key: str = ""
    """What makes a repeated request the same run."""
    trigger: Trigger = "submit-message"
    extra: dict[str, msgspec.Raw] = {}
    """Top-level fields of the request that are not ours."""


class Truncate(msgspec.Struct, frozen=True):
    keep: int


class History(msgspec.Struct):
    """A chat up to `head`."""

    chat_id: str
    owner: str = ""
    epoch: str = ""
    head: int = 0
    messages: list[UIMessage] = []
    runs: dict[str, RunStarted] = {}
    places: dict[str, int] = {}
    """How many messages each run was asked with."""
    active: RunStarted | None = None

    def apply(self, block: Block) -> None:
        for data in block.data:
            self._apply(block.name, data)
        self.head = block.last

    def _apply(self, name: str, data: bytes) -> None:
        match name:
            case "message":
                put(self.messages, msgspec.json.decode(data, type=UIMessage))
            case "truncate":
                keep = msgspec.json.decode(data, type=Truncate).keep
                del self.messages[keep:]
                for run_id in [run_id for run_id, place in self.places.items() if place > keep]:
                    self._forget(run_id)  # its question was edited away: asked again, it is a new one
            case "run-started":
                started = msgspec.json.decode(data, type=RunStarted)
                self.runs[started.run_id] = self.active = started
                self.places[started.run_id] = len(self.messages)
            case "run-finished":
                finished = msgspec.json.decode(data, type=RunFinished)
                if finished.message is not None:
                    put(self.messages, finished.message)
                elif finished.outcome == "error":
                    self._forget(finished.run_id)  # refused before anything was visible: the same may be asked again
                if self.active is not None and self.active.run_id == finished.run_id:
                    self.active = None
            case _:
                pass

    def _forget(self, run_id: str) -> None:
        """The run is no result of its key any more."""
        if self.places.pop(run_id, None) is not None:
            self.runs[run_id] = msgspec.structs.replace(self.runs[run_id], key="")

    def run_of(self, key: str) -> RunStarted | None:
        """The run that a request with this key has started before."""
        return next((run for run in self.runs.values() if key and run.key == key), None)

    def answer(self, message_id: str) -> UIMessage | None:
        return next((m for m in self.messages if m.id == message_id and m.role == "assistant"), None)


def put(messages: list[UIMessage], message: UIMessage) -> None:
    """Replaces the message of the same id, or adds it at the end."""
    for index, known in enumerate(messages):
        if known.id == message.id:
            messages[index] = message
            return
    messages.append(message)


class Change(msgspec.Struct):
    """What a request changes in a chat."""

    events: list[tuple[str, bytes]]
    """(name, data) to append to the chat's topic."""
    conversation: list[UIMessage]
    """What the model is asked with."""
    answer: UIMessage | None = None
    """The answer that is continued after tool results; None for a new one."""


def reconcile(history: History, posted: list[UIMessage], trigger: Trigger, message_id: str) -> Change:
    """Brings the stored history to what the client asks.

    A device that has not seen the newest messages loses nothing: what it does not know stays. Only an edit (of
    `message_id`, or of a message whose content differs) or a regeneration ends history earlier. Stored answers win over
    posted ones, except for tool results. Raises BadRequest when nothing is left to answer.
    """
    wanted = _wanted(history.messages, posted, trigger, message_id)
    stored = history.messages
    events: list[tuple[str, bytes]] = []
    same = 0
    while same < min(len(stored), len(wanted)) and stored[same].id == wanted[same].id:
        if stored[same].role == "assistant":
            merged = merge_tool_results(stored[same], wanted[same])
            if merged is not None:
                events.append(("message", _json(merged)))
            wanted[same] = merged or stored[same]
        elif stored[same] is not wanted[same]:
            break
        same += 1
    if same < len(stored):
        events.append(("truncate", _json(Truncate(same))))
    events += [("message", _json(message)) for message in wanted[same:]]
    if not wanted:
        raise BadRequest("there is no message to answer")
    last = wanted[-1]
    return Change(events, wanted, last if last.role == "assistant" else None)


def _wanted(stored: list[UIMessage], posted: list[UIMessage], trigger: Trigger, message_id: str) -> list[UIMessage]:
    """The conversation that the client asks for; stored user messages are the same objects unless edited."""
    wanted = list(stored)
    index = {message.id: at for at, message in enumerate(stored)}
    at = index.get(message_id)
    if at is not None and trigger == "regenerate-message":
        del wanted[at if stored[at].role == "assistant" else at + 1 :]
    elif at is not None and stored[at].role != "assistant":
        del wanted[at:]
    for message in posted:
        at = index.get(message.id, len(wanted))
        if at >= len(wanted):
            if message.id not in index or trigger == "submit-message":
                index[message.id] = len(wanted)
                wanted.append(message)
        elif message.role == "assistant":
            wanted[at] = message
        elif _digest(wanted[at]) != _digest(message):
            wanted[at:] = [message]
    while trigger == "regenerate-message" and wanted and wanted[-1].role == "assistant":
        wanted.pop()
    return wanted


def _digest(message: UIMessage) -> str:
    try:
        parts = [msgspec.json.decode(raw) for raw in message.parts]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BadRequest(f"a part of message {message.id[:64]!r} is not valid: {err}") from err
    return sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def request_key(posted: list[UIMessage], trigger: Trigger, message_id: str) -> str:
    """What makes a request the same as an earlier one, when the client names no key of its own.

    The id and content of the last message: a message that was edited, or an answer that got tool results, keeps its id
    and is a new request. A regeneration is the same only when it names the same answer.
    """
    if trigger == "regenerate-message":
        return f"regenerate:{message_id}" if message_id else ""
    if not posted:
        return ""
    last = posted[-1]
    return f"message:{last.id}:{_digest(last)[:16]}"
