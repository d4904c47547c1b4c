"""Runs the events lane: who may follow and publish what, and the event stream that a reader gets."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import msgspec

from events.feed import frames
from events.feed.deferred import DeferredStream
from events.feed.feeds import Feeds
from events.feed.start import StartPoint, SubscribeRequest
from events.feed.subscription import Subscription
from events.figures import EventsFigures
from events.log.port import NO_EVENTS
from events.log.source import NEVER
from events.log.topics import check_subscription, check_topic, stored, user_topic
from events.new_topics import NewTopics
from events.publish import Publication, Receipt, publish
from gateway.access.grants import Principal
from gateway.access.memberships import shared_id_of
from gateway.core.limits import REQUEST
from gateway.core.presence import Presence
from gateway.core.process import Core
from gateway.errors import Forbidden, LogUnavailable, Overloaded
from gateway.serving.open_streams import EXPIRY_NOTICE_S, Audience
from gateway.serving.sse import EventStream

TIDY_S = 5.0
"""Seconds between two checks of what the feeds hold."""
HEAD_S = 0.1
"""Maximum seconds that a stream's first bytes wait for the log."""
OPEN_S = 1.7
"""Maximum seconds that `hello` waits for the log; then the reader is told to come back, within 2 s of its request."""


class TopicSummary(msgspec.Struct, frozen=True):
    """The answer to `GET /api/events/topics/{topic}`."""

    epoch: str
    """The topic's incarnation; empty when nothing was ever published there."""
    head: int
    oldest: int
    readers: int


class EventsLane:
    """The part of a unit that the routes of the events lane call."""

    def __init__(self, core: Core) -> None:
        self.settings = core.settings
        self.bodies = core.bodies
        self.streams = core.streams.of("events")
        self._limiter = core.limiter
        self._log = core.log
        self._memberships = core.memberships
        self._max_age_s = core.settings.max_age_s
        self.feeds = Feeds(core.log, core.hub, max_replay=core.settings.limits.replay)
        self.presence = Presence(core.log, core.hub, self.feeds.followers_of)
        self.feeds.on_open = self.presence.stream_opened
        self.feeds.on_close = self.presence.stream_closed
        self.feeds.on_change = self.presence.readers_changed
        self._new_topics = NewTopics(core.log, core.limiter)
        self._tidy_timer: asyncio.TimerHandle | None = None
        self.feeds.on_damage = core.note_damage
        self._refusals = core.refusals
        self._figures = EventsFigures(core.metrics, self.feeds)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        self._tidy()
        await self.presence.open()
        try:
            yield
        finally:
            await self.presence.close()
            if self._tidy_timer is not None:
                self._tidy_timer.cancel()
            await self.feeds.close()

    def _tidy(self) -> None:
        self.feeds.tidy()
        self._tidy_timer = asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    async def drain(self) -> None:
        """Has nothing to wait for: publishing ends with its request, and readers leave with all other streams."""

    # Following

    async def stream(
        self, who: Principal, request: SubscribeRequest, *, patient: bool = False
    ) -> EventStream | bytes | None:
        """Returns the event stream of a reader; None when the reader has all that there will ever be.

        When this process is full or the log cannot be read, the answer is the one frame `busy` instead of a stream,
        because a browser gives up for ever on a status that says so. A `patient` caller gets the error, and waits for
        the log. Raises BadRequest, Forbidden; to a patient caller Overloaded, LogError.
        """
        try:
            if (failure := self._log.failure) is not None:
                raise failure
            end = await self._limiter.admit_stream(who)
            try:
                source = await self._admitted(who, request, patient=patient)
            except BaseException:
                end()
                raise
        except (Overloaded, LogUnavailable) as err:
            if patient:
                raise
            self._refusals.note(err)
            return frames.busy(err.code, request.own_cursor)
        if source is None:
            end()
            return None
        return EventStream(
            source,
            ping_s=self.settings.ping_s,
            open_streams=self.streams,
            farewell=source.farewell,
            apology=source.apology,
            leaves_cleanly=True,
            on_close=end,
            key_id=who.key_id,
            audience=_audience(who, request.topics),
        )

    async def _admitted(
        self, who: Principal, request: SubscribeRequest, *, patient: bool
    ) -> Subscription | DeferredStream | None:
        """Returns the source of a stream for which this process has room, before and after the log was read."""
        self.streams.admit()
        source = await self.subscribe(who, request, patient=patient)
        if source is None:
            return None
        try:
            self.streams.admit()
        except Overloaded:
            source.close()
            raise
        return source

    async def subscribe(
        self, who: Principal, request: SubscribeRequest, *, patient: bool = False
    ) -> Subscription | DeferredStream | None:
        """Returns the source of a stream, which begins with `hello`; None when its reader has all that there will be.

        A request without topics follows the user's own. When the log does not answer within HEAD_S, the stream begins
        without it, unless the caller is `patient`.
        Raises BadRequest, Forbidden, LogError.
        """
        request = request._replace(topics=await self.check_topics(who, request.topics))
        start = self.feeds.open_at_once(request, who.sub)
        if start is not None:
            return self._begin(who, request, *start)
        if patient:
            return await self._open(who, request)
        opening = asyncio.get_running_loop().create_task(self._open_soon(who, request))
        try:
            await asyncio.wait((opening,), timeout=HEAD_S)
        except BaseException:
            opening.cancel()
            raise
        return opening.result() if opening.done() else DeferredStream(opening, request.own_cursor)

    async def check_topics(self, who: Principal, topics: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the topics and patterns that a stream of these follows. Raises BadRequest, Forbidden, LogError."""
        names = check_subscription(topics or (user_topic(who.sub),))
        for name in names:
            await self._check_read(who, name)
        return names

    async def _check_read(self, who: Principal, topic: str) -> None:
        """Raises Forbidden unless a user may read a topic, by a grant or as a member of the chat that it belongs to."""
        if who.may_subscribe(topic) or (shared_id_of(topic) and await self._memberships.may_follow(who.sub, topic)):
            return
        raise Forbidden(f"this token does not allow to read {topic!r}", code="topic_forbidden")

    async def _open(self, who: Principal, request: SubscribeRequest) -> Subscription | None:
        return self._begin(who, request, *await self.feeds.open(request, who.sub))

    async def _open_soon(self, who: Principal, request: SubscribeRequest) -> Subscription | None:
        """Opens as `_open` does; raises LogUnavailable when the log has not answered within OPEN_S."""
        try:
            async with asyncio.timeout(OPEN_S):
                return await self._open(who, request)
        except TimeoutError as err:
            raise LogUnavailable(f"the log has not answered within {OPEN_S:g} s") from err

    def _begin(
        self, who: Principal, request: SubscribeRequest, subscription: Subscription, start: StartPoint
    ) -> Subscription | None:
        if request.cursor is not None:
            self._figures.note_resume(start.reason or "recovered", start.replay)
            if subscription.feed.closed and not start.reason and not start.replay:
                subscription.close()
                return None
        now = asyncio.get_running_loop().time()
        age_s, notice_s = self._lifetime(who)
        subscription.begin(self._hello(request.topics, start, age_s), start.position, now + age_s, now + notice_s)
        return subscription

    def _lifetime(self, who: Principal) -> tuple[float, float]:
        """Returns the seconds after which a stream ends, and after which it gives notice that its token expires."""
        age_s = self._max_age_s * random.uniform(0.8, 1)
        remaining_s = who.remaining_s()
        age_s = min(age_s, remaining_s)
        notice_s = max(0.0, remaining_s - EXPIRY_NOTICE_S)
        return age_s, notice_s if remaining_s - EXPIRY_NOTICE_S < age_s else NEVER

    def _hello(self, topics: tuple[str, ...], start: StartPoint, age_s: float) -> bytes:
        ping_s = self.settings.ping_s
        fields: dict[str, object] = {
            "recovered": not start.reason,
            "replay": start.replay,
            "ping": round(ping_s, 2) if ping_s % 1 else int(ping_s),
            "maxAge": int(age_s),
            "topics": topics,
        }
        if start.added:
            fields["added"] = start.added
        if start.reason:
            fields |= {"reason": start.reason, "missed": start.missed}
        return frames.hello(fields, start.cursor)

    # Publishing and topics

    async def publish(self, who: Principal, publications: list[Publication], request_key: str | None = None) -> Receipt:
        """Appends all publications or none, once for each `request_key`. Raises as `events.publish.publish` does."""
        await self._limiter.admit(who, REQUEST)
        receipt = await publish(
            self._log, who, publications, self.feeds.now_ms, request_key=request_key, admit=self._new_topics.admit
        )
        self._figures.note_published(receipt)
        return receipt

    async def topic(self, who: Principal, topic: str) -> TopicSummary:
        """Returns a topic's state, with its readers in all processes. Raises BadRequest, Forbidden, LogError."""
        await self._check_read(who, check_topic(topic))
        part = await self._log.read(stored(topic), NO_EVENTS, max_events=1)
        return TopicSummary(part.epoch, part.head, part.oldest, await self.presence.count(topic))


def _audience(who: Principal, topics: tuple[str, ...]) -> Audience | None:
    """Returns the reader of topics of chats, who may be removed from one; None of any other."""
    of_chats = [topic for topic in topics if shared_id_of(topic)]
    return Audience(who.sub, of_chats) if of_chats and not who.grants.operator else None
