"""Tells users on their own topics of the events lane what happens in their chats, with the appends that do it. Pure.

Of a chat with members each is told who has looked at it once, and so are the followers of the chat's own topic there.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from events.log.port import Append
from events.log.topics import stored, user_topic
from gateway.access.memberships import chat_events_topic
from gateway.chat.history import History
from gateway.chat.records.chat_record import Answered, Ask, ChatEvent, MemberChange, Queued, RunInfo, Unqueued
from gateway.chat.records.messages import UIMessage

NoticeFields = Mapping[str, object]
_json = msgspec.json.Encoder().encode


def notices(info: RunInfo, event: str, more: NoticeFields = MappingProxyType({})) -> list[Append]:
    """Returns the appends that tell of a run of a chat."""
    data = {"runId": info.run_id, "chatId": info.chat_id, "messageId": info.message_id, **more}
    return _appends([info.sub, *info.members], info.shared_id, event, data)


def asked_notices(info: RunInfo, ask: Ask) -> list[Append]:
    """Returns the appends that tell of an ask; its input stands in the chat alone."""
    told: dict[str, object] = {"approvalId": ask.approval_id, "toolName": ask.tool_name, "kind": ask.kind}
    return notices(info, "approval-requested", {**told, **({"expiresAt": ask.expires_at} if ask.expires_at else {})})


def answered_notices(history: History, sub: str, answers: Iterable[Answered]) -> list[Append]:
    """Returns the appends that tell of answers to asks of a chat, of which `sub` brought one."""
    appends: list[Append] = []
    for answer in answers:
        ask = history.asks[answer.approval_id]
        data = {
            "runId": ask.run_id,
            "chatId": history.chat_id,
            "messageId": ask.message_id,
            "approvalId": ask.approval_id,
            "approved": answer.approved,
            "actor": answer.actor,
        }
        appends += _appends([sub, *history.noticed], history.shared_id, "approval-answered", data)
    return appends


def message_notices(history: History, sub: str, events: Iterable[ChatEvent]) -> list[Append]:
    """Returns the appends that tell members of a chat of what `sub` says in it; its text stands in the chat alone."""
    if not history.shared_id:
        return []
    messages = [event.id for event in events if isinstance(event, UIMessage) and event.role == "user"]
    return [
        append
        for message_id in messages
        for append in _appends(
            history.noticed,
            history.shared_id,
            "chat-message",
            {"chatId": history.chat_id, "messageId": message_id, "author": sub},
        )
    ]


def queue_notices(history: History, sub: str, events: Iterable[ChatEvent]) -> list[Append]:
    """Returns the appends that tell of messages that wait from now on, or no more, as `sub` wants it."""
    return [
        append
        for event in events
        if isinstance(event, Queued | Unqueued)
        for append in _appends(
            [sub, *history.noticed],
            history.shared_id,
            event.event,
            {"chatId": history.chat_id, "messageId": event.id, "actor": event.actor},
        )
    ]


def member_notices(history: History, change: MemberChange) -> list[Append]:
    """Returns the appends that tell members of a chat that somebody has another role in it, or none."""
    data = {"chatId": history.chat_id, "sub": change.sub, "role": change.role, "actor": change.actor}
    return _appends(history.noticed, history.shared_id, change.event, data)


def _appends(subs: Iterable[str], shared_id: str, event: str, data: NoticeFields) -> list[Append]:
    topics = [user_topic(sub) for sub in dict.fromkeys(subs)]
    if shared_id:
        data = {**data, "sharedId": shared_id}
        topics.append(chat_events_topic(shared_id))
    return [Append(topic=stored(topic), data=[_json(data)], name=event) for topic in topics]
