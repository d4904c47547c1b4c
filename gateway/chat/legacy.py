"""Moves the chats of a log of format 1 to where format 2 looks for them.

Format 1 called a chat's topic `chat/<id>`, so an id was its first user's alone. Format 2 names it by owner and id, and
its first event says which chat it is (`gateway.chat.topics`). A chat is copied in one append that expects to be the
first, and its old topic is deleted only when all of it stands in the new one: a process that is killed in between has
lost nothing, and of two that move the same chat one gets a conflict and does no harm. That all were moved is
remembered in the log itself.

All processes of the older release must have ended: an answer that one of them is still writing would be booked on the
old topic. A chat of more bytes than the log takes at once (64 MB) stays where it is.
"""

import asyncio

import msgspec
import structlog

from events.log.port import Append, Block, EventLog, TopicInfo, read_to_head
from gateway.chat.records.chat_record import ChatCreated, encode_event
from gateway.chat.topics import CHATS, chat_topic
from gateway.errors import ConfigurationError, LogConflict, LogDamaged, LogError

FORMAT = 2
FORMAT_TOPIC = "log/format"
MAX_CHATS = 100_000_000
TICK_S = 0.002
"""Pause after each chat: two that were moved in one millisecond would be listed in no order."""

log = structlog.get_logger("format")


class FormatMark(msgspec.Struct, frozen=True):
    """The one event of FORMAT_TOPIC: the format that the whole log has."""

    format: int


async def adopt_format(event_log: EventLog) -> int:
    """Moves every chat of format 1, unless that was done before; returns how many this call has moved.

    A chat that cannot be moved stays where it is, and is tried again by the next process that starts. Raises
    ConfigurationError for a log of a later format.
    """
    if await _is_marked(event_log):
        return 0
    moves = failures = 0
    topics = await event_log.topics(CHATS, limit=MAX_CHATS)
    for info in reversed(topics):  # the last changed is moved last, so that lists keep their order
        try:
            moves += await _move(event_log, info)
        except LogError as err:
            failures += 1
            log.error("chat cannot be moved to the new format", topic=info.topic, reason=err.detail)
        await asyncio.sleep(TICK_S)
    if not failures:
        mark = msgspec.json.encode(FormatMark(FORMAT))
        await event_log.append(Append(topic=FORMAT_TOPIC, data=[mark], name="format"))
    if moves:
        log.info("chats were moved to the new format", chats=moves)
    return moves


async def _is_marked(event_log: EventLog) -> bool:
    """Returns whether the log says that it has this format; several processes may have said so at once."""
    try:
        part = await event_log.read(FORMAT_TOPIC, 0)
    except LogDamaged as err:  # it exists, so somebody has said so
        log.error("the log's format cannot be read, and is taken for the present one", reason=err.detail)
        return True
    formats = [msgspec.json.decode(mark, type=FormatMark).format for block in part.blocks for mark in block.data]
    if max(formats, default=FORMAT) > FORMAT:
        raise ConfigurationError(
            f"the log has format {max(formats)}, and this release knows formats up to {FORMAT}: "
            "use the newer release that wrote it, or another log"
        )
    return bool(formats)


async def _move(event_log: EventLog, info: TopicInfo) -> bool:
    """Moves a chat; returns False when it has the new format already, or another process was first."""
    blocks = await _blocks(event_log, info.topic)
    if not blocks or blocks[0].name == ChatCreated.event:
        return False
    copy = _copy(info, blocks)
    try:
        await event_log.append(*copy)
        is_moved = True
    except LogConflict:  # another process, or an earlier one that was killed before it could delete
        if not await _is_copied(event_log, copy):
            raise
        is_moved = False
    await event_log.delete(info.topic)
    return is_moved


async def _blocks(event_log: EventLog, topic: str) -> list[Block]:
    """Returns the blocks of a topic; of one that has the new format already, those of the first slice are enough."""
    blocks: list[Block] = []
    async for part in read_to_head(event_log, topic):
        blocks += part.blocks
        if blocks and blocks[0].name == ChatCreated.event:
            break
    return blocks


def _copy(info: TopicInfo, blocks: list[Block]) -> list[Append]:
    chat_id = info.topic.removeprefix(CHATS)
    topic = chat_topic(info.owner, chat_id)
    name, data = encode_event(ChatCreated(id=chat_id))
    first = Append(topic=topic, owner=info.owner, name=name, data=[data], expect=1)
    return [first, *(Append(topic=topic, owner=info.owner, name=block.name, data=block.data) for block in blocks)]


async def _is_copied(event_log: EventLog, copy: list[Append]) -> bool:
    """Returns whether the new topic begins with the copy; a chat of the same name that was begun anew does not."""
    copied = [data for append in copy for data in append.data]
    stored: list[bytes] = []
    async for part in read_to_head(event_log, copy[0].topic):
        stored += [data for block in part.blocks for data in block.data]
    return stored[: len(copied)] == copied
