"""A model of the events lane knows every event that ever was, and where each reader stands after each frame."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from events.lane import EventsLane
from events.log.topics import is_pattern, stored
from tests.support.followers import Follower, PeerLog, follow, say
from tests.support.sse_decoder import Event

MAX_REPLAY = 25
MANY = tuple(f"t/{number:02}" for number in range(20))
"""Too many topics for a cursor that names them all."""
TOPICS = ("a", "b", "x/1", "x/2", "x/3", *MANY[:3])
SUBSCRIPTIONS: tuple[tuple[str, ...], ...] = (("a",), ("a", "b"), MANY, ("x/*",), ("a", "x/*"))


class Place(NamedTuple):
    """Says where a reader stands in one topic."""

    life: int
    """The topic's incarnation; 0 stands for the next one."""
    offset: int
    past: int
    """The last incarnation that it is through with."""


NOWHERE = Place(0, 0, 0)
Places = dict[str, Place]


@dataclass
class Model:
    """Knows every topic's incarnations, oldest first, by their epochs."""

    lives: dict[str, list[str]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    """Newest offset of each topic that is there."""

    def life_of(self, topic: str, epoch: str) -> int:
        return self.lives[topic].index(epoch) + 1 if epoch else 0

    def life(self, topic: str) -> int:
        """Returns the topic's incarnation; 0 when it is not there."""
        return len(self.lives[topic]) if topic in self.heads else 0


@dataclass
class Witness:
    """A client on one connection that checks all that it is told."""

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
    """The place of a reader who has read up to an id."""

    def oldest(self, topic: str) -> int:
        blocks = self.logs[0].blocks_of(stored(topic))
        return blocks[0].first if blocks else self.model.heads.get(topic, 0) + 1

    def names(self, topics: Sequence[str], places: Places) -> set[str]:
        """Returns the topics of a subscription that are there, or were when its reader last looked."""
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
        """Returns why not all after `places` can be had from the log, how much followed them, and how much of it is
        gone.
        """
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
