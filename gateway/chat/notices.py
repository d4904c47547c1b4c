"""Tells the user's own topic of the events lane what happens in their chats, with the appends that make it so. Pure."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from events.log.port import Append
from events.log.topics import stored, user_topic
from gateway.chat.records.chat_record import Answered, Ask, RunInfo

_json = msgspec.json.Encoder().encode


def notice(info: RunInfo, event: str, more: Mapping[str, str | int] = MappingProxyType({})) -> Append:
    """Returns the append that tells of a run of a chat."""
    data = {"runId": info.run_id, "chatId": info.chat_id, "messageId": info.message_id, **more}
    return Append(topic=stored(user_topic(info.sub)), data=[_json(data)], name=event)


def asked_notice(info: RunInfo, ask: Ask) -> Append:
    """Returns the append that tells of an ask; its input stands in the chat alone."""
    told: dict[str, str | int] = {"approvalId": ask.approval_id, "toolName": ask.tool_name, "kind": ask.kind}
    return notice(info, "approval-requested", {**told, **({"expiresAt": ask.expires_at} if ask.expires_at else {})})


def answered_notices(sub: str, chat_id: str, asks: Mapping[str, Ask], answers: Iterable[Answered]) -> list[Append]:
    """Returns the appends that tell of answers to asks of a chat."""
    appends: list[Append] = []
    for answer in answers:
        ask = asks[answer.approval_id]
        data = {
            "runId": ask.run_id,
            "chatId": chat_id,
            "messageId": ask.message_id,
            "approvalId": ask.approval_id,
            "approved": answer.approved,
            "actor": answer.actor,
        }
        appends.append(Append(topic=stored(user_topic(sub)), data=[_json(data)], name="approval-answered"))
    return appends
