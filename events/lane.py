"""The events lane: who may follow and publish what, and what a stream says about itself."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from events.feed import frames
from events.feed.deferred import DeferredStream
from events.feed.feeds import Feeds
from events.feed.start import StartPoint, SubscribeRequest
from events.feed.subscription import AUTH_NOTICE_S, Subscription
from events.log.source import NEVER
from events.log.topics import check_subscription, check_topic, stored, user_topic
from events.presence import Presence
from events.publish import Publication, Receipt, publish
from gateway.access.auth import Principal
from gateway.core.process import Core
from gateway.errors import Forbidden

TIDY_S = 5.0
HEAD_S = 0.1
"""How long a stream's first bytes wait for the log."""


class TopicState(msgspec.Struct, frozen=True):
    """What `GET /api/events/topics/{topic}` answers."""

    epoch: str
    """Empty: nothing was ever published there."""
    head: int
    oldest: int
    readers: int


class EventsLane:
    """What the routes of the events lane work with."""

    def __init__(self, core: Core) -> None:
        self.settings = core.settings
        self.streams = core.streams
        self._log = core.log
        self._max_age_s = core.settings.max_age_s
        self.feeds = Feeds(core.log, core.hub, max_replay=core.settings.limits.replay)
        self.presence = Presence(core.log, core.hub, self.feeds.following)
        self.feeds.came, self.feeds.left = self.presence.came, self.presence.left
        self.feeds.changed = self.presence.changed
        self._tidying: asyncio.TimerHandle | None = None
        self.resumes = core.metrics.counter(
            "resumes", "Streams that came with a cursor, by what became of it", "result"
        )
        self.published = core.metrics.counter("events_published", "Events published here, by result", "result")
        core.metrics.gauge("event_feeds", "Subscriptions that someone follows here", lambda: len(self.feeds))

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        self._tidy()
        await self.presence.open()
        try:
            yield
        finally:
            await self.presence.close()
            if self._tidying is not None:
                self._tidying.cancel()
            await self.feeds.close()

    def _tidy(self) -> None:
        self.feeds.tidy()
        self._tidying = asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    async def drain(self) -> None:
        """Publishing ends with its request; readers are sent away with all other streams."""

    async def subscribe(
        self, who: Principal, ask: SubscribeRequest, *, patient: bool = False
    ) -> Subscription | DeferredStream | None:
        """A stream that begins with `hello`; None: its reader has all that there will ever be.

        No topics: the user's own. When the log does not answer within HEAD_S, the stream begins without it, unless the
        caller is `patient`.
        Raises BadRequest, Forbidden, LogError.
        """
        ask = ask._replace(topics=self.allowed(who, ask.topics))
        opened = self.feeds.open_at_once(ask, who.sub)
        if opened is not None:
            return self._begin(who, ask, *opened)
        if patient:
            return await self._open(who, ask)
        opening = asyncio.get_running_loop().create_task(self._open(who, ask))
        try:
            await asyncio.wait((opening,), timeout=HEAD_S)
        except BaseException:
            opening.cancel()
            raise
        return opening.result() if opening.done() else DeferredStream(opening, ask.own_cursor)

    def allowed(self, who: Principal, topics: tuple[str, ...]) -> tuple[str, ...]:
        """What a stream of these topics follows. Raises BadRequest, Forbidden."""
        wanted = check_subscription(topics or (user_topic(who.sub),))
        for topic in wanted:
            if not who.may_subscribe(topic):
                raise Forbidden(f"this token does not allow to read {topic!r}", code="topic_forbidden")
        return wanted

    async def _open(self, who: Principal, ask: SubscribeRequest) -> Subscription | None:
        return self._begin(who, ask, *await self.feeds.open(ask, who.sub))

    def _begin(
        self, who: Principal, ask: SubscribeRequest, subscription: Subscription, start: StartPoint
    ) -> Subscription | None:
        if ask.cursor is not None:
            self.resumes.labels(start.reason or "recovered").inc()
            if subscription.feed.closed and not start.reason and not start.replay:
                subscription.close()
                return None
        loop_now = asyncio.get_running_loop().time()
        age_s = self._max_age_s * random.uniform(0.8, 1)
        auth_at = NEVER
        if who.expires_at is not None:
            left_s = max(0.0, who.expires_at - time.time())
            age_s = min(age_s, left_s)
            if left_s - AUTH_NOTICE_S < age_s:
                auth_at = loop_now + max(0.0, left_s - AUTH_NOTICE_S)
        subscription.begin(self._hello(ask.topics, start, age_s), start.stand, loop_now + age_s, auth_at)
        return subscription

    def _hello(self, topics: tuple[str, ...], start: StartPoint, age_s: float) -> bytes:
        told: dict[str, object] = {
            "recovered": not start.reason,
            "replay": start.replay,
            "ping": round(self.settings.ping_s, 2) if self.settings.ping_s % 1 else int(self.settings.ping_s),
            "maxAge": int(age_s),
            "topics": topics,
        }
        if start.reason:
            told |= {"reason": start.reason, "missed": start.missed}
        return frames.hello(told, start.cursor)

    async def publish(self, who: Principal, publications: list[Publication]) -> Receipt:
        """Appends all of them or none."""
        receipt = await publish(self._log, who, publications, self.feeds.now_ms)
        self.published.labels("new").inc(sum(not event.duplicate for event in receipt.events))
        return receipt

    async def topic(self, who: Principal, topic: str) -> TopicState:
        check_topic(topic)
        if not who.may_subscribe(topic):
            raise Forbidden(f"this token does not allow to read {topic!r}", code="topic_forbidden")
        found = await self._log.read(stored(topic), 0, max_events=1)
        return TopicState(found.epoch, found.head, found.oldest, await self.presence.count(topic))
