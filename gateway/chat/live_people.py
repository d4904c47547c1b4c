"""Who looks at a shared chat, and who types in it, as the sockets on it are told.

None of it is in the chat, so it has no cursor. A reader holds what is, and no queue of what was: one that reads slowly
is told what has become of it, and takes no room from chunks, which wait in the log. Of those who type the newest
MAX_TYPING wait, for as long as that holds.
"""

from collections.abc import Callable

import msgspec

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Block, EventLog, Position
from events.log.topics import PRESENCE, stored
from gateway.access.memberships import chat_events_topic
from gateway.core.presence import Presence, presence_events
from gateway.core.usage import now_ms
from gateway.errors import LogDamaged

MAX_TYPING = 100
"""Maximum users of whom one reader is told at once that they type; past it those are left out who typed longest ago."""
TYPING = "typing"
LineOf = Callable[[str, object], bytes]
"""A function that returns the line of an event, by its name and data."""


class LivePeople:
    """The people who look at shared chats over sockets of this process, one among others."""

    def __init__(self, event_log: EventLog, hub: Hub) -> None:
        self._log = event_log
        self._hub = hub
        self._subs: dict[str, list[str]] = {}
        """The user of each socket, by the topic of its chat in the events lane."""
        self.presence = Presence(event_log, hub, lambda topic: self._subs.get(topic, ()))

    async def join(self, sub: str, shared_id: str, line_of: LineOf) -> "PeopleReader":
        """Returns a reader of one user, who is seen until it is closed. Raises LogError."""
        topic = chat_events_topic(shared_id)
        head = await self._head(stored(PRESENCE + topic))
        reader = PeopleReader(self.presence, topic, line_of)
        self._subs.setdefault(topic, []).append(sub)
        self.presence.readers_changed([topic])

        def leave() -> None:
            subs = self._subs[topic]
            subs.remove(sub)
            if not subs:
                del self._subs[topic]
            self.presence.readers_changed([topic])

        unwatch = self._hub.watch(stored(PRESENCE + topic), head, reader.hear)
        reader.endings += [leave, unwatch, self.presence.watch(topic, reader.wake)]
        return reader

    async def _head(self, topic: str) -> Position:
        try:
            part = await self._log.read(topic, NO_EVENTS, max_events=1)
        except LogDamaged:
            return Position(epoch="", offset=0)
        return Position(part.epoch, part.head)


class PeopleReader:
    """What one socket has to be told of the others."""

    def __init__(self, presence: Presence, topic: str, line_of: LineOf) -> None:
        self.on_wake: Callable[[], object] = _nobody
        """Called when something may be due; its user sets it."""
        self.endings: list[Callable[[], None]] = []
        self._presence = presence
        self._topic = topic
        self._line_of = line_of
        self._known: frozenset[str] | None = None
        """The users of whom it was told that they are there; None before it was told anything."""
        self._typing: dict[str, int] = {}
        """When it is over that somebody types, in milliseconds since 1970; whoever typed last comes last."""
        self.is_due = False

    def hear(self, block: Block) -> None:
        name, _, until = block.name.partition(" ")
        for data in block.data if name == TYPING else ():
            sub = msgspec.json.decode(data, type=dict[str, str])["sub"]
            self._typing.pop(sub, None)
            self._typing[sub] = int(until or 0)
            if len(self._typing) > MAX_TYPING:
                del self._typing[next(iter(self._typing))]
            self.wake()

    def wake(self) -> None:
        self.is_due = True
        self.on_wake()

    def poll(self) -> list[bytes]:
        """Returns the lines that are due."""
        if not self.is_due:
            return []
        self.is_due = False
        events: list[tuple[str, object]] = []
        subs = self._presence.watched(self._topic)
        if subs is not None and subs != self._known:
            events, self._known = presence_events(self._topic, self._known, subs), subs
        now, typing, self._typing = now_ms(), self._typing, {}
        events += [(TYPING, {"sub": sub}) for sub, until in typing.items() if until > now]
        return [self._line_of(name, data) for name, data in events]

    def close(self) -> None:
        endings, self.endings = self.endings, []
        for end in endings:
            end()


def _nobody() -> None:
    """Does nothing: nobody is waiting."""
