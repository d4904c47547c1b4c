"""Knows which chats are shared with a user, and tells this process at once when one is no more.

Every member of a shared chat has a link to it in a topic of their own, written with the change itself as one append. So
an id is looked up by what the caller was given, and by nothing that a stranger could guess at. What a member may do is
not written here: the chat alone says that (`gateway.chat.roles`).

All processes hear of every change over one topic, because what the removed one reads is to end wherever it is open.
"""

import contextlib
import re
import secrets
from collections.abc import Callable
from hashlib import sha256

import msgspec

from events.log.hub import Hub
from events.log.port import NO_EVENTS, Append, Block, EventLog, Position, read_past_damage
from events.log.topics import PRESENCE
from gateway.errors import Forbidden, LogDamaged

LINKS = "shares/"
"""Prefix of the topics that hold the links of one user each."""
CHANGES = "memberships/changes"
LINKED, UNLINKED = "link", "unlink"
SHARED = "s_"
CHAT = "chat/"
"""Prefix of the topics of the events lane that belong to a shared chat."""
_SHARED_ID = re.compile(r"s_[A-Za-z0-9_-]{22}", re.ASCII)
_json = msgspec.json.Encoder().encode


class ChatLink(msgspec.Struct, frozen=True, rename="camel"):
    """A chat that a user is a member of, as their own topic names it."""

    shared_id: str
    chat_id: str
    """The id by which the user who made it calls it."""
    topic: str
    epoch: str
    """The epoch of that topic: a chat that was deleted and made anew is another one."""
    owner: str
    """Who made it."""
    role: str = ""
    """What its user may do there, to be shown: what holds is what the chat says."""


class MembershipChange(msgspec.Struct, frozen=True, rename="camel"):
    """The event that somebody is a member of a chat now, or no more."""

    sub: str
    topic: str
    shared_id: str
    is_member: bool

    @property
    def topics(self) -> frozenset[str]:
        """Returns what only a member may read: the chat, and its topics of the events lane."""
        events = chat_events_topic(self.shared_id)
        return frozenset((self.topic, events, PRESENCE + events))


def new_shared_id() -> str:
    return SHARED + secrets.token_urlsafe(16)


def is_shared_id(chat_id: str) -> bool:
    """Returns whether an id is of the form that addresses shared chats alone."""
    return _SHARED_ID.fullmatch(chat_id) is not None


def shared_id_of(topic: str) -> str:
    """Returns the shared id in a topic of the events lane, or of its presence; nothing in any other."""
    topic = topic.removeprefix(PRESENCE)
    shared_id = topic.removeprefix(CHAT)
    return shared_id if topic.startswith(CHAT) and is_shared_id(shared_id) else ""


def chat_events_topic(shared_id: str) -> str:
    """Returns the topic of the events lane on which members of a chat hear what happens in it."""
    return CHAT + shared_id


def links_topic(sub: str) -> str:
    return LINKS + sha256(sub.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def link_appends(sub: str, link: ChatLink, *, is_member: bool) -> list[Append]:
    """Returns the appends that give a user the link to a chat, or take it away, and tell every process of it."""
    change = MembershipChange(sub, link.topic, link.shared_id, is_member)
    name = LINKED if is_member else UNLINKED
    return [
        Append(topic=links_topic(sub), owner=sub, data=[_json(link)], name=name),
        Append(topic=CHANGES, data=[_json(change)], name="member"),
    ]


async def read_links(event_log: EventLog, sub: str) -> list[tuple[str, ChatLink]]:
    """Returns every link that a user was given (LINKED) or lost (UNLINKED), in order. Raises LogError."""
    links: list[tuple[str, ChatLink]] = []
    async for part in read_past_damage(event_log, links_topic(sub), lambda first, last: None):
        for block in part.blocks:
            links += [(block.name, msgspec.json.decode(data, type=ChatLink)) for data in block.data]
    return links


class Memberships:
    """The links of all users, as one process reads them, and what it does when one is taken away."""

    def __init__(self, event_log: EventLog, hub: Hub, *, are_kept: bool) -> None:
        """Without `are_kept` there are no members, because nobody signs in: nothing is read or watched."""
        self.are_kept = are_kept
        self.on_change: list[Callable[[MembershipChange], None]] = []
        """Called with every change of any process, within a moment."""
        self._log = event_log
        self._hub = hub
        self._unwatch: Callable[[], None] = _nothing

    async def open(self) -> None:
        if not self.are_kept:
            return
        head = Position(epoch="", offset=0)
        with contextlib.suppress(LogDamaged):
            part = await self._log.read(CHANGES, NO_EVENTS, max_events=1)
            head = Position(part.epoch, part.head)
        self._unwatch = self._hub.watch(CHANGES, head, self._take, is_standing=True)

    def close(self) -> None:
        self._unwatch()

    def may_have_links(self, sub: str) -> bool:
        """Returns whether anything may be shared with a user; False is certain, and costs no look at the log."""
        return self.are_kept and self._log.may_exist(links_topic(sub))

    async def links(self, sub: str, left: set[tuple[str, str]] | None = None) -> dict[str, ChatLink]:
        """Returns the chats that are shared with a user, or that they share, by shared id, the newest last.

        Topic and epoch of those that they are no member of any more are added to `left`.
        """
        links: dict[str, ChatLink] = {}
        left = set() if left is None else left
        if not self.may_have_links(sub):
            return links
        for name, link in await read_links(self._log, sub):
            links.pop(link.shared_id, None)
            left.add((link.topic, link.epoch))
            if name == LINKED:
                links[link.shared_id] = link
                left.discard((link.topic, link.epoch))
        return links

    async def may_follow(self, sub: str, topic: str) -> bool:
        """Returns whether a topic of the events lane belongs to a chat that is shared with the user."""
        shared_id = shared_id_of(topic)
        return bool(shared_id) and shared_id in await self.links(sub)

    def _take(self, block: Block) -> None:
        for data in block.data:
            change = msgspec.json.decode(data, type=MembershipChange)
            for tell in self.on_change:
                tell(change)


def removal() -> Forbidden:
    """Returns the error that ends what is open for a member who was removed."""
    return Forbidden("you are no member of this chat any more", code="removed")


def _nothing() -> None:
    """Does nothing: there is nothing to end."""
