"""Records as a run's topic holds them: the AI SDK's chunks, byte for byte, and what a newer release may add."""

from typing import get_args

import msgspec
import pytest
from msgspec import Raw

from gateway.chat.records.record import (
    WHOLE_PARTS,
    ApprovalRequest,
    Data,
    MessageAbort,
    MessageError,
    MessageFinish,
    MessageStart,
    Metadata,
    NewerRecord,
    ProviderFields,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    Record,
    StepFinish,
    StepStart,
    TextDelta,
    TextEnd,
    TextStart,
    ToolInputAvailable,
    ToolInputDelta,
    ToolInputError,
    ToolInputStart,
    ToolOutputAvailable,
    ToolOutputDenied,
    ToolOutputError,
    WholePart,
    decode_record,
    encode_record,
)

FIELDS = Raw(b'{"acme":{"x":1}}')
STORED: dict[bytes, Record] = {
    b'{"type":"start","messageId":"m"}': MessageStart(message_id="m"),
    b'{"type":"start-step"}': StepStart(),
    b'{"type":"finish-step"}': StepFinish(),
    b'{"type":"message-metadata","messageMetadata":{"model":"gpt"}}': Metadata(
        message_metadata=Raw(b'{"model":"gpt"}')
    ),
    b'{"type":"text-start","id":"t0"}': TextStart(id="t0"),
    b'{"type":"text-delta","id":"t0","delta":"a"}': TextDelta(id="t0", delta="a"),
    b'{"type":"text-delta","id":"t0","delta":"a","providerMetadata":{"acme":{"x":1}}}': TextDelta(
        id="t0", delta="a", provider_metadata=FIELDS
    ),
    b'{"type":"text-end","id":"t0"}': TextEnd(id="t0"),
    b'{"type":"reasoning-start","id":"r0"}': ReasoningStart(id="r0"),
    b'{"type":"reasoning-delta","id":"r0","delta":"a"}': ReasoningDelta(id="r0", delta="a"),
    b'{"type":"reasoning-end","id":"r0"}': ReasoningEnd(id="r0"),
    b'{"type":"tool-input-start","toolCallId":"c","toolName":"f"}': ToolInputStart(tool_call_id="c", tool_name="f"),
    b'{"type":"tool-input-delta","toolCallId":"c","inputTextDelta":"{"}': ToolInputDelta(
        tool_call_id="c", input_text_delta="{"
    ),
    b'{"type":"tool-input-available","toolCallId":"c","toolName":"f","input":{"a":1}}': ToolInputAvailable(
        tool_call_id="c", tool_name="f", input=Raw(b'{"a":1}')
    ),
    b'{"type":"tool-input-error","toolCallId":"c","toolName":"f","input":"{","errorText":"no"}': ToolInputError(
        tool_call_id="c", tool_name="f", input="{", error_text="no"
    ),
    b'{"type":"tool-output-available","toolCallId":"c","output":[1],"preliminary":true}': ToolOutputAvailable(
        tool_call_id="c", output=Raw(b"[1]"), preliminary=True
    ),
    b'{"type":"tool-output-error","toolCallId":"c","errorText":"no"}': ToolOutputError(
        tool_call_id="c", error_text="no"
    ),
    b'{"type":"tool-output-denied","toolCallId":"c"}': ToolOutputDenied(tool_call_id="c"),
    b'{"type":"tool-approval-request","approvalId":"a","toolCallId":"c"}': ApprovalRequest(
        approval_id="a", tool_call_id="c"
    ),
    b'{"type":"data-provider","data":{"acme":{"x":1}}}': ProviderFields(data=FIELDS),
    b'{"type":"data-weather","id":"w","data":[1],"transient":true}': Data(
        type="data-weather", id="w", data=Raw(b"[1]"), transient=True
    ),
    b'{"type":"finish","finishReason":"stop","messageMetadata":{}}': MessageFinish(
        finish_reason="stop", message_metadata=Raw(b"{}")
    ),
    b'{"type":"error","errorText":"no"}': MessageError(error_text="no"),
    b'{"type":"abort","reason":"stopped"}': MessageAbort(reason="stopped"),
}


@pytest.mark.parametrize("stored", STORED, ids=lambda stored: stored.decode()[9:40])
def test_a_record_is_stored_as_the_sdk_has_it_and_comes_back(stored: bytes) -> None:
    record = STORED[stored]
    assert encode_record(record) == stored
    assert type(decode_record(stored)) is type(record)
    assert encode_record(decode_record(stored)) == stored


def test_every_record_is_shown_here() -> None:
    assert set(get_args(Record)) - {type(record) for record in STORED.values()} == {NewerRecord, WholePart}


def test_fields_that_a_newer_release_adds_are_no_matter() -> None:
    assert decode_record(b'{"type":"text-delta","id":"t0","delta":"a","tone":"dry"}') == TextDelta(id="t0", delta="a")


@pytest.mark.parametrize("kind", WHOLE_PARTS)
def test_a_part_that_comes_in_one_piece_is_kept_as_it_is(kind: str) -> None:
    stored = b'{"type":"%b","url":"http://a","more":1}' % kind.encode()
    assert decode_record(stored) == WholePart(Raw(stored))


@pytest.mark.parametrize("kind", ["source-audio", "reset-step", "text-replace"])
def test_a_record_of_a_newer_release_is_known_by_its_type_alone(kind: str) -> None:
    assert decode_record(b'{"type":"%b","id":[1]}' % kind.encode()) == NewerRecord(type=kind)


@pytest.mark.parametrize("stored", [b"", b"{", b"[]", b"nonsense"])
def test_what_is_no_record_at_all_is_an_error(stored: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_record(stored)
