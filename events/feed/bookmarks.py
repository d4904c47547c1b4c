"""Turns cursors of the events lane into positions and back, with a snapshot in the log where a cursor needs one."""

import msgspec

from events.feed.feed import Feed, Save
from events.log.cursor import NOWHERE
from events.log.port import Append, EventLog, Position
from events.log.vector import DecodedVector, VectorPosition, VectorSnapshot, decode_vector, is_epoch
from gateway.errors import Gone

SNAPSHOTS = "cursor/"
"""Prefix of the log topics that hold snapshots."""


class Bookmarks:
    """Reads and writes cursors, and keeps the snapshots that they name in the log."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def positions(self, feed: Feed, cursor: str) -> dict[str, Position] | str:
        """Returns the position in each topic that a cursor names, or the reason for which it cannot be used."""
        decoded = decode_vector(cursor)
        if decoded is None:
            return "malformed"
        if decoded.tag != feed.position.tag:
            return "unknown_cursor"
        if not decoded.positions:
            return await self._snapshot_positions(feed, decoded)
        if not feed.position.is_fixed or len(decoded.positions) != len(feed.position.names):
            return "unknown_cursor"
        return dict(zip(feed.position.names, decoded.positions, strict=True))

    async def _snapshot_positions(self, feed: Feed, decoded: DecodedVector) -> dict[str, Position] | str:
        number = decoded.snapshot.offset
        part = await self._log.read(SNAPSHOTS + decoded.tag, number - 1, max_events=1)
        if number < 1 or number > part.head or not is_epoch(decoded.snapshot.epoch, part.epoch):
            return "unknown_cursor"
        if number < part.oldest:
            return "evicted"
        snapshot = msgspec.json.decode(part.blocks[0].data[0], type=VectorSnapshot)
        if snapshot.topics != feed.topics or any(index >= len(snapshot.names) for index in decoded.changes):
            return "unknown_cursor"
        for index, offset in decoded.changes.items():
            snapshot.offsets[index] = offset
        positions = map(Position, snapshot.epochs, snapshot.offsets)
        return dict(zip(snapshot.names, positions, strict=True))

    async def position_of(self, feed: Feed, cursor: str) -> VectorPosition:
        """Returns the position of a cursor of ours. Raises Gone when what it needs is no longer kept."""
        positions = await self.positions(feed, cursor)
        if isinstance(positions, str):
            raise Gone(f"the reader fell too far behind: {positions}", code=positions)
        return position_in(feed, positions)

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


def beginning_of(feed: Feed) -> VectorPosition:
    """Returns the position before the first event of each topic of a feed."""
    head = feed.position
    return VectorPosition(head.tag, head.names, [NOWHERE for _ in head.names], is_fixed=head.is_fixed)


def position_in(feed: Feed, positions: dict[str, Position]) -> VectorPosition:
    """Returns these positions as one position in a feed, with whole epochs where the feed knows them."""
    vector = beginning_of(feed)
    for at, name in enumerate(vector.names):
        position = positions.get(name, NOWHERE)
        epoch = feed.position.epochs[at]
        vector.epochs[at] = epoch if position.epoch and is_epoch(position.epoch, epoch) else position.epoch
        vector.offsets[at] = position.offset
    return vector
