"""Cursors of the events lane, in and out: where a reader stands in its topics, with a snapshot in the log at need."""

import msgspec

from events.feed.feed import Feed, Save
from events.log.cursor import NOWHERE
from events.log.port import Append, EventLog, Position
from events.log.vector import DecodedVector, VectorPosition, VectorSnapshot, decode_vector, is_epoch
from gateway.errors import Gone

KEPT = "cursor/"
"""Log topics of snapshots."""


class Bookmarks:
    """What cursors stand for, as far as the log knows."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def positions(self, feed: Feed, cursor: str) -> dict[str, Position] | str:
        """Where it says that its reader stands; or why it cannot be used."""
        told = decode_vector(cursor)
        if told is None:
            return "malformed"
        if told.tag != feed.stand.tag:
            return "unknown_cursor"
        if told.positions:
            fits = feed.stand.is_fixed and len(told.positions) == len(feed.stand.names)
            known = dict(zip(feed.stand.names, told.positions, strict=True)) if fits else None
        else:
            known = await self._snapshot(feed, told)
        return "unknown_cursor" if known is None else known

    async def _snapshot(self, feed: Feed, told: DecodedVector) -> dict[str, Position] | str:
        number = told.snapshot.offset
        found = await self._log.read(KEPT + told.tag, number - 1, max_events=1)
        if number < 1 or number > found.head or not is_epoch(told.snapshot.epoch, found.epoch):
            return "unknown_cursor"
        if number < found.oldest:
            return "evicted"
        kept = msgspec.json.decode(found.blocks[0].data[0], type=VectorSnapshot)
        if kept.topics != feed.topics or any(index >= len(kept.names) for index in told.changes):
            return "unknown_cursor"
        for index, offset in told.changes.items():
            kept.offsets[index] = offset
        positions = map(Position, kept.epochs, kept.offsets)
        return dict(zip(kept.names, positions, strict=True))

    async def stand_of(self, feed: Feed, cursor: str) -> VectorPosition:
        """Where a cursor of ours stands. Raises Gone when what it needs is no longer kept."""
        known = await self.positions(feed, cursor)
        if isinstance(known, str):
            raise Gone(f"the reader fell too far behind: {known}", code=known)
        return standing(feed, known)

    async def text_of(self, feed: Feed, stand: VectorPosition) -> str:
        """Its cursor; keeps a snapshot when it needs one."""
        text = stand.encode()
        if text is None:
            await self.keep(feed, stand)
            text = stand.encode()
        assert text is not None
        return text

    async def keep(self, feed: Feed, stand: VectorPosition) -> None:
        """Keeps where a reader stands, so that its next cursors can say what moved since."""
        stand.base_on(await self.saver(feed.topics)(stand))

    def saver(self, topics: tuple[str, ...]) -> Save:
        """How a feed of these topics keeps where it stands."""

        async def save(stand: VectorPosition) -> Position:
            data = msgspec.json.encode(stand.to_snapshot(topics))
            [kept] = await self._log.append(Append(topic=KEPT + stand.tag, data=[data], name="snapshot"))
            return Position(kept.epoch, kept.first)

        return save


def like(stand: VectorPosition) -> VectorPosition:
    """The same topics, all from the beginning."""
    return VectorPosition(stand.tag, stand.names, [NOWHERE for _ in stand.names], is_fixed=stand.is_fixed)


def standing(feed: Feed, known: dict[str, Position]) -> VectorPosition:
    """With whole epochs, where the feed knows them."""
    stand = like(feed.stand)
    for at, name in enumerate(stand.names):
        position = known.get(name, NOWHERE)
        epoch = feed.stand.epochs[at]
        stand.epochs[at] = epoch if position.epoch and is_epoch(position.epoch, epoch) else position.epoch
        stand.offsets[at] = position.offset
    return stand
