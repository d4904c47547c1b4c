"""A user's chats are listed newest first, in pages."""

import re
from collections.abc import Mapping

import msgspec

from events.log.port import EventLog, TopicInfo
from gateway.access.memberships import ChatLink, Memberships
from gateway.chat.titles import Titles
from gateway.chat.topics import CHATS
from gateway.errors import BadRequest

PAGE = 50
MAX_SHARED = 200
"""Maximum chats of others that are listed; the newest members' places come first."""


class ChatSummary(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    id: str
    title: str
    updated_at: int
    """Time of the last change, in milliseconds since 1970."""
    shared_id: str = ""
    """The id that addresses it for all of its members; none of a chat that never had any."""
    role: str = ""
    """What the caller may do in it, where it has members."""


class ChatPage(msgspec.Struct, frozen=True):
    chats: list[ChatSummary]
    cursor: str | None


async def list_chats(log: EventLog, titles: Titles, memberships: Memberships, sub: str, cursor: str | None) -> ChatPage:
    """Returns a page; `cursor` is that of the page before. Raises BadRequest for what is no cursor of a list."""
    before_ms, listed_count = _decode_cursor(cursor) if cursor is not None else (None, 0)
    links: dict[str, ChatLink] = {}
    left: set[tuple[str, str]] = set()
    limit, end_ms = PAGE + listed_count, before_ms + 1 if before_ms is not None else None
    topics = await log.topics(CHATS, owner=sub, before_ms=end_ms, limit=limit)
    if memberships.may_have_links(sub):
        links = {link.topic: link for link in (await memberships.links(sub, left)).values()}
        topics += [topic for topic in await _shared(log, links, sub) if end_ms is None or topic.updated_ms < end_ms]
        topics = sorted(topics, key=lambda topic: -topic.updated_ms)[:limit]
    is_full = len(topics) == limit
    topics = [topic for at, topic in enumerate(topics) if at >= listed_count or topic.updated_ms != before_ms]
    titled = [(await titles.of(topic), topic) for topic in topics]
    chats = [
        ChatSummary(chat.id, chat.title, topic.updated_ms, *_as_member(links.get(topic.topic)))
        for chat, topic in titled
        if chat is not None and (topic.topic, topic.epoch) not in left
    ]
    if not is_full or not topics:
        return ChatPage(chats, None)
    last_ms = topics[-1].updated_ms
    same = sum(topic.updated_ms == last_ms for topic in topics) + (listed_count if last_ms == before_ms else 0)
    return ChatPage(chats, f"{last_ms}.{same}")


async def _shared(log: EventLog, links: Mapping[str, ChatLink], sub: str) -> list[TopicInfo]:
    """Returns the chats that others share with a user, of those that were shared last."""
    newest = [link.topic for link in links.values() if link.owner != sub][-MAX_SHARED:]
    infos = [await log.topics(topic, limit=1) for topic in newest]
    return [info for found in infos for info in found if info.epoch == links[info.topic].epoch]


def _as_member(link: ChatLink | None) -> tuple[str, str]:
    """Returns the shared id of a chat and the caller's role in it."""
    return (link.shared_id, link.role) if link is not None else ("", "")


def _decode_cursor(cursor: str) -> tuple[int, int]:
    """Returns a cursor's millisecond, and the number of chats of that millisecond that were listed already."""
    match = re.fullmatch(r"([0-9]{1,15})\.([0-9]{1,4})", cursor, re.ASCII)
    if match is None:
        raise BadRequest(f"the cursor {cursor[:40]!r} is not one of this list", code="bad_cursor")
    return int(match[1]), int(match[2])
