"""Decides where a reader begins, checked against the log before anything is promised."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from events.feed import frames
from events.feed.bookmarks import Bookmark, Bookmarks, beginning_of, position_in, positions_in
from events.feed.feed import Feed
from events.log.hub import Hub
from events.log.port import NO_EVENTS, EventLog, Position
from events.log.topics import covers, stored
from events.log.vector import VectorPosition, decode_vector, is_epoch
from gateway.errors import LogDamaged, LogUnavailable

CATCH_UP_S = 5.0
"""Maximum seconds until a feed knows of what another process has written."""


SubscriptionKey = tuple[tuple[str, ...], bool]
"""The topics of a feed, and whether its events come in envelopes."""


class SubscribeRequest(NamedTuple):
    """The topics that a reader asks for, and from where."""

    topics: tuple[str, ...]
    cursor: str | None = None
    earliest: bool = False
    partial: bool = False
    """Whether the reader takes what is left, when not all can be had."""
    envelope: bool = False
    """Whether the data of each event is to say whence it comes."""

    @property
    def subscription(self) -> "SubscriptionKey":
        """Returns what readers of one feed have in common."""
        return self.topics, self.envelope

    @property
    def own_cursor(self) -> str:
        """Returns the cursor when it is one of ours, else "": nothing else is ever sent back."""
        return self.cursor if self.cursor is not None and decode_vector(self.cursor) is not None else ""


class StartPoint(NamedTuple):
    """The point at which a reader begins."""

    cursor: str
    position: VectorPosition | None
    """The position from which it reads the log; None when it begins at the head."""
    replay: int = 0
    """The number of older events that follow."""
    reason: str = ""
    """The reason for which the cursor could not be used; empty when it could."""
    missed: int | None = None
    """The number of events that the reader loses; None when it is not known."""
    added: tuple[str, ...] = ()
    """The topics and patterns that its cursor did not know, which begin at the head."""


class Starts:
    """Finds start points. Past `max_replay` events a reader is not sent what it missed."""

    def __init__(
        self, log: EventLog, hub: Hub, bookmarks: Bookmarks, max_replay: int, now_ms: Callable[[], int]
    ) -> None:
        self._log = log
        self._now_ms = now_ms
        self._hub = hub
        self._bookmarks = bookmarks
        self._max_replay = max_replay

    async def start(self, feed: Feed, request: SubscribeRequest) -> StartPoint:
        start = await self._start(feed, request)
        if start.position is None or not start.replay:
            return start
        return start._replace(replay=start.replay - await self._count_expired(feed, start.position))

    async def _count_expired(self, feed: Feed, position: VectorPosition) -> int:
        """Returns how many events after a position will not be sent, because they have expired."""
        now_ms, expired = self._now_ms(), 0
        for name, offset, head in zip(position.names, position.offsets, feed.position.offsets, strict=False):
            if offset < head:
                try:
                    counts = await self._log.count_by_name(stored(name), offset, head)
                except LogDamaged:  # the reader is told of it where it comes to it
                    continue
                expired += sum(count for event, count in counts.items() if 0 < frames.expiry_in(event) <= now_ms)
        return expired

    async def _start(self, feed: Feed, request: SubscribeRequest) -> StartPoint:
        if request.cursor is not None:
            bookmark = await self._bookmarks.read(feed, request.cursor)
            if isinstance(bookmark, str):
                position = await self._earliest(feed) if request.partial else None
                return await self._start_with_loss(feed, bookmark, position)
            start = await self._resume(feed, bookmark, request.cursor, partial=request.partial)
            return start._replace(added=_added(feed, bookmark))
        if request.earliest:
            return await self._from(feed, await self._earliest(feed))
        return StartPoint(await feed.cursor(), None)

    async def _resume(self, feed: Feed, bookmark: Bookmark, cursor: str, *, partial: bool) -> StartPoint:
        position = position_in(feed, bookmark)
        deleted_names = [
            name
            for name, at in bookmark.positions.items()
            if at.epoch and name not in feed.position.names and covers(feed.topics, name)
        ]
        reason, missed = await self._check(feed, position)
        if deleted_names:
            reason, missed = _worst([reason, "epoch_changed"]), None
        if reason and partial:
            return await self._start_with_loss(feed, reason, position, missed)
        if reason:
            head = await feed.cursor()
            missed = None if missed is None else missed + _behind(position, feed.position)
            return StartPoint(head, None, 0, reason, missed)
        is_same_stream = not _added(feed, bookmark) and all(covers(feed.topics, name) for name in bookmark.positions)
        return await self._from(feed, position, cursor if is_same_stream else "", partial=partial)

    async def _from(
        self, feed: Feed, position: VectorPosition, cursor: str = "", *, partial: bool = True
    ) -> StartPoint:
        """Begins at `position`, unless too much follows it; `cursor` is the reader's own for that position."""
        replay = _behind(position, feed.position)
        if replay <= self._max_replay:
            return StartPoint(cursor or await self._bookmarks.cursor_of(feed, position), position, replay)
        if partial:
            return await self._start_with_loss(feed, "replay_limit", position, 0)
        head = await feed.cursor()
        return StartPoint(head, None, 0, "replay_limit", _behind(position, feed.position))

    async def _start_with_loss(
        self, feed: Feed, reason: str, position: VectorPosition | None, missed: int | None = None
    ) -> StartPoint:
        """Begins at the head, or at `position` or as soon after it as not too much follows."""
        if position is None:
            return StartPoint(await feed.cursor(), None, 0, reason, missed)
        before = _behind(position, feed.position)
        if before > self._max_replay:
            max_each = self._max_replay // len(position.names)
            for at, head in enumerate(feed.position.offsets[: len(position.names)]):
                if head - position.offsets[at] > max_each:
                    position.renew(at, feed.position.epochs[at])
                    position.move(at, head - max_each)
            missed = None if missed is None else missed + before - _behind(position, feed.position)
        cursor = await self._bookmarks.cursor_of(feed, position)
        return StartPoint(cursor, position, _behind(position, feed.position), reason, missed)

    async def _earliest(self, feed: Feed) -> VectorPosition:
        position = beginning_of(feed)
        for at, name in enumerate(position.names):
            head = feed.position.offsets[at]
            if head:
                part = await self._log.read(stored(name), NO_EVENTS, max_events=1)
                position.renew(at, part.epoch)
                position.move(at, min(part.oldest - 1, head))
        return position

    async def _check(self, feed: Feed, position: VectorPosition) -> tuple[str, int | None]:
        """Moves `position` to what is left after it; returns the reason for a loss, if any, and how much is lost."""
        if feed.index_of(position) is not None:
            return "", 0
        reasons, missed = list[str](), 0
        for at, name in enumerate(position.names):
            offset = position.offsets[at]
            if position.epochs[at] == feed.position.epochs[at] and offset == feed.position.offsets[at]:
                continue
            part = await self._log.read(stored(name), NO_EVENTS, max_events=1)
            if position.epochs[at] and not is_epoch(position.epochs[at], part.epoch):
                reasons.append("epoch_changed")
                position.renew(at, part.epoch)
                position.move(at, part.oldest - 1)
            elif offset > part.head:
                reasons.append("unknown_cursor")
                position.move(at, part.head)
            elif offset + 1 < part.oldest:
                reasons.append("evicted")
                missed += part.oldest - 1 - offset
                position.renew(at, part.epoch)
                position.move(at, part.oldest - 1)
            elif position.epochs[at]:
                position.epochs[at] = part.epoch
            await self._wait_for_feed(feed, at, Position(part.epoch, position.offsets[at]))
        worst = _worst(reasons)
        return worst, missed if worst == "evicted" else None

    async def _wait_for_feed(self, feed: Feed, at: int, log_position: Position) -> None:
        """Waits until the feed knows of what another process has written."""
        end = asyncio.get_running_loop().time() + CATCH_UP_S
        while log_position.epoch and (
            feed.position.epochs[at] != log_position.epoch or feed.position.offsets[at] < log_position.offset
        ):
            if feed.ended or asyncio.get_running_loop().time() > end:
                raise LogUnavailable(f"{feed.position.names[at]!r} is not up to date here")
            self._hub.refresh(stored(feed.position.names[at]))
            await asyncio.sleep(0.005)


def start_at_once(feed: Feed, cursor: str | None) -> StartPoint | None:
    """Returns what `Starts.start` would, when nothing has to be read for it; else None."""
    if cursor is None:
        head_cursor = feed.position.encode()
        return StartPoint(head_cursor, None) if head_cursor else None
    decoded = decode_vector(cursor)
    if decoded is None or decoded.snapshot.offset or not feed.position.is_fixed:
        return None
    positions = positions_in(feed, decoded)
    if not len(positions) == len(feed.position.names) == max(len(decoded.positions), len(decoded.places)):
        return None
    position = position_in(feed, Bookmark(positions))
    index = feed.index_of(position)
    if index is None:
        return None
    return StartPoint(cursor, position, _behind(position, feed.position) - feed.count_expired(index))


def _added(feed: Feed, bookmark: Bookmark) -> tuple[str, ...]:
    return tuple(topic for topic in feed.topics if not bookmark.knows(topic))


def _worst(reasons: Sequence[str]) -> str:
    return max(reasons, key=("", "evicted", "epoch_changed", "unknown_cursor").index, default="")


def _behind(position: VectorPosition, head: VectorPosition) -> int:
    return sum(head.offsets) - sum(position.offsets)
