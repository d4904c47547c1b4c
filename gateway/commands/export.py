"""`trilane export SUB`: writes what the log holds of one user as JSON Lines, one topic after another.

First a line says what it is. Then come the chats of others that they are a member of, or were, each with what they
have said there. Each chat of theirs comes as its owner sees it, and after that every event of every topic of theirs as
it is stored: messages that were deleted from a chat, answers that are being written, transcripts, notifications,
usage. At most one chat is in memory at a time.
"""

import time
from collections.abc import AsyncIterator
from typing import IO

import msgspec
from msgspec import Raw

from events.log.port import EventLog, TopicInfo, read_past_damage
from gateway.chat.forgotten_member import joined_chats
from gateway.chat.history import History
from gateway.chat.records.authors import author_of
from gateway.chat.topics import CHATS
from gateway.core.engines import opened_log
from gateway.core.personal import personal_topics
from gateway.errors import NotFound
from gateway.settings import Settings

FORMAT = 1


async def export(settings: Settings, sub: str, out: IO[bytes]) -> int:
    """Writes the lines of a user to `out`; returns how many. Raises NotFound when the log holds nothing of them."""
    count = 0
    async with opened_log(settings) as log:
        topics = await personal_topics(log, sub)
        if not topics:
            raise NotFound(f"the log holds nothing of the user {sub!r}")
        head = {"type": "export", "format": FORMAT, "sub": sub, "time": int(time.time() * 1000), "topics": len(topics)}
        out.write(msgspec.json.encode(head) + b"\n")
        async for chat in joined_chats(log, sub):
            line = _membership(chat, sub)
            out.write(msgspec.json.encode(line) + b"\n")
            count += 1
        for info in topics:
            async for line in _lines(log, info):
                out.write(msgspec.json.encode(line) + b"\n")
                count += 1
    return count


async def _lines(log: EventLog, info: TopicInfo) -> AsyncIterator[dict[str, object]]:
    if info.topic.startswith(CHATS):
        yield await _chat(log, info)
    losses: list[tuple[int, int]] = []
    async for part in read_past_damage(log, info.topic, lambda first, last: losses.append((first, last))):
        for first, last in losses:
            yield {"type": "damaged", "topic": info.topic, "first": first, "last": last}
        losses.clear()
        for block in part.blocks:
            for offset, data in enumerate(block.data, block.first):
                where: dict[str, object] = {"type": "event", "topic": info.topic, "offset": offset}
                yield {**where, "event": block.name, "time": block.time_ms, "data": Raw(data)}


def _membership(chat: History, sub: str) -> dict[str, object]:
    """Returns what a user has of a chat of others: their place in it, if they still have one, and what they said."""
    said = [message for message in chat.messages if author_of(message.metadata) == sub]
    role = chat.members.get(sub)
    return {"type": "membership", "id": chat.chat_id, "sharedId": chat.shared_id, "role": role, "messages": said}


async def _chat(log: EventLog, info: TopicInfo) -> dict[str, object]:
    """Returns a chat as its owner sees it."""
    history = History(chat_id="")
    async for part in read_past_damage(log, info.topic, history.lose):
        for block in part.blocks:
            history.apply(block)
    return {"type": "chat", "topic": info.topic, "id": history.chat_id, "messages": history.messages}
