"""Changes who is a member of a chat, and tells them who is typing.

A change is fenced by the chat's head, and one append with the links by which members find the chat: of two owners who
remove each other at once, one stays.
"""

import asyncio
from collections import OrderedDict

import msgspec

from events.log.port import Append, EventLog
from events.log.topics import PRESENCE, stored, stored_name
from gateway.access.grants import Principal
from gateway.access.memberships import ChatLink, Memberships, chat_events_topic, link_appends, new_shared_id
from gateway.chat.chats import ChatMember, Chats, again, members_of
from gateway.chat.history import History
from gateway.chat.notices import member_notices, queue_notices
from gateway.chat.records.chat_record import Actor, ChatEvent, ChatShared, MemberChange, MemberRole, Unqueued
from gateway.chat.roles import RIGHTS
from gateway.chat.run_start import chat_appends
from gateway.core.limits import REQUEST, Limiter
from gateway.core.usage import now_ms
from gateway.errors import TrilaneError

MAX_MEMBERS = 100
"""Maximum members of a chat: each is told of what happens in it."""
TYPING_S = 5.0
"""Seconds for which somebody is typing who has said so once."""
TYPING_EVERY_S = 2.0
"""Seconds in which somebody's typing in one chat is told once."""
MAX_TYPING = 10_000
"""Maximum chats and members of which the last sign of typing is remembered."""


class RoleRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request that makes somebody a member, or gives them another role."""

    role: MemberRole


class ChatMembers(msgspec.Struct, frozen=True, rename="camel"):
    """Who may read a chat, and the id that addresses it for all of them."""

    shared_id: str
    members: list[ChatMember]


class Members:
    """Changes the members of chats, in one process."""

    def __init__(self, event_log: EventLog, chats: Chats, memberships: Memberships, limiter: Limiter) -> None:
        self._log = event_log
        self._chats = chats
        self._memberships = memberships
        self._limiter = limiter
        self._typing: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def put(self, who: Principal, chat_id: str, sub: str, role: MemberRole) -> ChatMembers:
        """Makes somebody a member, or gives them another role; the same again changes nothing.

        Raises NotFound, Forbidden (`role_forbidden`), and TrilaneError (409) as `last_owner`, `too_many_members` or
        `no_sign_in`.
        """
        await self._limiter.admit(who, REQUEST)
        self._check_sign_in()
        return await again(lambda: self._change(who, chat_id, sub, role))

    async def remove(self, who: Principal, chat_id: str, sub: str) -> None:
        """Takes a member out of a chat, which ends what is open for them; whoever is none already stays so.

        Everybody may leave by themselves. Raises as `put` does.
        """
        await self._limiter.admit(who, REQUEST)
        self._check_sign_in()
        await again(lambda: self._change(who, chat_id, sub, None))

    async def note_typing(self, who: Principal, chat_id: str) -> None:
        """Tells the members of a chat that somebody is typing, once in TYPING_EVERY_S; nothing of it is in the chat.

        Raises NotFound, Forbidden (`role_forbidden`), LogError.
        """
        await self._limiter.admit(who, REQUEST)
        with self._chats.in_memory.hold() as held:
            shared_id = (await self._chats.existing(who, chat_id, held, "send")).shared_id
        now, key = asyncio.get_running_loop().time(), (shared_id, who.sub)
        if not shared_id or now - self._typing.get(key, -TYPING_EVERY_S) < TYPING_EVERY_S:
            return
        self._typing[key] = now
        self._typing.move_to_end(key)
        while len(self._typing) > MAX_TYPING:
            self._typing.popitem(last=False)
        data = [msgspec.json.encode({"sub": who.sub})]
        topic = stored(PRESENCE + chat_events_topic(shared_id))
        await self._log.append(Append(topic=topic, data=data, name=stored_name("typing", TYPING_S, now_ms())))

    async def _change(self, who: Principal, chat_id: str, sub: str, role: MemberRole | None) -> ChatMembers:
        with self._chats.in_memory.hold() as held:
            is_leaving = role is None and sub == who.sub
            chat = await self._chats.existing(who, chat_id, held, "read" if is_leaving else "manage")
        change = MemberChange(sub, role, Actor(who.sub))
        if chat.members.get(sub) != role:
            _check(chat, change)
            await self._append(who, chat, change)
        return ChatMembers(chat.shared_id, members_of(chat))

    async def _append(self, who: Principal, chat: History, change: MemberChange) -> None:
        events: list[ChatEvent] = [change, *_not_sent(chat, change)]
        linked: dict[str, MemberRole | None] = {change.sub: change.role}
        if not chat.shared_id:
            chat.shared_id = new_shared_id()
            events.insert(0, ChatShared(chat.shared_id))
            linked = {chat.owner: "owner", **linked}
        appends: list[Append] = []
        for sub, role in linked.items():
            link = ChatLink(chat.shared_id, chat.chat_id, chat.topic, chat.epoch, chat.owner, role or "")
            appends += link_appends(sub, link, is_member=role is not None)
        notices = [*member_notices(chat, change), *queue_notices(chat, who.sub, events)]
        await self._log.append(*chat_appends(who, chat, events), *appends, *notices)
        chat.roles[change.sub] = change.role

    def _check_sign_in(self) -> None:
        if not self._memberships.are_kept:
            raise TrilaneError(
                "everybody is the same user here, so a chat has no members: set TRILANE_JWT_SECRET or TRILANE_API_KEYS",
                code="no_sign_in",
                status=409,
            )


def _not_sent(chat: History, change: MemberChange) -> list[Unqueued]:
    """Returns the events that remove what waits of who may send no more: it would be answered in their name."""
    if change.role is not None and "send" in RIGHTS[change.role]:
        return []
    waiting = chat.queue.waiting.values()
    return [Unqueued(id=queued.id, actor=change.actor) for queued in waiting if queued.actor.sub == change.sub]


def _check(chat: History, change: MemberChange) -> None:
    """Raises TrilaneError for a change that would leave a chat without an owner, or too large."""
    owners = [sub for sub, role in chat.members.items() if role == "owner"]
    if owners == [change.sub]:
        raise TrilaneError(
            f"{change.sub!r} is the last owner of this chat: make somebody else an owner first, or delete the chat",
            code="last_owner",
            status=409,
        )
    if change.sub not in chat.members and len(chat.members) >= MAX_MEMBERS:
        raise TrilaneError(
            f"the chat has {len(chat.members)} members: at most {MAX_MEMBERS} can share one",
            code="too_many_members",
            status=409,
        )
