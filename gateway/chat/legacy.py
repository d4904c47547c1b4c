"""Moves the chats of a log of format 1 to where format 2 looks for them.

Format 1 called a chat's topic `chat/<id>`, so an id was its first user's alone. Format 2 names it by owner and id, and
its first event says which chat it is (`gateway.chat.topics`). A chat is copied in one append that expects to be the
first, and only then its old topic is deleted: a process that is killed in between has lost nothing, and of two that
move the same chat one gets a conflict and does no harm. That all were moved is remembered in the log itself.

All processes of the older release must have ended: an answer that one of them is still writing would be booked on the
old topic.
"""

import asyncio

import structlog

from events.log.port import Append, Block, EventLog, TopicInfo
from events.log.reading import read_to_head
from gateway.chat.records.chat_record import ChatCreated, encode_event
from gateway.chat.topics import CHATS, chat_topic
from gateway.errors import LogConflict, LogError

FORMAT = 2
FORMAT_TOPIC = "log/format"
MAX_CHATS = 100_000_000

log = structlog.get_logger("format")


async def adopt_format(event_log: EventLog) -> int:
    """Moves every chat of format 1, unless that was done before; how many this call has moved.

    A chat that cannot be moved stays where it is, and is tried again by the next process that starts.
    """
    if (await event_log.read(FORMAT_TOPIC, 0, max_events=1)).epoch:
        return 0
    moved = failed = 0
    topics = await event_log.topics(CHATS, limit=MAX_CHATS)
    for info in reversed(topics):  # the last changed is moved last, so that lists keep their order
        try:
            moved += await _move(event_log, info)
        except LogError as err:
            failed += 1
            log.error("chat cannot be moved to the new format", topic=info.topic, reason=err.detail)
        await asyncio.sleep(0)
    if not failed:
        await event_log.append(Append(topic=FORMAT_TOPIC, data=[b'{"format":%d}' % FORMAT], name="format"))
    if moved:
        log.info("chats were moved to the new format", chats=moved)
    return moved


async def _move(event_log: EventLog, info: TopicInfo) -> bool:
    """False when there was nothing to move: the chat has the new format, or another process was first."""
    blocks: list[Block] = []
    async for part in read_to_head(event_log, info.topic):
        blocks += part.blocks
        if blocks and blocks[0].name == ChatCreated.event:
            return False
    if not blocks:
        return False
    try:
        await event_log.append(*_copy(info, blocks))
        moved = True
    except LogConflict:  # another process, or an earlier one that was killed before it could delete
        moved = False
    await event_log.delete(info.topic)
    return moved


def _copy(info: TopicInfo, blocks: list[Block]) -> list[Append]:
    chat_id = info.topic.removeprefix(CHATS)
    topic = chat_topic(info.owner, chat_id)
    name, data = encode_event(ChatCreated(id=chat_id))
    first = Append(topic=topic, owner=info.owner, name=name, data=[data], expect=1)
    return [first, *(Append(topic=topic, owner=info.owner, name=block.name, data=block.data) for block in blocks)]
