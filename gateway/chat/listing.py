"""A user's chats are listed newest first, in pages."""

import re

import msgspec
import structlog

from events.log.port import EventLog, TopicInfo
from gateway.chat.records.chat_record import ChatCreated, decode_event
from gateway.chat.records.messages import UIMessage, text_of
from gateway.chat.topics import CHATS
from gateway.errors import BadRequest, LogDamaged

TITLE_CHARS = 80
PAGE = 50

logger = structlog.get_logger("chats")


class ChatSummary(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    title: str
    updated_at: int
    """Time of the last change, in milliseconds since 1970."""


class ChatPage(msgspec.Struct, frozen=True):
    chats: list[ChatSummary]
    cursor: str | None


async def list_chats(log: EventLog, owner: str, cursor: str | None) -> ChatPage:
    """Returns a page; `cursor` is that of the page before. Raises BadRequest for what is no cursor of a list."""
    before_ms, listed_count = _decode_cursor(cursor) if cursor is not None else (None, 0)
    topics = await log.topics(
        CHATS, owner=owner, before_ms=before_ms + 1 if before_ms is not None else None, limit=PAGE + listed_count
    )
    is_full = len(topics) == PAGE + listed_count
    topics = [topic for at, topic in enumerate(topics) if at >= listed_count or topic.updated_ms != before_ms]
    chats = [summary for topic in topics if (summary := await _summary(log, topic)) is not None]
    if not is_full or not topics:
        return ChatPage(chats, None)
    last_ms = topics[-1].updated_ms
    same = sum(topic.updated_ms == last_ms for topic in topics) + (listed_count if last_ms == before_ms else 0)
    return ChatPage(chats, f"{last_ms}.{same}")


def _decode_cursor(cursor: str) -> tuple[int, int]:
    """Returns a cursor's millisecond, and the number of chats of that millisecond that were listed already."""
    match = re.fullmatch(r"([0-9]{1,15})\.([0-9]{1,4})", cursor, re.ASCII)
    if match is None:
        raise BadRequest(f"the cursor {cursor[:40]!r} is not one of this list", code="bad_cursor")
    return int(match[1]), int(match[2])


async def _summary(log: EventLog, info: TopicInfo) -> ChatSummary | None:
    """Returns the summary of a chat; None when the chat was deleted in this moment, or its id cannot be read."""
    try:
        part = await log.read(info.topic, 0, max_events=2)
    except LogDamaged:
        logger.error("a chat cannot be listed: the log is damaged", topic=info.topic)
        return None
    events = [decode_event(block.name, data) for block in part.blocks for data in block.data]
    if not events or not isinstance(events[0], ChatCreated):
        return None
    first = events[1] if len(events) > 1 else None
    title = " ".join(text_of(first).split()) if isinstance(first, UIMessage) else ""
    short = title if len(title) <= TITLE_CHARS else title[: TITLE_CHARS - 1] + "…"
    return ChatSummary(events[0].id, short or "Untitled", info.updated_ms)
