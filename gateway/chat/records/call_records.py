"""The records of one call of a tool: that its input is all there, and what became of it. Pure."""

from typing import assert_never

import msgspec
from msgspec import Raw, UnsetType

from gateway.chat.records.message_parts import ToolPart
from gateway.chat.records.provider_fields import AGENT, folded
from gateway.chat.records.record import (
    ApprovalRequest,
    ToolInputAvailable,
    ToolInputError,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
    encode_record,
)

ToolOutcome = ToolOutputAvailable | ToolOutputError | ToolOutputDenied | ApprovalRequest


def complete_record(call: ToolPart) -> bytes:
    """Returns the record that a call's input is all there, or that nobody can run it."""
    arguments = call.input()
    if isinstance(arguments, Raw) and not call.error:
        return encode_record(
            ToolInputAvailable(
                tool_call_id=call.call_id,
                tool_name=call.name,
                input=arguments,
                provider_executed=call.is_executed,
                dynamic=call.kind.is_dynamic,
                provider_metadata=folded(call.provider_fields),
            )
        )
    text = "".join(call.arguments)
    return encode_record(
        ToolInputError(
            tool_call_id=call.call_id,
            tool_name=call.name,
            input=text,
            error_text=call.error,
            provider_executed=call.is_executed,
            dynamic=call.kind.is_dynamic,
        )
    )


def is_of_agent(record: ToolInputAvailable | ToolInputError) -> bool:
    """Returns whether an agent makes this call: then it may have been made as soon as it was written."""
    if isinstance(record, ToolInputError) or isinstance(record.provider_metadata, UnsetType):
        return False
    return AGENT in msgspec.json.decode(record.provider_metadata, type=dict[str, Raw])


def outcome_fields(outcome: ToolOutcome) -> dict[str, object]:
    """Returns the fields that an outcome adds to the call's part of the message."""
    match outcome:
        case ToolOutputAvailable():
            return {"state": "output-available", "output": outcome.output}
        case ToolOutputError():
            return {"state": "output-error", "errorText": outcome.error_text}
        case ToolOutputDenied():
            return {"state": "output-denied"}
        case ApprovalRequest():
            return {"state": "approval-requested", "approval": {"id": outcome.approval_id}}
        case _:
            assert_never(outcome)
