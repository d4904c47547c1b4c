"""Messages and histories for tests, short to write."""

import json
from typing import Any

import msgspec
from msgspec import Raw

from events.log.port import Block
from gateway.chat.history import Change, History
from gateway.chat.messages import Role, UIMessage


def message(message_id: str, role: Role, *parts: str | dict[str, Any]) -> UIMessage:
    """A message; a plain text stands for a text part."""
    full = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return UIMessage(id=message_id, role=role, parts=[Raw(msgspec.json.encode(part)) for part in full])


def user(message_id: str, text: str) -> UIMessage:
    return message(message_id, "user", text)


def answer(message_id: str, text: str) -> UIMessage:
    return message(message_id, "assistant", text)


def tool(call_id: str, name: str, state: str, **more: Any) -> dict[str, Any]:
    return {"type": f"tool-{name}", "toolCallId": call_id, "state": state, **more}


def history(*messages: UIMessage) -> History:
    """A chat that holds these messages."""
    made = History(chat_id="c")
    fold(made, [("message", msgspec.json.encode(said)) for said in messages])
    return made


def fold(into: History, events: list[tuple[str, bytes]]) -> History:
    for name, data in events:
        into.apply(Block(first=into.head + 1, data=[data], name=name, time_ms=0))
    return into


def brief(messages: list[UIMessage]) -> list[str]:
    """`id:text` of each."""
    texts = [[json.loads(bytes(part)) for part in said.parts] for said in messages]
    return [
        f"{said.id}:{''.join(part.get('text', '') for part in parts)}"
        for said, parts in zip(messages, texts, strict=True)
    ]


def after(before: History, change: Change) -> History:
    """The chat as every reader of its topic sees it once the change is appended."""
    copy = History(chat_id=before.chat_id, head=before.head, messages=list(before.messages), runs=dict(before.runs))
    return fold(copy, change.events)
