"""From what a reader asks for to where it begins: checked against the log before anything is promised."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from events.feed.bookmarks import Bookmarks, like, standing
from events.feed.feed import Feed
from events.log.hub import Hub
from events.log.port import EventLog, Position
from events.log.topics import stored
from events.log.vector import VectorPosition, decode_vector, is_epoch
from gateway.errors import LogUnavailable

HEARD_S = 5.0
"""How long news of another process may take."""


class SubscribeRequest(NamedTuple):
    """What a reader wants."""

    topics: tuple[str, ...]
    cursor: str | None = None
    earliest: bool = False
    partial: bool = False
    """When not all can be had, what is left."""

    @property
    def own_cursor(self) -> str:
        """The cursor, when it is one of ours: nothing else is ever sent back."""
        return self.cursor if self.cursor is not None and decode_vector(self.cursor) is not None else ""


class StartPoint(NamedTuple):
    """Where it begins."""

    cursor: str
    position: VectorPosition | None
    """None: at the head."""
    replay: int = 0
    """How many events follow that are older than this moment."""
    reason: str = ""
    """Why the cursor could not be used."""
    missed: int | None = None


class Starts:
    """Past `max_replay` events a reader is not shown what it missed."""

    def __init__(self, log: EventLog, hub: Hub, bookmarks: Bookmarks, max_replay: int) -> None:
        self._log = log
        self._hub = hub
        self._bookmarks = bookmarks
        self._max_replay = max_replay

    async def start(self, feed: Feed, ask: SubscribeRequest) -> StartPoint:
        if ask.cursor is not None:
            return await self._resume(feed, ask.cursor, partial=ask.partial)
        if ask.earliest:
            return await self._from(feed, await self._earliest(feed))
        return StartPoint(await feed.cursor(), None)

    async def _resume(self, feed: Feed, cursor: str, *, partial: bool) -> StartPoint:
        known = await self._bookmarks.positions(feed, cursor)
        if isinstance(known, str):
            return await self._lost(feed, known, await self._earliest(feed) if partial else None)
        stand = standing(feed, known)
        gone = [name for name, at in known.items() if at.epoch and name not in feed.stand.names]
        reason, missed = await self._check(feed, stand)
        if gone:
            reason, missed = _worst([reason, "epoch_changed"]), None
        if reason and partial:
            return await self._lost(feed, reason, stand, missed)
        if reason:
            head = await feed.cursor()
            return StartPoint(head, None, 0, reason, None if missed is None else missed + _behind(stand, feed.stand))
        return await self._from(feed, stand, cursor, partial=partial)

    async def _from(self, feed: Feed, stand: VectorPosition, cursor: str = "", *, partial: bool = True) -> StartPoint:
        """Begins at `stand`, unless that is too much; `cursor`: as its reader wrote it."""
        replay = _behind(stand, feed.stand)
        if replay <= self._max_replay:
            return StartPoint(cursor or await self._bookmarks.text_of(feed, stand), stand, replay)
        if partial:
            return await self._lost(feed, "replay_limit", stand, 0)
        head = await feed.cursor()
        return StartPoint(head, None, 0, "replay_limit", _behind(stand, feed.stand))

    async def _lost(
        self, feed: Feed, reason: str, stand: VectorPosition | None, missed: int | None = None
    ) -> StartPoint:
        """Goes on at the head, or from `stand`, as far as that is not too much."""
        if stand is None:
            return StartPoint(await feed.cursor(), None, 0, reason, missed)
        before = _behind(stand, feed.stand)
        if before > self._max_replay:
            each = self._max_replay // len(stand.names)
            for at, head in enumerate(feed.stand.offsets[: len(stand.names)]):
                if head - stand.offsets[at] > each:
                    stand.renew(at, feed.stand.epochs[at])
                    stand.move(at, head - each)
            missed = None if missed is None else missed + before - _behind(stand, feed.stand)
        return StartPoint(await self._bookmarks.text_of(feed, stand), stand, _behind(stand, feed.stand), reason, missed)

    async def _earliest(self, feed: Feed) -> VectorPosition:
        stand = like(feed.stand)
        for at, name in enumerate(stand.names):
            head = feed.stand.offsets[at]
            if head:
                found = await self._log.read(stored(name), 0, max_events=1)
                stand.renew(at, found.epoch)
                stand.move(at, min(found.oldest - 1, head))
        return stand

    async def _check(self, feed: Feed, stand: VectorPosition) -> tuple[str, int | None]:
        """Why not all that follows `stand` can be had, and how much is lost; moves it to what is left."""
        if feed.index_of(stand) is not None:
            return "", 0
        reasons, missed = list[str](), 0
        for at, name in enumerate(stand.names):
            offset = stand.offsets[at]
            if stand.epochs[at] == feed.stand.epochs[at] and offset == feed.stand.offsets[at]:
                continue
            found = await self._log.read(stored(name), offset, max_events=1)
            if stand.epochs[at] and not is_epoch(stand.epochs[at], found.epoch):
                reasons.append("epoch_changed")
                stand.renew(at, found.epoch)
                stand.move(at, found.oldest - 1)
            elif offset > found.head:
                reasons.append("unknown_cursor")
                stand.move(at, found.head)
            elif offset + 1 < found.oldest:
                reasons.append("evicted")
                missed += found.oldest - 1 - offset
                stand.renew(at, found.epoch)
                stand.move(at, found.oldest - 1)
            elif stand.epochs[at]:
                stand.epochs[at] = found.epoch
            await self._heard(feed, at, Position(found.epoch, stand.offsets[at]))
        worst = _worst(reasons)
        return worst, missed if worst == "evicted" else None

    async def _heard(self, feed: Feed, at: int, position: Position) -> None:
        """Waits until the feed knows of what another process has written."""
        end = asyncio.get_running_loop().time() + HEARD_S
        while position.epoch and (feed.stand.epochs[at] != position.epoch or feed.stand.offsets[at] < position.offset):
            if feed.ended or asyncio.get_running_loop().time() > end:
                raise LogUnavailable(f"{feed.stand.names[at]!r} is not up to date here")
            self._hub.refresh(stored(feed.stand.names[at]))
            await asyncio.sleep(0.005)


def start_at_once(feed: Feed, cursor: str | None) -> StartPoint | None:
    """As `Starts.start`, when nothing has to be read for it; else None."""
    if cursor is None:
        text = feed.stand.encode()
        return StartPoint(text, None) if text else None
    told = decode_vector(cursor)
    if told is None or told.tag != feed.stand.tag or not feed.stand.is_fixed:
        return None
    if len(told.positions) != len(feed.stand.names):
        return None
    stand = standing(feed, dict(zip(feed.stand.names, told.positions, strict=True)))
    if feed.index_of(stand) is None:
        return None
    return StartPoint(cursor, stand, _behind(stand, feed.stand))


def _worst(reasons: Sequence[str]) -> str:
    return max(reasons, key=("", "evicted", "epoch_changed", "unknown_cursor").index, default="")


def _behind(stand: VectorPosition, head: VectorPosition) -> int:
    return sum(head.offsets) - sum(stand.offsets)
