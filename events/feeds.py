"""Who follows what in this process: one feed per subscription, and the way from a cursor to where its reader begins.

A cursor is checked against the log before anything is promised: `hello` says whether all that followed it will come,
and if not, why and how much is missing.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from events.feed import MAX_FOUND, Feed, Save
from events.hub import Hub
from events.log import Append, EventLog, Position
from events.subscription import Subscription
from events.topics import is_pattern, stored
from events.vector import NOWHERE, Snapshot, Stand, Told, decode, is_epoch, tag_of
from gateway.errors import BadRequest, Gone, LogUnavailable

KEPT = "cursor/"
"""Log topics of snapshots."""
HEARD_S = 5.0
"""How long news of another process may take."""
RINGS_MAX_BYTES = 134_217_728
"""What all rings of this process may hold; past that those that were quiet longest are emptied to half of it."""


class Ask(NamedTuple):
    """What a reader wants."""

    topics: tuple[str, ...]
    cursor: str | None = None
    earliest: bool = False
    partial: bool = False
    """When not all can be had, what is left."""


class Start(NamedTuple):
    """Where it begins."""

    cursor: str
    stand: Stand | None
    """None: at the head."""
    replay: int = 0
    """How many events follow that are older than this moment."""
    reason: str = ""
    """Why the cursor could not be used."""
    missed: int | None = None


class Feeds:
    """Opens and closes subscriptions."""

    def __init__(self, log: EventLog, hub: Hub, *, max_replay: int, clock: Callable[[], float] = time.time) -> None:
        self.log = log
        self._hub = hub
        self._max_replay = max_replay
        self._clock = clock
        self._feeds: dict[tuple[str, ...], Feed] = {}
        self._opening: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self.came: Callable[[Sequence[str]], None] = _nothing
        """Told what every stream that begins has asked for."""
        self.left: Callable[[Sequence[str]], None] = _nothing
        """And every one that ends."""
        self.changed: Callable[[Sequence[str]], None] = _nothing
        """Told the topics of which `following` has changed."""

    def __len__(self) -> int:
        return len(self._feeds)

    def now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def open(self, ask: Ask, sub: str) -> tuple[Subscription, Start]:
        """A subscription that is yet to begin where `Start` says. Raises BadRequest, LogError."""
        feed = self._feeds.get(ask.topics) or self._make(ask.topics)
        subscription = Subscription(self, feed, sub)
        self.came(ask.topics)
        try:
            opening = self._opening.get(ask.topics)
            if opening is not None:
                await asyncio.shield(opening)
            start = await self._start(feed, ask)
        except BaseException:
            subscription.close()
            raise
        self.changed(feed.stand.names)
        return subscription, start

    def open_at_once(self, ask: Ask, sub: str) -> tuple[Subscription, Start] | None:
        """As `open`, when nothing has to be read for it: its feed is there, and has all that is asked for."""
        feed = self._feeds.get(ask.topics)
        if feed is None or not feed.begun or feed.ended or ask.earliest:
            return None
        start = _start_at_once(feed, ask.cursor)
        if start is None:
            return None
        subscription = Subscription(self, feed, sub)
        self.came(ask.topics)
        self.changed(feed.stand.names)
        return subscription, start

    def leave(self, subscription: Subscription) -> None:
        """Idempotent."""
        feed = subscription.feed
        if not feed.leave(subscription):
            return
        self.left(feed.topics)
        self.changed(feed.stand.names)
        if not feed.followers and not feed.live.readers:
            if self._feeds.get(feed.topics) is feed:
                del self._feeds[feed.topics]
                if (opening := self._opening.pop(feed.topics, None)) is not None:
                    opening.cancel()
            feed.close()

    async def close(self) -> None:
        """Ends every feed; who follows one is cut."""
        for feed in list(self._feeds.values()):
            feed.close()
        self._feeds.clear()

    def following(self, topic: str) -> list[str]:
        """Who follows a topic here, by its own name or by a pattern: a user as often as it has streams."""
        feeds = [feed for feed in self._feeds.values() if topic in feed.stand.names]
        return [follower.sub for feed in feeds for follower in feed.everyone]

    # A feed begins

    def _make(self, topics: tuple[str, ...]) -> Feed:
        names = [name for name in topics if not is_pattern(name)]
        fixed = len(names) == len(topics)
        stand = Stand(tag_of(topics), names, [NOWHERE for _ in names], is_fixed=fixed)
        feed = self._feeds[topics] = Feed(self._hub, topics, stand, self._saver(topics), self.now_ms)
        for name in names:
            self._hub.follow(stored(name), feed.strand())
        opening = self._opening[topics] = asyncio.get_running_loop().create_task(self._open(feed))
        opening.add_done_callback(lambda done: self._opened(feed, done))
        return feed

    async def _open(self, feed: Feed) -> None:
        """What is there before the feed begins is found by reading; all later news is told to its strands."""
        found = [name for name in feed.topics if is_pattern(name)]
        for pattern in found:
            prefix = stored(pattern[:-1])
            feed.finders = (*feed.finders, self._hub.find(prefix, feed.find))
            listed = await self.log.topics(prefix, limit=MAX_FOUND + 1)
            for info in listed:
                feed.find(info.topic)
            if len(listed) > MAX_FOUND:
                raise BadRequest(f"{pattern!r} stands for more than {MAX_FOUND} topics", code="too_many_topics")
        heads: list[tuple[Position, bool]] = []
        while len(heads) < len(feed.strands):
            heads.append(await self._head(feed.stand.names[len(heads)]))
        feed.begin(heads)

    async def _head(self, name: str) -> tuple[Position, bool]:
        if not self.log.exists(stored(name)):
            return NOWHERE, False
        found = await self.log.read(stored(name), 0, max_events=1)
        return Position(found.epoch, found.head), found.closed

    def _opened(self, feed: Feed, done: "asyncio.Task[None]") -> None:
        if self._opening.get(feed.topics) is done:
            del self._opening[feed.topics]
        if done.cancelled() or done.exception() is not None:
            feed.ended = True
            if self._feeds.get(feed.topics) is feed:
                del self._feeds[feed.topics]

    def tidy(self) -> None:
        """Keeps all rings together within their bound."""
        total = sum(feed.size for feed in self._feeds.values())
        if total <= RINGS_MAX_BYTES:
            return
        for feed in sorted(self._feeds.values(), key=lambda feed: feed.changed_s):
            total -= feed.size
            feed.shed(0, 0)
            if total <= RINGS_MAX_BYTES // 2:
                return

    # A reader begins

    async def _start(self, feed: Feed, ask: Ask) -> Start:
        if ask.cursor is not None:
            return await self._resume(feed, ask.cursor, partial=ask.partial)
        if ask.earliest:
            return await self._from(feed, await self._earliest(feed))
        return Start(await feed.cursor(), None)

    async def _resume(self, feed: Feed, cursor: str, *, partial: bool) -> Start:
        known = await self._positions(feed, cursor)
        if isinstance(known, str):
            return await self._lost(feed, known, await self._earliest(feed) if partial else None)
        stand = _standing(feed, known)
        gone = [name for name, at in known.items() if at.offset and name not in feed.stand.names]
        reason, missed = await self._check(feed, stand)
        if gone:
            reason, missed = _worst([reason, "epoch_changed"]), None
        if reason and partial:
            return await self._lost(feed, reason, stand, missed)
        if reason:
            head = await feed.cursor()
            return Start(head, None, 0, reason, None if missed is None else missed + _behind(stand, feed.stand))
        return await self._from(feed, stand, cursor, partial=partial)

    async def _from(self, feed: Feed, stand: Stand, cursor: str = "", *, partial: bool = True) -> Start:
        """Begins at `stand`, unless that is too much; `cursor`: as its reader wrote it."""
        replay = _behind(stand, feed.stand)
        if replay <= self._max_replay:
            return Start(cursor or await self.text_of(feed, stand), stand, replay)
        if partial:
            return await self._lost(feed, "replay_limit", stand, 0)
        head = await feed.cursor()
        return Start(head, None, 0, "replay_limit", _behind(stand, feed.stand))

    async def _lost(self, feed: Feed, reason: str, stand: Stand | None, missed: int | None = None) -> Start:
        """Goes on at the head, or from `stand`, as far as that is not too much."""
        if stand is None:
            return Start(await feed.cursor(), None, 0, reason, missed)
        before = _behind(stand, feed.stand)
        if before > self._max_replay:
            each = self._max_replay // len(stand.names)
            for at, head in enumerate(feed.stand.offsets[: len(stand.names)]):
                if head - stand.offsets[at] > each:
                    stand.renew(at, feed.stand.epochs[at])
                    stand.move(at, head - each)
            missed = None if missed is None else missed + before - _behind(stand, feed.stand)
        return Start(await self.text_of(feed, stand), stand, _behind(stand, feed.stand), reason, missed)

    async def _earliest(self, feed: Feed) -> Stand:
        stand = _like(feed.stand)
        for at, name in enumerate(stand.names):
            head = feed.stand.offsets[at]
            if head:
                found = await self.log.read(stored(name), 0, max_events=1)
                stand.renew(at, found.epoch)
                stand.move(at, min(found.oldest - 1, head))
        return stand

    async def _check(self, feed: Feed, stand: Stand) -> tuple[str, int | None]:
        """Why not all that follows `stand` can be had, and how much is lost; moves it to what is left."""
        if feed.index_of(stand) is not None:
            return "", 0
        reasons, missed = list[str](), 0
        for at, name in enumerate(stand.names):
            offset = stand.offsets[at]
            if stand.epochs[at] == feed.stand.epochs[at] and offset == feed.stand.offsets[at]:
                continue
            found = await self.log.read(stored(name), offset, max_events=1)
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

    # Cursors

    async def _positions(self, feed: Feed, cursor: str) -> dict[str, Position] | str:
        """Where it says that its reader stands; or why it cannot be used."""
        told = decode(cursor)
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

    async def _snapshot(self, feed: Feed, told: Told) -> dict[str, Position] | str:
        number = told.snapshot.offset
        found = await self.log.read(KEPT + told.tag, number - 1, max_events=1)
        if number < 1 or number > found.head or not is_epoch(told.snapshot.epoch, found.epoch):
            return "unknown_cursor"
        if number < found.oldest:
            return "evicted"
        kept = msgspec.json.decode(found.blocks[0].data[0], type=Snapshot)
        if kept.topics != feed.topics or any(index >= len(kept.names) for index in told.moved):
            return "unknown_cursor"
        for index, offset in told.moved.items():
            kept.offsets[index] = offset
        positions = map(Position, kept.epochs, kept.offsets)
        return dict(zip(kept.names, positions, strict=True))

    async def stand_of(self, feed: Feed, cursor: str) -> Stand:
        """Where a cursor of ours stands. Raises Gone when what it needs is no longer kept."""
        known = await self._positions(feed, cursor)
        if isinstance(known, str):
            raise Gone(f"the reader fell too far behind: {known}", code=known)
        return _standing(feed, known)

    async def text_of(self, feed: Feed, stand: Stand) -> str:
        """Its cursor; keeps a snapshot when it needs one."""
        text = stand.text()
        if text is None:
            await self.keep(feed, stand)
            text = stand.text()
        assert text is not None
        return text

    async def keep(self, feed: Feed, stand: Stand) -> None:
        """Keeps where a reader stands, so that its next cursors can say what moved since."""
        stand.since(await self._saver(feed.topics)(stand))

    def _saver(self, topics: tuple[str, ...]) -> Save:
        async def save(stand: Stand) -> Position:
            data = msgspec.json.encode(stand.kept(topics))
            [kept] = await self.log.append(Append(topic=KEPT + stand.tag, data=[data], name="snapshot"))
            return Position(kept.epoch, kept.first)

        return save


def _start_at_once(feed: Feed, cursor: str | None) -> Start | None:
    if cursor is None:
        text = feed.stand.text()
        return Start(text, None) if text else None
    told = decode(cursor)
    if told is None or told.tag != feed.stand.tag or not feed.stand.is_fixed:
        return None
    if len(told.positions) != len(feed.stand.names):
        return None
    stand = _standing(feed, dict(zip(feed.stand.names, told.positions, strict=True)))
    if feed.index_of(stand) is None:
        return None
    return Start(cursor, stand, _behind(stand, feed.stand))


def _worst(reasons: Sequence[str]) -> str:
    return max(reasons, key=("", "evicted", "epoch_changed", "unknown_cursor").index, default="")


def _nothing(topics: Sequence[str]) -> None:
    """Nobody wants to know."""


def _like(stand: Stand) -> Stand:
    """The same topics, all from the beginning."""
    return Stand(stand.tag, stand.names, [NOWHERE for _ in stand.names], is_fixed=stand.is_fixed)


def _standing(feed: Feed, known: dict[str, Position]) -> Stand:
    """With whole epochs, where the feed knows them."""
    stand = _like(feed.stand)
    for at, name in enumerate(stand.names):
        position = known.get(name, NOWHERE)
        epoch = feed.stand.epochs[at]
        stand.epochs[at] = epoch if position.epoch and is_epoch(position.epoch, epoch) else position.epoch
        stand.offsets[at] = position.offset
    return stand


def _behind(stand: Stand, head: Stand) -> int:
    return sum(head.offsets) - sum(stand.offsets)
