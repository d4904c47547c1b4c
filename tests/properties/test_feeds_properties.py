"""Whatever happens to topics and readers on two processes, a reader sees each event once and in order, or is told.

The model knows every event that ever was, and where each reader stands after each frame. What it cannot know is what a
process has heard of: news of the other process is told when a rule says so.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from events.feed import fanout as live_module
from events.feed import feed as feed_module
from events.feed import subscription as subscription_module
from events.log import rules as rules_module
from events.log.port import Retention
from events.log.topics import stored
from tests.properties.feeds_model import MANY, MAX_REPLAY, NOWHERE, SUBSCRIPTIONS, TOPICS, Model, Witness, World
from tests.support.followers import PeerLog, lane_on
from tests.support.readers import settle
from tests.support.virtual_time import VirtualTime

T = TypeVar("T")
KEPT_EVENTS = 8
process = st.integers(0, 1)
number = st.integers(0, 1000)


class Readers(RuleBasedStateMachine):
    """Runs two processes on one log, with small rings and a short memory."""

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
        """Delivers news of the other process."""

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
        """Comes back with the id of any frame that anyone got."""
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
        """Lets its feed write to it, for as long as it does not fall behind."""
        witness = self.witness(which)
        if self.run(lambda: witness.follower.take(rounds=200)):
            witness.follower.live()
        witness.check(self.world)

    @rule(which=number)
    def hold(self, which: int) -> None:
        """Has its connection take no more for now."""
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
