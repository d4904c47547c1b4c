"""A submission is what a client sends to a chat, in the words of the AI SDK's transport, once checked. Pure."""

from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.access.grants import Principal
from gateway.chat.records.chat_record import Trigger
from gateway.chat.records.messages import UIMessage
from gateway.chat.topics import check_id
from gateway.errors import BadRequest

MAX_EXTRA = 64


class CancelAfter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cancel_after: float
    """Seconds with nobody attached after which the run is cancelled."""


OnDisconnect = Literal["continue", "cancel"] | CancelAfter


class SendRequest(msgspec.Struct, kw_only=True, rename="camel"):
    """The body of a request to a chat."""

    id: str
    messages: list[UIMessage] | UnsetType = UNSET
    message: UIMessage | UnsetType = UNSET
    trigger: Trigger = "submit-message"
    message_id: str | None = None
    model: str | None = None
    on_disconnect: OnDisconnect = "continue"

    def posted_messages(self) -> list[UIMessage]:
        if isinstance(self.message, UnsetType) == isinstance(self.messages, UnsetType):
            raise BadRequest("send either `messages` or `message`")
        messages = [self.message] if isinstance(self.message, UIMessage) else self.messages
        assert not isinstance(messages, UnsetType)
        for message in messages:
            check_id("message id", message.id)
        return messages


OURS = {field.encode_name for field in msgspec.structs.fields(SendRequest)}


class Submission(NamedTuple):
    """One request to a chat, checked."""

    who: Principal
    request: SendRequest
    messages: list[UIMessage]
    key: str
    """The key of the request: one that is repeated with it gets the same run."""
    extra: dict[str, Raw]
    """Top-level fields of the request that are not ours; they are kept with the run."""


def extra_fields(body: dict[str, Raw]) -> dict[str, Raw]:
    """Returns the fields of a body that are not ours: an AI SDK client adds what its application wants to say."""
    extra = {name: value for name, value in body.items() if name not in OURS}
    if len(extra) > MAX_EXTRA:
        raise BadRequest(f"{len(extra)} extra fields: at most {MAX_EXTRA} are allowed")
    return extra
