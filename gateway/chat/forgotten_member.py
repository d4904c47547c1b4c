"""Takes a user who is to be forgotten out of the chats of others, on a log that gateways may use meanwhile.

Their membership ends, and what waits of theirs is taken back. What they have said stays, under a random name, another
one in each chat. The events that have their own name stay, as those of deleted messages do, until the chat is deleted;
nobody is shown it any more.
"""

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec
from msgspec import Raw

from events.log.port import Append, EventLog
from gateway.access.grants import Principal
from gateway.access.memberships import ChatLink, link_appends, read_links
from gateway.chat.chats import again
from gateway.chat.history import History, read_history
from gateway.chat.notices import member_notices
from gateway.chat.records.authors import author_of, with_author
from gateway.chat.records.chat_record import Actor, ChatEvent, MemberChange, MemberRole, Unqueued
from gateway.chat.records.messages import UIMessage
from gateway.chat.run_start import chat_appends
from gateway.chat.topics import run_topic

HEIRS: tuple[MemberRole, ...] = ("editor", "approver", "viewer")
"""The roles of those of whom one becomes the owner, when the last one is forgotten; who came first comes first."""
PLACES = {b"data-approval": ("actor", "sub"), b"data-steer": ("by",)}
"""Where the data of the gateway's own parts names a user, by the type of the part."""
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_json = msgspec.json.Encoder().encode


async def joined_chats(log: EventLog, sub: str) -> AsyncIterator[History]:
    """Yields the chats of others that a user is a member of, or was, as they are now. Raises LogError."""
    for link in await _joined(log, sub):
        if (chat := await _chat(log, link)) is not None:
            yield chat


async def leave_chats(log: EventLog, sub: str) -> int:
    """Takes a user out of all chats of others; returns the number of those that they had a part in.

    May be repeated at any time. Raises LogError.
    """
    count = 0
    for link in await _joined(log, sub):
        count += await again(lambda link=link: _leave(log, sub, link))
    return count


async def _joined(log: EventLog, sub: str) -> list[ChatLink]:
    links = {(link.topic, link.epoch): link for _, link in await read_links(log, sub) if link.owner != sub}
    return list(links.values())


async def _chat(log: EventLog, link: ChatLink) -> History | None:
    """Returns the chat of a link, which the link may have outlived."""
    chat = await read_history(log, link.owner, link.chat_id, topic=link.topic)
    return chat if chat.epoch == link.epoch else None


async def _leave(log: EventLog, sub: str, link: ChatLink) -> bool:
    chat = await _chat(log, link)
    if chat is None:
        return False
    role = chat.members.get(sub)
    if role is not None and len(chat.members) == 1:
        await _delete(log, chat)
        return True
    events: list[ChatEvent] = [Unqueued(id=each.id) for each in chat.queue.waiting.values() if each.actor.sub == sub]
    appends: list[Append] = []
    if role is not None:
        changes = [*_succession(chat, sub), MemberChange(sub, None, Actor(sub))]
        events += changes
        for change in changes:
            changed = msgspec.structs.replace(link, role=change.role or "")
            appends += link_appends(change.sub, changed, is_member=change.role is not None)
            appends += member_notices(chat, change)
    name = f"forgotten-{secrets.token_hex(4)}"
    events += [said for message in chat.messages if (said := renamed(message, sub, name)) is not None]
    if events:
        await log.append(*chat_appends(Principal(sub=sub), chat, events), *appends)
    return bool(events)


def _succession(chat: History, sub: str) -> list[MemberChange]:
    """Returns the change that gives a chat an owner when its last one leaves."""
    others = {other: role for other, role in chat.members.items() if other != sub}
    if "owner" in others.values():
        return []
    return [MemberChange(min(others, key=lambda other: HEIRS.index(others[other])), "owner")]


async def _delete(log: EventLog, chat: History) -> None:
    """Deletes a chat that nobody is left in."""
    await log.delete(chat.topic)
    for run_id in chat.runs:
        await log.delete(run_topic(run_id))


def renamed(message: UIMessage, sub: str, name: str) -> UIMessage | None:
    """Returns a message in which a user has another name; None where the gateway has not named them in it."""
    metadata = with_author(message.metadata, name) if author_of(message.metadata) == sub else message.metadata
    parts = [_renamed_part(part, sub, name) for part in message.parts]
    if metadata is message.metadata and parts == message.parts:
        return None
    return msgspec.structs.replace(message, metadata=metadata, parts=parts)


def _renamed_part(part: Raw, sub: str, name: str) -> Raw:
    path = next((path for kind, path in PLACES.items() if b'"%b"' % kind in bytes(part)), None)
    return part if path is None else _renamed_at(part, ("data", *path), sub, name)


def _renamed_at(value: Raw, path: Iterable[str], sub: str, name: str) -> Raw:
    """Returns a JSON value in which a user, who stands at this place, has another name; all else as it is."""
    place, *rest = path
    try:
        fields: Mapping[str, Raw] = _fields(value)
        inner = fields.get(place)
        if inner is None:
            return value
        if not rest:
            changed = Raw(_json(name)) if msgspec.json.decode(inner) == sub else inner
        else:
            changed = _renamed_at(inner, rest, sub, name)
    except msgspec.DecodeError:  # a part that a client has posted under that type
        return value
    return value if changed is inner else Raw(_json({**fields, place: changed}))
