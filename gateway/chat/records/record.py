"""A record is one thing that can happen in a run: a closed union, in the form in which a run's topic holds it.

The stored JSON is that of the AI SDK's UI Message Stream, in the subset that its versions 5, 6 and 7 accept, so that
this commonest dialect passes a record on without decoding it. Every other dialect is a `match` over `Record`. Agents,
tools and approvals have their records here before anything writes them: a reader that is exhaustive today stays so.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

RUN = "run"
"""Name of the first event of a run's topic, which says what the run is."""
RECORD = "chunk"
"""Name of the events that are records; the other events of a run's topic are hidden from clients."""
HEARTBEAT = "heartbeat"
REQUEST = "request"
"""Name of the hidden event, once before a run's first step, of what another process would go on with."""
TAKEN_OVER = "taken-over"
"""Name of the hidden event that another process goes on with this run: whoever wrote it before writes no more."""
LEFT = "left"
"""Name of the hidden event that whoever opened this run does not write it: a process that ends leaves it to others."""
EFFECT_STARTED = "effect-started"
"""Name of the hidden event that a call of a tool is about to leave: `{"toolCallId","key","attempt","effect"}`."""
DATA = "data-"
"""Beginning of the `type` of every `Data`."""

CUSTOM_TOOL = "data-custom-tool"
"""The `type` of a transient `Data` before a call whose input is any text, and not JSON; it holds the call's id."""

CHOICES = "data-choices"
"""The `type` of a `Data` with pieces of other answers to the same request, as choices of OpenAI's format."""

FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "error", "other"]
TextKind = Literal["text", "reasoning"]
ProviderMetadata = Raw | UnsetType
"""Fields that a provider sends and that we do not know, as they came: `{"<provider>": {...}}`."""


class _Tagged(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, tag_field="type", gc=False
):
    """The base of all records: the field `type` tells which one it is, and what has its default is left out.

    None of them can be part of a circle, so the garbage collector need not look at them (`gc=False`).
    """


class MessageStart(_Tagged, frozen=True, tag="start"):
    message_id: str


class StepStart(_Tagged, frozen=True, tag="start-step"):
    """The record that a producer begins: a step is one call of a model, and the tools it asks for run side by side."""


class StepFinish(_Tagged, frozen=True, tag="finish-step"):
    """The record that a producer has come to its end."""


class Metadata(_Tagged, frozen=True, tag="message-metadata"):
    """Facts about the message; fields of later ones are added to those of earlier ones."""

    message_metadata: Raw

    def facts(self) -> dict[str, object]:
        """Returns what the model's side has said of the whole answer."""
        fields = msgspec.json.decode(self.message_metadata, type=dict[str, Raw])
        return {"providerMetadata": fields["providerMetadata"]} if "providerMetadata" in fields else {}


class TextStart(_Tagged, frozen=True, tag="text-start"):
    id: str
    provider_metadata: ProviderMetadata = UNSET


class TextDelta(_Tagged, frozen=True, tag="text-delta"):
    id: str
    delta: str
    provider_metadata: ProviderMetadata = UNSET


class TextEnd(_Tagged, frozen=True, tag="text-end"):
    id: str
    provider_metadata: ProviderMetadata = UNSET


class ReasoningStart(_Tagged, frozen=True, tag="reasoning-start"):
    id: str
    provider_metadata: ProviderMetadata = UNSET


class ReasoningDelta(_Tagged, frozen=True, tag="reasoning-delta"):
    id: str
    delta: str
    provider_metadata: ProviderMetadata = UNSET


class ReasoningEnd(_Tagged, frozen=True, tag="reasoning-end"):
    id: str
    provider_metadata: ProviderMetadata = UNSET


class ToolInputStart(_Tagged, frozen=True, tag="tool-input-start"):
    tool_call_id: str
    tool_name: str
    provider_executed: bool = False
    """Whether the gateway or an agent runs it, so that no client does."""
    dynamic: bool = False
    """Whether clients are not expected to know the tool by its name."""


class ToolInputDelta(_Tagged, frozen=True, tag="tool-input-delta"):
    tool_call_id: str
    input_text_delta: str


class ToolInputAvailable(_Tagged, frozen=True, tag="tool-input-available"):
    """The record that a call is complete: only now may a tool be run with its input."""

    tool_call_id: str
    tool_name: str
    input: Raw
    provider_executed: bool = False
    dynamic: bool = False
    provider_metadata: ProviderMetadata = UNSET


class ToolInputError(_Tagged, frozen=True, tag="tool-input-error"):
    """The record that a call is complete, but its arguments are not JSON."""

    tool_call_id: str
    tool_name: str
    input: str
    error_text: str
    provider_executed: bool = False
    dynamic: bool = False


class ToolOutputAvailable(_Tagged, frozen=True, tag="tool-output-available"):
    tool_call_id: str
    output: Raw
    preliminary: bool = False
    """Whether another output of the same call follows and replaces this one."""
    provider_executed: bool = False
    dynamic: bool = False


class ToolOutputError(_Tagged, frozen=True, tag="tool-output-error"):
    tool_call_id: str
    error_text: str
    provider_executed: bool = False
    dynamic: bool = False


class ToolOutputDenied(_Tagged, frozen=True, tag="tool-output-denied"):
    """The record that somebody who was asked did not allow the call."""

    tool_call_id: str
    dynamic: bool = False


class ApprovalRequest(_Tagged, frozen=True, tag="tool-approval-request"):
    approval_id: str
    tool_call_id: str


class ProviderFields(_Tagged, frozen=True, tag="data-provider"):
    """Fields of a provider that came without a text they could go with."""

    data: Raw
    """The fields, by provider, as in `ProviderMetadata`."""


class MessageFinish(_Tagged, frozen=True, tag="finish"):
    finish_reason: FinishReason
    message_metadata: Raw | UnsetType = UNSET


class MessageError(_Tagged, frozen=True, tag="error"):
    error_text: str


class MessageAbort(_Tagged, frozen=True, tag="abort"):
    reason: str = ""


class Data(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record of a producer's own kind; `type` is `data-` and the name of that kind."""

    type: str
    id: str = ""
    """The record's id, or empty: a later one of the same type and id replaces this one."""
    data: Raw
    transient: bool = False
    """Whether it is only shown to those who follow the run now, and kept in no message."""


WHOLE_PARTS = ("source-url", "source-document", "file")
"""Types of the records that are parts of the message as they are."""


class WholePart(msgspec.Struct, frozen=True):
    """A record that brings a whole part of the message: a source of what is said, or a file."""

    raw: Raw
    """The record, one of WHOLE_PARTS, as it is stored."""


class NewerRecord(msgspec.Struct, frozen=True):
    """A record of a newer release: it is stored and passed on, but not understood."""

    type: str = ""


_Known = (
    MessageStart
    | StepStart
    | StepFinish
    | Metadata
    | TextStart
    | TextDelta
    | TextEnd
    | ReasoningStart
    | ReasoningDelta
    | ReasoningEnd
    | ToolInputStart
    | ToolInputDelta
    | ToolInputAvailable
    | ToolInputError
    | ToolOutputAvailable
    | ToolOutputError
    | ToolOutputDenied
    | ApprovalRequest
    | ProviderFields
    | MessageFinish
    | MessageError
    | MessageAbort
)
Record = _Known | Data | WholePart | NewerRecord

encode_record = msgspec.json.Encoder().encode
_known = msgspec.json.Decoder[_Known](_Known).decode
_data = msgspec.json.Decoder(Data).decode
_newer = msgspec.json.Decoder(NewerRecord).decode


def decode_record(data: bytes) -> Record:
    """Returns the record that an event of a run's topic holds."""
    try:
        return _known(data)
    except msgspec.ValidationError:
        newer = _newer(data)
        if newer.type in WHOLE_PARTS:
            return WholePart(Raw(data))
        return _data(data) if newer.type.startswith(DATA) else newer
