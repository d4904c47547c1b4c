"""This dialect is the AI SDK's UI Message Stream v1, for its clients of versions 5, 6 and 7.

A run's records are stored as version 6 has them, so a frame is made without decoding anything. Version 5 fails on what
it does not know, and 7 knows more: for them records about asks are told otherwise.
"""

import random
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from events.log.cursor import cursor_prefix
from events.log.port import Block
from gateway.chat.records.chat_record import FIRST_RECORD
from gateway.chat.records.messages import STEER, SteerData, UIMessage
from gateway.chat.records.record import RECORD
from gateway.chat.records.retelling import outcome_fields_of, records_of
from gateway.errors import TrilaneError, Unauthorized

HEADERS = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE = b"data: [DONE]\n\n"


NOT_ALLOWED = "this call was not allowed"
TOLD_OTHERWISE = (
    *(b'{"type":"tool-approval-request"', b'{"type":"tool-output-denied"', b'{"type":"data-approval"'),
    b'{"type":"data-steer"',
)
"""Beginnings of the records that clients of different versions are told differently."""
COMMON_UI = 6
_json = msgspec.json.Encoder().encode


class UIFrames(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of one run as one frame with its cursor, everything else as nothing."""

    run_id: str
    ui: int = COMMON_UI
    """The version of the AI SDK that reads."""

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = b"id: " + cursor_prefix(self.run_id, epoch)
        # The id is the last line: some clients keep it as soon as they have read it, and would skip what was cut.
        if self.ui == COMMON_UI:
            return [b"data: %b\n%b%d\n\n" % (data, lead, offset) for offset, data in enumerate(block.data, block.first)]
        frames: list[bytes] = []
        for offset, data in enumerate(block.data, block.first):
            told = b"\n\n".join(b"data: %b" % record for record in told_to(self.ui, data))
            frames.append(told and b"%b\n%b%d\n\n" % (told, lead, offset))
        return frames


class _About(msgspec.Struct, rename="camel"):
    """The fields that we read of a record about an ask, or of a message that was taken."""

    type: str
    id: str = ""
    tool_call_id: str = ""
    dynamic: bool = False
    data: Raw = Raw(b"{}")


class _Decision(msgspec.Struct):
    state: str = ""
    reason: str = ""


def told_to(ui: int, record: bytes) -> list[bytes]:
    """Returns the records that clients of a version are told instead of one that is stored."""
    if ui == COMMON_UI or not record.startswith(TOLD_OTHERWISE):
        return [record]
    about = msgspec.json.decode(record, type=_About)
    if ui < COMMON_UI and about.type == "tool-approval-request":
        return []
    if ui < COMMON_UI and about.type == "tool-output-denied":
        more = {"dynamic": True} if about.dynamic else {}
        failed = {"type": "tool-output-error", "toolCallId": about.tool_call_id, "errorText": NOT_ALLOWED, **more}
        return [_json(failed)]
    if ui > COMMON_UI and about.type == STEER:
        parts = [
            part for part in msgspec.json.decode(about.data, type=SteerData).parts if _type(part) in ("text", "file")
        ]
        return [_json({"type": "steering-message", "id": about.id, "parts": parts})]
    if ui > COMMON_UI and about.type == "data-approval":
        decision = msgspec.json.decode(about.data, type=_Decision)
        if decision.state in ("approved", "denied", "expired"):
            response: dict[str, object] = {"approvalId": about.id, "approved": decision.state == "approved"}
            more = {"reason": decision.reason} if decision.reason else {}
            return [_json({"type": "tool-approval-response", **response, **more}), record]
    return [record]


def _type(part: Raw) -> str:
    return msgspec.json.decode(part, type=_About).type


class WholeUIFrames(msgspec.Struct, frozen=True):
    """An encoder of a run that continues an answer, which tells the earlier part of that answer after its `start`.

    Only the last of those frames has a cursor, that of the `start`: a client that is cut before it begins anew.
    """

    run_id: str
    earlier: tuple[bytes, ...]
    """Records of the earlier part, at least one."""
    ui: int = COMMON_UI

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        frames = UIFrames(self.run_id, self.ui)(epoch, block)
        place = FIRST_RECORD - block.first
        if block.name == RECORD and 0 <= place < len(frames):
            _, _, cursor_line = frames[place].rpartition(b"\nid: ")
            told = b"".join(b"data: %b\n\n" % record for record in (block.data[place], *self.earlier))
            frames[place] = b"%b\nid: %b" % (told.removesuffix(b"\n\n"), cursor_line)
        return frames


def whole_frames(run_id: str, answer: UIMessage | None, ui: int = COMMON_UI) -> UIFrames | WholeUIFrames:
    """Returns the encoder that tells all of an answer, of which an earlier run may have written a part."""
    earlier = earlier_records(answer, ui)
    return WholeUIFrames(run_id, earlier, ui) if earlier else UIFrames(run_id, ui)


def earlier_records(answer: UIMessage | None, ui: int) -> tuple[bytes, ...]:
    """Returns the records that tell the part of an answer that earlier runs have written, if there is one."""
    records = records_of(answer.parts, has_streamed_inputs=ui >= COMMON_UI) if answer is not None else []
    return tuple(told for record in records for told in told_to(ui, record))


def parked(message_id: str, results: Iterable[Raw]) -> bytes:
    """Returns the frames of an answer that goes on once its other asks are answered.

    `results` are parts of calls that its client has made. They are told as if the gateway had made them: a client that
    posts by itself once its own calls have results would post the same again, for ever.
    """
    start, finish = {"type": "start", "messageId": message_id}, {"type": "finish", "finishReason": "tool-calls"}
    outcomes = [fields | {"providerExecuted": True} for part in results if (fields := outcome_fields_of(part))]
    return b"".join(b"data: %b\n\n" % _json(record) for record in (start, *outcomes, finish)) + DONE


def farewell() -> bytes:
    """Returns the last frame that a reader gets when this process leaves."""
    return _transient("data-drain", {}, random.randint(1000, 4000))


def expiry_notice(seconds: int) -> bytes:
    """Returns the frame that tells a reader in how many seconds its token expires, and this stream is cut."""
    chunk = {"type": "data-auth", "data": {"expiresIn": seconds}, "transient": True}
    return b"data: %b\n\n" % msgspec.json.encode(chunk)


def apology(error: TrilaneError) -> bytes:
    """Returns the last frame that a reader gets when the log fails: the answer may go on, so nothing says its end.

    One whose credential has ended gets none: the status of its next request says so. For a member who was removed it
    is over, though not for the others.
    """
    if isinstance(error, Unauthorized):
        return b""
    if error.code == "removed":
        return b"data: %b\n\n%b" % (_json({"type": "abort", "reason": error.code}), DONE)
    return _transient("data-busy", {"code": error.code}, random.randint(5000, 15000))


def _transient(kind: str, data: dict[str, object], retry_ms: int) -> bytes:
    """Returns a data chunk that AI SDK clients show to nobody, so that `retry:` has an event to stand on."""
    chunk = {"type": kind, "data": {**data, "retry": retry_ms}, "transient": True}
    return b"retry: %d\ndata: %b\n\n" % (retry_ms, msgspec.json.encode(chunk))
