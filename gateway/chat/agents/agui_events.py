"""The events of AG-UI 1.0 (https://docs.ag-ui.com/concepts/events) and of its earlier versions, as far as we read them.

One tagged union, so that an event is decoded once; fields that are not named here, `rawEvent` above all, are passed
over without being decoded. JSON has no circles, so the garbage collector need not look at events (`gc=False`).
"""

import msgspec
from msgspec import UNSET, Raw, UnsetType


class _Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel", tag_field="type"):
    """The base of all events: the field `type` tells which one it is."""


class SilentEvent(_Event, frozen=True):
    """An event of which nothing is recorded: what it announces is seen when it comes, or stands in the log already."""


class TextMessageStart(_Event, frozen=True, tag="TEXT_MESSAGE_START"):
    message_id: str
    role: str | None = None


class TextMessageContent(_Event, frozen=True, tag="TEXT_MESSAGE_CONTENT"):
    message_id: str
    delta: str


class TextMessageEnd(_Event, frozen=True, tag="TEXT_MESSAGE_END"):
    message_id: str


class TextMessageChunk(_Event, frozen=True, tag="TEXT_MESSAGE_CHUNK"):
    """A piece of a message that nobody starts or ends."""

    message_id: str | None = None
    role: str | None = None
    delta: str | None = None


class ReasoningMessageContent(_Event, frozen=True, tag="REASONING_MESSAGE_CONTENT"):
    message_id: str
    delta: str


class ReasoningMessageChunk(_Event, frozen=True, tag="REASONING_MESSAGE_CHUNK"):
    message_id: str | None = None
    delta: str | None = None


class ReasoningMessageEnd(_Event, frozen=True, tag="REASONING_MESSAGE_END"):
    message_id: str


class ReasoningEncryptedValue(_Event, frozen=True, tag="REASONING_ENCRYPTED_VALUE"):
    """Reasoning that only the model's provider can read; it goes back with the message or call that it belongs to."""

    subtype: str
    entity_id: str
    encrypted_value: str


class ThinkingContent(_Event, frozen=True, tag="THINKING_TEXT_MESSAGE_CONTENT"):
    """A piece of reasoning, as versions before 1.0 name it."""

    delta: str


class ThinkingEnd(_Event, frozen=True, tag="THINKING_TEXT_MESSAGE_END"):
    pass


class ToolCallStart(_Event, frozen=True, tag="TOOL_CALL_START"):
    tool_call_id: str
    tool_call_name: str
    parent_message_id: str | None = None


class ToolCallArgs(_Event, frozen=True, tag="TOOL_CALL_ARGS"):
    tool_call_id: str
    delta: str


class ToolCallEnd(_Event, frozen=True, tag="TOOL_CALL_END"):
    tool_call_id: str


class ToolCallChunk(_Event, frozen=True, tag="TOOL_CALL_CHUNK"):
    """A piece of a call that nobody starts or ends."""

    tool_call_id: str | None = None
    tool_call_name: str | None = None
    parent_message_id: str | None = None
    delta: str | None = None


class ToolCallResult(_Event, frozen=True, tag="TOOL_CALL_RESULT"):
    tool_call_id: str
    content: Raw
    """A string, or a list of parts of content."""
    message_id: str | None = None


class StateSnapshot(_Event, frozen=True, tag="STATE_SNAPSHOT"):
    snapshot: Raw


class StateDelta(_Event, frozen=True, tag="STATE_DELTA"):
    delta: Raw
    """A JSON patch (RFC 6902)."""


class ActivitySnapshot(_Event, frozen=True, tag="ACTIVITY_SNAPSHOT"):
    message_id: str
    activity_type: str
    content: Raw
    replace: bool | None = None


class ActivityDelta(_Event, frozen=True, tag="ACTIVITY_DELTA"):
    message_id: str
    activity_type: str
    patch: Raw


class CustomEvent(_Event, frozen=True, tag="CUSTOM"):
    name: str
    value: Raw = Raw(b"null")


class StepStarted(_Event, frozen=True, tag="STEP_STARTED"):
    step_name: str


class StepFinished(_Event, frozen=True, tag="STEP_FINISHED"):
    step_name: str


class RunBegun(SilentEvent, frozen=True, tag="RUN_STARTED"):
    pass


class AgentInterrupt(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """A question with which a run ends; the next run of the thread brings its answer."""

    id: str
    reason: str = ""
    message: str | None = None
    tool_call_id: str | None = None
    response_schema: Raw | UnsetType = UNSET
    expires_at: str | None = None
    metadata: Raw | UnsetType = UNSET


class RunOutcomeTold(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    type: str
    interrupts: list[AgentInterrupt] = []
    pending_tool_call_ids: list[str] | None = None
    """Ids of the calls that the client is to make."""


class RunDone(_Event, frozen=True, tag="RUN_FINISHED"):
    outcome: RunOutcomeTold | None = None
    result: Raw | UnsetType = UNSET
    usage: Raw | UnsetType = UNSET


class RunFailed(_Event, frozen=True, tag="RUN_ERROR"):
    message: str = ""
    code: str | None = None
    usage: Raw | UnsetType = UNSET


class RawPassed(SilentEvent, frozen=True, tag="RAW"):
    """The event of the framework behind the others, which repeats them; it is dropped."""


class SnapshotMessage(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    id: object = None
    tool_call_id: str | None = None


class MessagesSnapshot(_Event, frozen=True, tag="MESSAGES_SNAPSHOT"):
    """The whole conversation, which our log has; only the agent's ids of the results in it are news."""

    messages: list[SnapshotMessage] = []


class ReasoningStarted(SilentEvent, frozen=True, tag="REASONING_START"):
    pass


class ReasoningMessageStart(SilentEvent, frozen=True, tag="REASONING_MESSAGE_START"):
    pass


class ReasoningFinished(SilentEvent, frozen=True, tag="REASONING_END"):
    pass


class ThinkingStarted(SilentEvent, frozen=True, tag="THINKING_START"):
    pass


class ThinkingStart(SilentEvent, frozen=True, tag="THINKING_TEXT_MESSAGE_START"):
    pass


class ThinkingFinished(SilentEvent, frozen=True, tag="THINKING_END"):
    pass


AguiEvent = (
    TextMessageStart
    | TextMessageContent
    | TextMessageEnd
    | TextMessageChunk
    | ReasoningMessageContent
    | ReasoningMessageChunk
    | ReasoningMessageEnd
    | ReasoningEncryptedValue
    | ThinkingContent
    | ThinkingEnd
    | ToolCallStart
    | ToolCallArgs
    | ToolCallEnd
    | ToolCallChunk
    | ToolCallResult
    | StateSnapshot
    | StateDelta
    | ActivitySnapshot
    | ActivityDelta
    | CustomEvent
    | StepStarted
    | StepFinished
    | RunDone
    | RunFailed
    | RunBegun
    | RawPassed
    | MessagesSnapshot
    | ReasoningStarted
    | ReasoningMessageStart
    | ReasoningFinished
    | ThinkingStarted
    | ThinkingStart
    | ThinkingFinished
)


class UnknownEvent(msgspec.Struct, frozen=True):
    """An event that we do not know."""

    type: str
    raw: Raw


class _Typed(msgspec.Struct, frozen=True):
    type: str


_known = msgspec.json.Decoder[AguiEvent](AguiEvent).decode
_typed = msgspec.json.Decoder(_Typed).decode
_TYPES = {kind.__struct_config__.tag for kind in AguiEvent.__args__}


def decode_agui(data: bytes) -> AguiEvent | UnknownEvent:
    """Returns an event. Raises msgspec.DecodeError for what is none, or is not as the protocol has it."""
    try:
        return _known(data)
    except msgspec.ValidationError:
        kind = _typed(data).type
        if kind in _TYPES:
            raise
        return UnknownEvent(kind, Raw(data))
