"""Reads around pages of the SQLite file that are damaged, block by block. Nothing here runs while the file is sound.

The index of blocks lies in pages of its own: it says where each block begins, even one that cannot be read. When the
newest block of a topic is such a one, nobody knows how many events it had; it counts as UNKNOWN_EVENTS then, for
readers and for the writer alike, so no offset is ever used twice, and all of them are reported as lost.
"""

import contextlib
from collections.abc import Mapping

from events.log.port import Block, Slice, TopicInfo
from events.log.sqlite.file import Damage, Database, SqlError, is_damage
from events.log.sqlite.plan import PlannedTopic

UNKNOWN_EVENTS = 256
"""Events that a newest block which cannot be read counts as; one that appends share has not many more."""
MAX_BLOCKS = 10_000
"""Maximum blocks among which a reader looks for one that is not damaged."""
MAX_PROBES = 100
"""Maximum blocks among which the writer looks for the size of a topic."""

TOPIC = "SELECT id, epoch, owner, closed, oldest, base, updated_ms FROM topics WHERE name = ?"
NAMES = """
SELECT name FROM topics WHERE name >= :prefix AND name < :end AND (:owner IS NULL OR owner = :owner) ORDER BY name
"""
FIRSTS_BACK = """
SELECT first FROM blocks INDEXED BY blocks_by_topic WHERE topic_id = ? AND first <= ? ORDER BY first DESC LIMIT ?
"""
FIRSTS_FROM = f"""
SELECT first FROM blocks INDEXED BY blocks_by_topic WHERE topic_id = ? AND first >= ? AND first <= ?
ORDER BY first LIMIT {MAX_BLOCKS}
"""
TAIL = "SELECT first + count - 1, total, closing, time_ms FROM blocks WHERE topic_id = ? AND first = ?"
BLOCK = "SELECT first, count, name, time_ms, CAST(data AS BLOB) FROM blocks WHERE topic_id = ? AND first = ?"
END = 1 << 60
"""Offset past every event."""


def find_topic(db: Database, name: str) -> tuple[PlannedTopic, int]:
    """Returns a topic's state and when it changed last (ms since 1970), as far as its newest readable block tells.

    A topic that does not exist has no epoch.
    """
    row = db.execute(TOPIC, (name,)).fetchone()
    if row is None:
        return PlannedTopic(name), 0
    topic_id, epoch, owner, closed, oldest, base, updated_ms = row
    topic = PlannedTopic(name, epoch, owner, oldest - 1, base, bool(closed), oldest, base, topic_id)
    firsts = [first for (first,) in db.execute(FIRSTS_BACK, (topic_id, END, MAX_PROBES)).fetchall()]
    if firsts:
        topic.head = firsts[0] + UNKNOWN_EVENTS - 1
    for first in firsts:
        with contextlib.suppress(SqlError):
            last, topic.total, is_closing, updated_ms = db.execute(TAIL, (topic_id, first)).fetchone()
            if first == firsts[0]:
                topic.head, topic.closed = last, topic.closed or bool(is_closing)
            break
    return topic, updated_ms


def read_around(db: Database, name: str, after: int, max_events: int) -> Slice:
    """Returns what a read returns, up to the first damaged block; raises SqlError when that is the first of all."""
    topic, _ = find_topic(db, name)
    blocks: list[Block] = []
    if after < topic.head:
        for first in _firsts(db, topic.id, after, min(topic.head, after + max_events)):
            try:
                block = _block(db, topic.id, first)
            except SqlError as err:
                if blocks or not is_damage(err):
                    break
                raise
            blocks.append(block)
    return Slice(
        epoch=topic.epoch, owner=topic.owner, oldest=topic.oldest, head=topic.head, closed=topic.closed, blocks=blocks
    )


def next_readable(db: Database, name: str, after: int, upto: int) -> int:
    """Returns the offset of the first event after `after` whose block can be read; `upto` + 1 when none is."""
    topic, _ = find_topic(db, name)
    for first in _firsts(db, topic.id, after, upto):
        with contextlib.suppress(SqlError):
            if _block(db, topic.id, first).last > after:
                return max(first, after + 1)
    return upto + 1


def list_topics(db: Database, values: Mapping[str, str | int | None]) -> list[TopicInfo]:
    """Returns what a listing returns, when the newest block of some topic cannot be read."""
    before_ms, limit = values["before_ms"], int(values["limit"] or 0)
    infos: list[TopicInfo] = []
    for (name,) in db.execute(NAMES, values).fetchall():
        topic, updated_ms = find_topic(db, name)
        if (values["open_only"] and topic.closed) or (before_ms is not None and updated_ms >= int(before_ms)):
            continue
        infos.append(
            TopicInfo(
                topic=name,
                owner=topic.owner,
                epoch=topic.epoch,
                head=topic.head,
                updated_ms=updated_ms,
                closed=topic.closed,
            )
        )
    infos.sort(key=lambda info: (-info.updated_ms, info.topic))
    return infos[:limit]


def delete_blocks(db: Database, topic_id: int) -> None:
    """Deletes the blocks of a topic that can be deleted; its id is never used again, so nobody finds the others."""
    for (first,) in db.execute(FIRSTS_BACK, (topic_id, END, -1)).fetchall():
        with contextlib.suppress(SqlError):
            db.execute("DELETE FROM blocks WHERE topic_id = ? AND first = ?", (topic_id, first))


def _firsts(db: Database, topic_id: int, after: int, upto: int) -> list[int]:
    """Returns where the blocks begin that hold the events after `after`, up to `upto`."""
    start = db.execute(FIRSTS_BACK, (topic_id, after + 1, 1)).fetchone()
    rows = db.execute(FIRSTS_FROM, (topic_id, start[0] if start is not None else 0, upto)).fetchall()
    return [first for (first,) in rows]


def _block(db: Database, topic_id: int, first: int) -> Block:
    """Reads one block. Raises SqlError when it is damaged (Damage where only its lines tell)."""
    offset, count, name, time_ms, data = db.execute(BLOCK, (topic_id, first)).fetchone()
    lines = data.split(b"\n")
    if len(lines) != count or offset != first:
        raise Damage(f"the block at {first} is damaged")
    return Block(offset, lines, name, time_ms)
