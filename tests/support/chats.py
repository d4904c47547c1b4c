"""Messages and histories for tests, short to write."""

import copy
import json
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from events.log.port import Block
from gateway.chat.change import Change, Posting, reconcile, request_key
from gateway.chat.history import History
from gateway.chat.records.chat_record import ChatEvent, Trigger, encode_event
from gateway.chat.records.messages import Role, UIMessage


def message(message_id: str, role: Role, *parts: str | dict[str, Any]) -> UIMessage:
    """Returns a message; a plain text stands for a text part."""
    full = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return UIMessage(id=message_id, role=role, parts=[Raw(msgspec.json.encode(part)) for part in full])


def user(message_id: str, text: str) -> UIMessage:
    return message(message_id, "user", text)


def answer(message_id: str, text: str) -> UIMessage:
    return message(message_id, "assistant", text)


def tool(call_id: str, name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"type": f"tool-{name}", "toolCallId": call_id, "state": state, **more}


def history(*messages: UIMessage) -> History:
    """Returns a chat that holds these messages."""
    return fold(History(chat_id="c"), messages)


def fold(into: History, events: Iterable[ChatEvent]) -> History:
    """Returns the chat once `events` were appended to its topic."""
    for name, data in map(encode_event, events):
        into.apply(Block(first=into.head + 1, data=[data], name=name, time_ms=0))
    return into


def brief(messages: list[UIMessage]) -> list[str]:
    """Returns `id:text` of each message."""
    decoded = [[json.loads(bytes(part)) for part in shown.parts] for shown in messages]
    return [
        f"{shown.id}:{''.join(part.get('text', '') for part in parts)}"
        for shown, parts in zip(messages, decoded, strict=True)
    ]


def reconciled(
    chat: History, posted: list[UIMessage], trigger: Trigger = "submit-message", message_id: str = "", **how: bool
) -> Change:
    """Returns what a request makes of a chat; `how` are other fields of its `Posting`."""
    return reconcile(chat, Posting(messages=posted, trigger=trigger, message_id=message_id, **how))


def key_of(posted: list[UIMessage], trigger: Trigger = "submit-message", message_id: str = "") -> str:
    """Returns the key of a request that names none."""
    return request_key(Posting(messages=posted, trigger=trigger, message_id=message_id))


def after(before: History, change: Change) -> History:
    """Returns the chat as every reader of its topic sees it once the change is appended."""
    return fold(copy.deepcopy(before), change.events)
