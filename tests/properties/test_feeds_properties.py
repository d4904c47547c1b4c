"""Whatever happens to topics and readers, on two processes: a reader sees each event once and in order, or is told.

The model knows every event that ever was, and where each reader stands after each frame. What it cannot know is what a
process has heard of: news of the other process is told when a rule says so.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from events.feed import fanout as live_module
from events.feed import feed as feed_module
from events.feed import subscription as subscription_module
from events.lane import EventsLane
from events.log import rules as rules_module
from events.log.port import Retention
from events.log.topics import is_pattern, stored
from tests.support.followers import Follower, PeerLog, follow, lane_on, say
from tests.support.readers import settle
from tests.support.sse_decoder import Event
from tests.support.virtual_time import VirtualTime

T = TypeVar("T")
KEPT_EVENTS = 8
MAX_REPLAY = 25
MANY = tuple(f"t/{number:02}" for number in range(20))
"""Too many for a cursor that names them all."""
TOPICS = ("a", "b", "x/1", "x/2", "x/3", *MANY[:3])
SUBSCRIPTIONS: tuple[tuple[str, ...], ...] = (("a",), ("a", "b"), MANY, ("x/*",), ("a", "x/*"))


class Place(NamedTuple):
    """Where a reader stands in one topic."""

    life: int
    """The topic's incarnation; 0: the next that comes."""
    offset: int
    past: int
    """The last incarnation that it is through with."""


NOWHERE = Place(0, 0, 0)
Places = dict[str, Place]


@dataclass
class Model:
    """Every topic's incarnations, oldest first, by their epochs."""

    lives: dict[str, list[str]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    """Newest offset of each topic that is there."""

    def life_of(self, topic: str, epoch: str) -> int:
        return self.lives[topic].index(epoch) + 1 if epoch else 0

    def life(self, topic: str) -> int:
        """0: it is not there."""
        return len(self.lives[topic]) if topic in self.heads else 0


@dataclass
class Witness:
    """One client, through one connection: checks all it is told."""

    follower: Follower
    topics: tuple[str, ...]
    places: Places
    checked_count: int = 0

    def check(self, world: "World") -> None:
        self.follower.drain_pipe()
        for event in self.follower.events[self.checked_count :]:
            self._see(event, world)
            world.places[self.topics, event.id] = dict(self.places)
        self.checked_count = len(self.follower.events)

    def _see(self, event: Event, world: "World") -> None:
        body: Any = json.loads(event.data)
        topic = body["topic"]
        life, offset, past = self.places.get(topic, NOWHERE)
        if event.event == "message":
            assert body["offset"] == offset + 1, f"{body} after {offset}"
            assert body["life"] == life if life else body["life"] > past, f"{body} after incarnation {life} or {past}"
            self.places[topic] = Place(body["life"], body["offset"], body["life"])
            return
        assert event.event == "gap"
        is_repeat = body["reason"] == "epoch_changed" and not life and not offset
        assert body["from"] == offset + 1 or is_repeat, f"{body} after {offset}"
        if body["reason"] == "epoch_changed":
            assert body["to"] is None
            assert not life or world.model.life(topic) != life, f"{body}, but it is still there"
            self.places[topic] = Place(0, 0, max(life, past))
        else:
            assert body["reason"] == "evicted"
            is_gone = world.model.life(topic) != life or world.oldest(topic) > body["to"]
            assert not life or is_gone, f"{body}, but some of it is still kept"
            self.places[topic] = Place(life, body["to"], past)


@dataclass
class World:
    model: Model
    logs: list[PeerLog]
    lanes: list[EventsLane]
    witnesses: list[Witness] = field(default_factory=list)
    places: dict[tuple[tuple[str, ...], str], Places] = field(default_factory=dict)
    """Where one stands who has read up to an id."""

    def oldest(self, topic: str) -> int:
        blocks = self.logs[0].blocks_of(stored(topic))
        return blocks[0].first if blocks else self.model.heads.get(topic, 0) + 1

    def names(self, topics: Sequence[str], places: Places) -> set[str]:
        """The topics of a subscription that are there, or were when its reader last looked."""
        patterns = [topic[:-1] for topic in topics if is_pattern(topic)]
        there = {name for name in self.model.heads if name.startswith(tuple(patterns))} if patterns else set[str]()
        return there | {topic for topic in topics if not is_pattern(topic)} | places.keys()

    async def publish(self, process: int, topic: str, count: int, size: int) -> None:
        life = self.model.life(topic) or len(self.model.lives[topic]) + 1
        head = self.model.heads.get(topic, 0)
        bodies = [{"topic": topic, "life": life, "offset": head + n, "x": "x" * size} for n in range(1, count + 1)]
        result = await say(self.logs[process], topic, *bodies)
        if topic not in self.model.heads:
            self.model.lives[topic].append(result.epoch)
        assert (result.epoch, result.last) == (self.model.lives[topic][-1], head + count)
        self.model.heads[topic] = result.last

    async def begin(self, process: int, topics: tuple[str, ...], **how: Any) -> Witness:
        follower = await follow(self.lanes[process], topics, **how)
        witness = Witness(follower, topics, {})
        self.witnesses.append(witness)
        stand = follower.start
        for name, epoch, offset in zip(stand.names, stand.epochs, stand.offsets, strict=True):
            life = self.model.life_of(name, epoch)
            witness.places[name] = Place(life, offset, life)
        return witness

    def remember(self, witness: Witness) -> None:
        self.places[witness.topics, witness.follower.cursor] = dict(witness.places)

    # What must be said to one who comes with a cursor, when its process has heard all

    def due(self, topics: tuple[str, ...], places: Places) -> tuple[set[str], int, int]:
        """Why not all after `places` can be had from the log, how much there was after them, and how much is gone."""
        reasons, behind, gone_count = set[str](), 0, 0
        for name in self.names(topics, places):
            place, life = places.get(name, NOWHERE), self.model.life(name)
            if place.life and life != place.life:
                reasons.add("epoch_changed")
                continue
            behind += self.model.heads.get(name, 0) - place.offset
            hole = max(0, self.oldest(name) - 1 - place.offset) if life else 0
            gone_count += hole
            reasons |= {"evicted"} if hole else set()
        return reasons, behind, gone_count

    def check_hello(self, witness: Witness, places: Places, *, partial: bool) -> None:
        hello = witness.follower.hello
        reasons, behind, gone_count = self.due(witness.topics, places)
        reason = hello.get("reason", "")
        if hello["recovered"]:
            assert "epoch_changed" not in reasons, f"{hello}, but a topic is another one now"
            assert hello["replay"] == behind <= MAX_REPLAY, (hello, behind)
        elif reason == "epoch_changed":
            assert "epoch_changed" in reasons, hello
            assert hello["missed"] is None
        elif reason == "evicted":
            assert reasons == {"evicted"}, (hello, reasons)
            assert hello["missed"] == (gone_count if partial else behind), (hello, gone_count, behind)
            assert hello["replay"] == (behind - gone_count if partial else 0), (hello, gone_count, behind)
        else:
            assert reason == "replay_limit", hello
            assert not reasons, hello
            assert behind > MAX_REPLAY, hello
            assert hello["missed"] + hello["replay"] == behind, (hello, behind)
            assert hello["replay"] == 0 or partial


process = st.integers(0, 1)
number = st.integers(0, 1000)


class Readers(RuleBasedStateMachine):
    """Two processes on one log, with small rings and a short memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        epochs = (f"{n:04x}{n:04x}" for n in itertools.count(1))
        patch.setattr(rules_module.secrets, "token_hex", lambda _: next(epochs))
        patch.setattr(feed_module, "RING_MAX_FRAMES", 6)
        patch.setattr(feed_module, "RING_MAX_BYTES", 2000)
        patch.setattr(subscription_module, "WRITE_BYTES", 300)
        patch.setattr(live_module, "WRITE_BYTES", 300)
        self.runner = self.stack.enter_context(asyncio.Runner(loop_factory=VirtualTime))
        self.world = self.run(self._begin)

    async def _begin(self) -> World:
        first = PeerLog(lambda topic: Retention(events=KEPT_EVENTS if topic.startswith("event/") else None))
        logs = [first, first.peer()]
        lanes = [await lane_on(log, max_replay=MAX_REPLAY) for log in logs]
        world = World(Model({topic: [] for topic in {*TOPICS, *MANY}}), logs, lanes)
        for topic in MANY:
            await world.publish(0, topic, 1, 0)
        await world.publish(0, "a", 2, 0)
        await world.begin(0, ("a",))
        return world

    def witness(self, which: int) -> Witness:
        return self.world.witnesses[which % len(self.world.witnesses)]

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        async def within_deadline() -> T:
            async with asyncio.timeout(3600):
                return await call()

        return self.runner.run(within_deadline())

    def teardown(self) -> None:
        try:
            self.everyone_has_everything()
        finally:
            self.stack.close()

    @initialize(snapshot_s=st.sampled_from([0, 0.005]))
    def slow(self, snapshot_s: float) -> None:
        for log in self.world.logs:
            log.snapshot_s = snapshot_s

    # What happens to the topics

    @rule(process=process, topic=st.sampled_from(TOPICS), count=st.integers(1, 4), size=st.sampled_from([0, 0, 200]))
    def publish(self, process: int, topic: str, count: int, size: int) -> None:
        self.run(lambda: self.world.publish(process, topic, count, size))

    @rule(process=process, topics=st.lists(st.sampled_from(TOPICS), min_size=2, max_size=6))
    def publish_in_a_row(self, process: int, topics: list[str]) -> None:
        async def publish() -> None:
            for topic in topics:
                await self.world.publish(process, topic, 1, 0)

        self.run(publish)

    @rule(process=process, topic=st.sampled_from(TOPICS))
    def delete(self, process: int, topic: str) -> None:
        self.world.model.heads.pop(topic, None)
        self.run(lambda: self.world.logs[process].delete(stored(topic)))

    @rule(process=process)
    def hear(self, process: int) -> None:
        """News of the other process come in."""

        async def hear() -> None:
            self.world.logs[process].hear()
            await asyncio.sleep(0.2)

        self.run(hear)

    # What readers do

    @rule(process=process, subscription=st.integers(0, len(SUBSCRIPTIONS) - 1), earliest=st.booleans())
    def begin(self, process: int, subscription: int, earliest: bool) -> None:
        witness = self.run(lambda: self.world.begin(process, SUBSCRIPTIONS[subscription], earliest=earliest))
        hello = witness.follower.hello
        if not earliest:
            assert hello["recovered"]
        elif not hello["recovered"]:
            assert hello["reason"] == "replay_limit"
        self.world.remember(witness)

    @rule(process=process, which=number, partial=st.booleans())
    def come_back(self, process: int, which: int, partial: bool) -> None:
        """With the id of any frame that anyone got."""
        if not self.world.places:
            return
        (topics, cursor), places = list(self.world.places.items())[which % len(self.world.places)]
        has_heard = not self.world.logs[process].news
        if has_heard:
            self.run(lambda: asyncio.sleep(0.2))
        witness = self.run(lambda: self.world.begin(process, topics, cursor=cursor, partial=partial))
        if witness.follower.hello["recovered"]:
            witness.places = dict(places)
        if has_heard:
            self.world.check_hello(witness, places, partial=partial)
        self.world.remember(witness)

    @rule(which=number)
    def poll(self, which: int) -> None:
        async def poll() -> None:
            if witness.follower.poll() is None:
                await witness.follower.source.catch_up()

        witness = self.witness(which)
        self.run(poll)
        witness.check(self.world)

    @rule(which=number)
    def read_all(self, which: int) -> None:
        witness = self.witness(which)
        self.run(lambda: witness.follower.take(rounds=200))
        witness.check(self.world)

    @rule(which=number)
    def go_live(self, which: int) -> None:
        """Its feed writes to it, for as long as it does not fall behind."""
        witness = self.witness(which)
        if self.run(lambda: witness.follower.take(rounds=200)):
            witness.follower.live()
        witness.check(self.world)

    @rule(which=number)
    def hold(self, which: int) -> None:
        """Its connection takes no more for now."""
        self.witness(which).follower.source.follow(None)

    @rule(which=number)
    def leave(self, which: int) -> None:
        witness = self.witness(which)
        if len(self.world.witnesses) > 1:
            self.world.witnesses.remove(witness)
            witness.follower.close()

    @rule()
    def everyone_has_everything(self) -> None:
        async def read() -> None:
            for log in self.world.logs:
                log.hear()
            await asyncio.sleep(0.2)
            for witness in self.world.witnesses:
                assert await witness.follower.take(rounds=2000), "it never gets to where its feed is"
            await settle()

        self.run(read)
        for witness in self.world.witnesses:
            witness.check(self.world)
            for name in self.world.names(witness.topics, witness.places):
                place = witness.places.get(name, NOWHERE)
                life, head = self.world.model.life(name), self.world.model.heads.get(name, 0)
                at_end = place.offset == head and place.life in (life, 0 if not head else life)
                assert at_end, f"{witness.topics}: {name} is {life, head}, and its reader was told of {place}"


TestReaders = Readers.TestCase
TestReaders.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
