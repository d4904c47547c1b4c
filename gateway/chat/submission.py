"""A submission is what a client sends to a chat, in the words of the AI SDK's transport, once checked. Pure."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Raw

from events.log.port import Append
from gateway.access.grants import Principal
from gateway.chat.change import Posting
from gateway.chat.model_options import ModelOptions
from gateway.chat.records.chat_record import OnDisconnect, Trigger
from gateway.chat.records.messages import UIMessage
from gateway.chat.topics import check_id
from gateway.errors import BadRequest

MAX_EXTRA = 64


WhenBusy = Literal["interrupt", "queue", "steer", "reject"]


class SendRequest(ModelOptions, kw_only=True, rename="camel"):
    """The body of a request to a chat."""

    id: str
    messages: list[UIMessage] | None = None
    """The chat as this client shows it."""
    message: UIMessage | None = None
    """The newest message alone: the gateway knows the history."""
    trigger: Trigger | None = None
    message_id: str | None = None
    model: str | None = None
    on_disconnect: OnDisconnect | None = None
    background: bool | None = None
    """Whether the answer is only to be begun: it goes on whether anybody reads it, whatever `onDisconnect` says."""
    truncate: bool | None = None
    """Whether what the client does not show is to be gone for good."""
    when_busy: WhenBusy | None = None
    """What a new message does while an answer is being written; left out: it ends that."""

    def posting(self, author: str = "") -> Posting:
        """Returns the messages, checked, and what is wanted with them; `author` sends them, empty where all are one."""
        if (self.message is None) == (self.messages is None):
            raise BadRequest("send either `messages` or `message`")
        if self.truncate and self.messages is None:
            raise BadRequest("`truncate` needs `messages`: all that is to be kept")
        messages = [self.message] if self.message is not None else self.messages or []
        for message in messages:
            check_id("message id", message.id)
        return Posting(
            messages=messages,
            trigger=self.trigger or "submit-message",
            message_id=self.message_id or "",
            is_excerpt=self.message is not None,
            truncates=bool(self.truncate),
            author=author,
        )


OURS = {field.encode_name for field in msgspec.structs.fields(SendRequest)}


class Submission(NamedTuple):
    """One request to a chat, checked."""

    who: Principal
    request: SendRequest
    posting: Posting
    key: str
    """The key of the request: one that is repeated with it gets the same run."""
    extra: dict[str, Raw]
    """Top-level fields of the request that are not ours; they are kept with the run."""
    has_stream: bool = True
    """Whether the answer is one more stream of the user; not where one is open that tells it, too."""
    run_id: str = ""
    """The run's id, where it is told beside the run, too; empty for a new one. No other try may have it."""
    beside: Sequence[Append] = ()
    """What becomes durable with the run, or not at all."""


def extra_fields(body: dict[str, Raw]) -> dict[str, Raw]:
    """Returns the fields of a body that are not ours: an AI SDK client adds what its application wants to say."""
    extra = {name: value for name, value in body.items() if name not in OURS}
    if len(extra) > MAX_EXTRA:
        raise BadRequest(f"{len(extra)} extra fields: at most {MAX_EXTRA} are allowed")
    return extra
