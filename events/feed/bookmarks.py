"""Turns cursors of the events lane into positions and back, with a snapshot in the log where a cursor needs one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from events.feed.feed import Feed, Save
from events.log.cursor import NOWHERE
from events.log.port import Append, EventLog, Position
from events.log.topics import covers, is_pattern
from events.log.vector import (
    DecodedVector,
    VectorPosition,
    VectorSnapshot,
    decode_vector,
    is_epoch,
    tag_of,
    topic_tag,
)
from gateway.errors import Gone, LogDamaged

SNAPSHOTS = "cursor/"
"""Prefix of the log topics that hold snapshots."""


class Bookmark(NamedTuple):
    """What a cursor says: a position in each topic that its stream had."""

    positions: Mapping[str, Position]
    patterns: Sequence[str] = ()
    """The patterns that its stream followed: a topic of one that has no position here began after the cursor."""

    def knows(self, topic: str) -> bool:
        """Returns whether its stream followed a topic, or all topics of a pattern."""
        return topic in self.positions or covers(self.patterns, topic)


class Bookmarks:
    """Reads and writes cursors, and keeps the snapshots that they name in the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def read(self, feed: Feed, cursor: str) -> Bookmark | str:
        """Returns what a cursor says of a feed's topics, or the reason for which it cannot be used."""
        decoded = decode_vector(cursor)
        if decoded is None:
            return "malformed"
        if decoded.snapshot.offset or not (decoded.positions or decoded.places):
            return await self._read_snapshot(feed, decoded)
        positions = positions_in(feed, decoded)
        return Bookmark(positions) if positions else "unknown_cursor"

    async def _read_snapshot(self, feed: Feed, decoded: DecodedVector) -> Bookmark | str:
        number = decoded.snapshot.offset
        try:
            part = await self._log.read(SNAPSHOTS + decoded.tag, number - 1, max_events=1)
        except LogDamaged:
            return "evicted"
        if number < 1 or number > part.head or not is_epoch(decoded.snapshot.epoch, part.epoch):
            return "unknown_cursor"
        if number < part.oldest:
            return "evicted"
        snapshot = msgspec.json.decode(part.blocks[0].data[0], type=VectorSnapshot)
        if any(index >= len(snapshot.names) for index in decoded.changes):
            return "unknown_cursor"
        for index, offset in decoded.changes.items():
            snapshot.offsets[index] = offset
        positions = dict(zip(snapshot.names, map(Position, snapshot.epochs, snapshot.offsets), strict=True))
        bookmark = Bookmark(positions, [topic for topic in snapshot.topics if is_pattern(topic)])
        return bookmark if any(map(bookmark.knows, [*feed.topics, *feed.position.names])) else "unknown_cursor"

    async def position_of(self, feed: Feed, cursor: str) -> VectorPosition:
        """Returns the position of a cursor of ours. Raises Gone when what it needs is no longer kept."""
        bookmark = await self.read(feed, cursor)
        if isinstance(bookmark, str):
            raise Gone(f"the reader fell too far behind: {bookmark}", code=bookmark)
        return position_in(feed, bookmark)

    async def cursor_of(self, feed: Feed, position: VectorPosition) -> str:
        """Returns the cursor of a position, after keeping a snapshot when it needs one."""
        cursor = position.encode()
        if cursor is None:
            await self.keep(feed, position)
            cursor = position.encode()
        assert cursor is not None
        return cursor

    async def keep(self, feed: Feed, position: VectorPosition) -> None:
        """Keeps a snapshot of a position, so that its next cursors can say what moved since."""
        position.base_on(await self.saver(feed.topics)(position))

    def saver(self, topics: tuple[str, ...]) -> Save:
        """Returns the function that keeps snapshots of a feed of these topics."""

        async def save(position: VectorPosition) -> Position:
            data = msgspec.json.encode(position.to_snapshot(topics))
            [result] = await self._log.append(Append(topic=SNAPSHOTS + position.tag, data=[data], name="snapshot"))
            return Position(result.epoch, result.first)

        return save


def positions_in(feed: Feed, decoded: DecodedVector) -> dict[str, Position]:
    """Returns the positions that a cursor which needs no snapshot has in topics of a feed."""
    names = feed.position.names
    if decoded.places:
        tagged = {name: topic_tag(name) for name in names}
        return {name: decoded.places[tag] for name, tag in tagged.items() if tag in decoded.places}
    if decoded.tag == feed.position.tag and feed.position.is_fixed:
        is_whole = len(decoded.positions) == len(names)
        return dict(zip(names, decoded.positions, strict=True)) if is_whole else {}
    if len(decoded.positions) > 1:
        return {}  # a cursor of an older release, which only those topics can read
    return {name: decoded.positions[0] for name in names if tag_of((name,)) == decoded.tag}


def beginning_of(feed: Feed) -> VectorPosition:
    """Returns the position before the first event of each topic of a feed."""
    head = feed.position
    return VectorPosition(head.tag, head.names, [NOWHERE for _ in head.names], is_fixed=head.is_fixed)


def position_in(feed: Feed, bookmark: Bookmark) -> VectorPosition:
    """Returns the position in a feed that a cursor means, with whole epochs where the feed knows them.

    A topic that the cursor's stream did not follow begins at the head.
    """
    vector, head = beginning_of(feed), feed.position
    for at, name in enumerate(vector.names):
        epoch = head.epochs[at]
        if not bookmark.knows(name):
            vector.epochs[at], vector.offsets[at] = epoch, head.offsets[at]
            continue
        position = bookmark.positions.get(name, NOWHERE)
        vector.epochs[at] = epoch if position.epoch and is_epoch(position.epoch, epoch) else position.epoch
        vector.offsets[at] = position.offset
    return vector
