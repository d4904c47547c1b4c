"""An event is one thing that can happen in a chat: a closed union, each with its name in the chat's topic.

Nothing else is the truth about a chat. A run has a topic of its own, which begins with its `RunInfo`; the chat's topic
tells only that it started and how it finished.
"""

from typing import ClassVar, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.chat.records.messages import UIMessage, UpstreamMessage, joined
from gateway.core.leases import Reservation
from gateway.core.usage import Usage

Trigger = Literal["submit-message", "regenerate-message"]


class CancelAfter(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    cancel_after: float
    """Seconds with nobody attached after which the run is cancelled."""


OnDisconnect = Literal["continue", "cancel"] | CancelAfter
"""What becomes of an answer that nobody reads any more."""


class ChatCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The first event of a chat's topic."""

    event: ClassVar = "chat"
    id: str
    """The chat's id, as its owner calls it; the topic's name does not tell it."""


class Truncate(msgspec.Struct, frozen=True):
    """The event that cuts history down to its first `keep` messages."""

    event: ClassVar = "truncate"
    keep: int


class MessagesDeleted(msgspec.Struct, frozen=True):
    """The event that messages are gone for good: no model is sent them again, and no snapshot shows them."""

    event: ClassVar = "messages-deleted"
    ids: list[str]


class RunStarted(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that an answer has begun to be written."""

    event: ClassVar = "run-started"
    run_id: str
    message_id: str
    """Id of the answer; an older one when the run continues an answer after tool results."""
    key: str = ""
    """The key of its request: one that is repeated with this key gets the same run."""
    trigger: Trigger = "submit-message"
    continues: str = ""
    """Id of the run that asked, when this one goes on because all of its asks have been answered."""
    background: bool = False
    """Whether it was started for nobody to read it; so is what goes on with it."""
    extra: dict[str, Raw] = {}
    """Top-level fields of the request that are not ours."""
    sub: str = ""
    """Who sent the message that it answers; empty: the user who made the chat."""


class ParkedRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What was asked of the model when a run parked: whoever answers its asks, it goes on with the same."""

    model: str = ""
    system: str = ""
    """What stands before the conversation."""
    fields: dict[str, object] = {}
    """The body of the completion, without its messages and the gateway's own tools."""
    shown: list[str] = []
    """Ids of the messages that the model was sent before the answer; empty when it was sent all that the chat had."""
    is_agents: bool = False
    """Whether an agent was asked: it alone knows how to go on, once it is told the answers."""
    same_as: str = ""
    """Id of an earlier run of the chat that parked with the same request, which stands there alone."""

    def asking(self, turns: list[UpstreamMessage]) -> dict[str, object]:
        """Returns the body of a completion with the same options, for another conversation."""
        system: list[UpstreamMessage] = [{"role": "system", "content": self.system}] if self.system else []
        return {**self.fields, "messages": joined([*system, *turns])}


class RunFinished(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that an answer has ended, and how."""

    event: ClassVar = "run-finished"
    run_id: str
    outcome: Literal["finish", "error", "abort"]
    usage: Usage
    finish_reason: str = ""
    code: str = ""
    text: str = ""
    message: UIMessage | None = None
    """The answer; None when nothing of it was visible."""
    asks: list[str] = []
    """Ids of the asks with which it parked, which stand before this event: the answer to the last one goes on."""
    took: list[str] = []
    """Ids of the queued messages that it has taken while it was written; those that it has not are still queued."""
    request: ParkedRequest | None = None
    """What it goes on with, or what is queued; None when nobody was asked and nothing waits."""


AskKind = Literal["approval", "input", "doubt"]
"""What is asked: whether a call may be made, what its result is, or what to do about one that may have been made."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that a run asks something of a person about one call of a tool. It is answered once."""

    event: ClassVar = "ask"
    approval_id: str
    run_id: str
    message_id: str
    tool_call_id: str
    tool_name: str
    kind: AskKind = "approval"
    input: Raw
    digest: str
    """SHA-256 of the JSON `[approvalId, toolName, input]`, without spaces and with sorted keys, in hexadecimal."""
    roles: list[str] = []
    """Roles of those who may answer; empty: whoever may write to the chat."""
    expires_at: int = 0
    """Milliseconds since 1970 from which on it is answered by nobody but the clock; 0: never."""
    editable: bool = False
    """Whether who allows the call may change its input."""
    tool: str = ""
    """Digest of the tool as it was when it was asked for; empty for a tool that is not the gateway's."""
    url: str = ""
    """Where who is asked signs in, which is the answer; empty where something else is asked."""
    key: str = ""
    """Idempotency key of the call; empty for a tool that is not the gateway's."""


class Actor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Who answered: a person, or what happened instead of an answer."""

    sub: str = ""
    via: Literal["user", "expired", "superseded", "stopped", "revoked"] = "user"


class Answered(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that an ask has its one answer."""

    event: ClassVar = "answered"
    approval_id: str
    approved: bool
    reason: str = ""
    input: Raw | UnsetType = UNSET
    """The input that the call is made with, in place of the model's."""
    output: Raw | UnsetType = UNSET
    """The result of the call, when somebody else has made it."""
    actor: Actor = Actor()
    at: int = 0
    """Milliseconds since 1970; 0 in answers of earlier releases."""


SteerAt = Literal["now", "step", "turn"]
"""When a running answer may take a queued message: at once, before its next step, or never, so that it waits."""


class Queued(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that a message waits. An answer that is being written may take it; else it gets one of its own."""

    event: ClassVar = "queued"
    id: str
    """The message's id: what is queued once is never queued again."""
    message: UIMessage
    at: SteerAt
    run_id: str = ""
    """The run that may take it; empty: any."""
    actor: Actor = Actor()
    key: str = ""
    """The key of the request that waits for its answer; empty when none does."""
    key_id: str = ""
    """The id of the API key that its sender signed in with; empty for any other credential."""
    request: ParkedRequest | None = None
    """What its answer is asked with; None: with what the answer before it was."""
    background: bool = False
    """Whether its answer is for nobody to read it."""
    on_disconnect: OnDisconnect = "continue"
    extra: dict[str, Raw] = {}
    """Top-level fields of its request that are not ours."""


class Unqueued(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that a message that waits is not wanted any more."""

    event: ClassVar = "unqueued"
    id: str
    actor: Actor = Actor()


class Taken(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The event that a run has taken messages, with the append that put them into its answer: they wait no more."""

    event: ClassVar = "taken"
    run_id: str
    ids: list[str]


MemberRole = Literal["owner", "editor", "approver", "viewer"]
"""What a member of a chat may do (`gateway.chat.roles`)."""


class ChatShared(msgspec.Struct, frozen=True, rename="camel"):
    """The event that a chat has members from now on, beside the user who made it."""

    event: ClassVar = "shared"
    shared_id: str
    """The id by which every member can address it, whatever their own chats are called."""


class MemberChange(msgspec.Struct, frozen=True):
    """The event that somebody has a role in a chat, another one, or none any more."""

    event: ClassVar = "member"
    sub: str
    role: MemberRole | None
    """None: they are no member any more."""
    actor: Actor = Actor()


class ChatOpened(msgspec.Struct, frozen=True):
    """The event that a member whom somebody else has added looks at the chat for the first time."""

    event: ClassVar = "opened"
    sub: str


class StopCommand(msgspec.Struct, frozen=True, rename="camel"):
    """The event that somebody wants the run to stop; the process that owns it obeys."""

    event: ClassVar = "stop"
    run_id: str


class ReplySpoken(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The event that an answer is spoken to somebody, or not any more; the newest one of an answer counts."""

    event: ClassVar = "spoken"
    run_id: str
    message_id: str
    session: str
    """The audio session in which it is spoken."""
    state: str
    """The state of the reply (`gateway.voice.messages`)."""
    chars: int = 0
    """The end of the last word that was heard, in code points of the answer's text."""


_KINDS = (
    *(ChatCreated, Truncate, MessagesDeleted, RunStarted, RunFinished, Ask, Answered),
    *(Queued, Unqueued, Taken, StopCommand),
    *(ChatShared, MemberChange, ChatOpened, ReplySpoken),
)
ChatEvent = (
    ChatCreated
    | UIMessage
    | Truncate
    | MessagesDeleted
    | RunStarted
    | RunFinished
    | Ask
    | Answered
    | Queued
    | Unqueued
    | Taken
    | StopCommand
    | ChatShared
    | MemberChange
    | ChatOpened
    | ReplySpoken
)
"""All that can happen in a chat. A `UIMessage` is new, or replaces the one of its id."""
MESSAGE = "message"
_DECODERS: dict[str, msgspec.json.Decoder[ChatEvent]] = {
    MESSAGE: msgspec.json.Decoder(UIMessage),
    **{kind.event: msgspec.json.Decoder(kind) for kind in _KINDS},
}
_json = msgspec.json.Encoder().encode


def encode_event(event: ChatEvent) -> tuple[str, bytes]:
    """Returns the event's name and data, as a chat's topic holds them."""
    return MESSAGE if isinstance(event, UIMessage) else event.event, _json(event)


def decode_event(name: str, data: bytes) -> ChatEvent | None:
    """Returns the event of a chat's topic; None for one of a newer release, which is passed over."""
    decoder = _DECODERS.get(name)
    return decoder.decode(data) if decoder is not None else None


FIRST_RECORD = 2
"""Offset of a run's first record in its topic."""


class RunInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The facts of a run, which are the first event of its own topic, so that any process can end it."""

    run_id: str
    sub: str
    message_id: str
    chat_id: str = ""
    """The chat that the run belongs to; empty for a run that belongs to none."""
    model: str = ""
    prompt_bytes: int = 0
    started_ms: int = 0
    """The time of its admission, in milliseconds since 1970; 0 in runs of earlier releases."""
    key: str = ""
    """The id of the API key that its caller signed in with; empty for any other credential."""
    background: bool = False
    """Whether it was started for nobody to read it."""
    posts_end: bool = False
    """Whether the operator's webhook is told of its end."""
    is_stored: bool = False
    """Whether it is a response that can be asked for later: then its end stands with that, too."""
    reserved: dict[str, list[Reservation]] = {}
    """What its admission has taken of rates, by limit: whoever ends it puts what it used in the place of that."""
    topic: str = ""
    """The topic of its chat; empty where that is named by `sub` and `chat_id`, as every chat of one user's own is."""
    shared_id: str = ""
    """The chat's shared id; empty for a chat without members."""
    members: list[str] = []
    """Whom notices of the run go to, beside `sub`: the members as it started."""
