"""Knows what the log holds of one user: the topics that they own, the one named after them, and their usage.

What they published to topics that are not the gateway's has no owner, so nobody can find it here; their name alone
stands for a while in the log's tickets and presence.

A user's usage can be given to a pseudonym, so that the sums stay and the person does not. The pseudonym is random and
written into the user's own book first, so that a move which was broken off goes on under the same name. Then the book
is deleted, and with it the only place that knew both names. Rows keep their offsets and times. Ids that a client chose
are left out, and those of the work itself replaced: an audio session's name proves to those who know a user that it is
theirs.
"""

import secrets
from hashlib import sha256

import msgspec

from events.log.port import NO_EVENTS, Append, Block, EventLog, TopicInfo, read_to_head
from events.log.topics import stored, user_topic
from gateway.core.usage import usage_topic
from gateway.core.usage_outbox import cursor_topic
from gateway.errors import LogDamaged

MAX_TOPICS = 1_000_000
"""Maximum topics of one user that are listed at once."""
FORGOTTEN = "forgotten"
"""Name of the event that holds the pseudonym."""
SETTLED = "settled"
"""Name of the events that are counted as rows; of each there is an earlier one that reserved it."""
LEFT_OUT = frozenset({"chatId", "key", "sub", "session"})
"""Fields of a row that may tell whose it is."""
IDS = frozenset({"id", "runId"})
"""Fields that name the work of a row, the same in the two events of a row."""


async def personal_topics(log: EventLog, sub: str) -> list[TopicInfo]:
    """Returns the topics that a user owns, last changed first, and then their own one of the events lane."""
    topics = await log.topics("", owner=sub, limit=MAX_TOPICS) if sub else []
    own = stored(user_topic(sub))
    part = await log.read(own, NO_EVENTS, max_events=1)
    if part.epoch and all(topic.topic != own for topic in topics):
        topics.append(
            TopicInfo(topic=own, owner="", epoch=part.epoch, head=part.head, updated_ms=0, closed=part.closed)
        )
    return topics


async def give_usage_to_pseudonym(log: EventLog, sub: str) -> tuple[str, int]:
    """Moves the usage rows of a user; returns the pseudonym and the number of rows, or "" and 0 when there are none.

    What was delivered to the operator's billing is not delivered again under the pseudonym: how far that is goes along.
    A book of which a part is damaged is moved up to there. May be repeated at any time, and called by two at once.
    """
    topic = usage_topic(sub)
    state = await log.read(topic, NO_EVENTS, max_events=1)
    if not state.epoch:
        return "", 0
    name, rows = await _pseudonym(log, topic), 0
    await _give_cursor(log, sub, name)
    try:
        async for part in read_to_head(log, topic):
            blocks = [_anonymous(block, name) for block in part.blocks]
            await log.adopt(usage_topic(name), msgspec.structs.replace(part, owner=name, blocks=blocks))
            rows += sum(len(block.data) for block in blocks if block.name == SETTLED)
    except LogDamaged:
        pass  # what is behind cannot be kept, and must not stay
    await log.delete(topic)
    await log.delete(cursor_topic(sub))
    return name, rows


async def _give_cursor(log: EventLog, sub: str, name: str) -> None:
    """Notes how far the rows of a user are delivered as that of the pseudonym, before it has any."""
    state = await log.read(cursor_topic(sub), NO_EVENTS, max_events=1)
    newest = (await log.read(cursor_topic(sub), state.head - 1, max_events=1)).blocks if state.head else ()
    if newest:
        cursor = [newest[-1].data[-1]]
        await log.append(Append(topic=cursor_topic(name), data=cursor, name=newest[-1].name, owner=name))


async def _pseudonym(log: EventLog, topic: str) -> str:
    """Returns the pseudonym that the book holds already, or a new one that it holds now."""
    name = ""
    try:
        async for part in read_to_head(log, topic):
            for block in part.blocks:
                if block.name == FORGOTTEN and not name:
                    name = msgspec.json.decode(block.data[0], type=str)
    except LogDamaged:
        name = ""
    if not name:
        name = f"{FORGOTTEN}-{secrets.token_hex(8)}"
        await log.append(Append(topic=topic, data=[msgspec.json.encode(name)], name=FORGOTTEN))
    return name


def _anonymous(block: Block, pseudonym: str) -> Block:
    data = [b"{}" if block.name == FORGOTTEN else _anonymous_row(row, pseudonym) for row in block.data]
    return Block(first=block.first, data=data, name=block.name, time_ms=block.time_ms)


def _anonymous_row(row: bytes, pseudonym: str) -> bytes:
    fields = msgspec.json.decode(row, type=dict[str, object])
    kept = {name: value for name, value in fields.items() if name not in LEFT_OUT}
    ids = {name: sha256(f"{pseudonym}\n{kept[name]}".encode()).hexdigest()[:20] for name in IDS & kept.keys()}
    return msgspec.json.encode(kept | ids)
