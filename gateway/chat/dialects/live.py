"""This dialect is a chat over one socket, `trilane.chat.v1`: each message is one JSON text, without a line feed.

Its chunks and their cursors are those of the event stream (`ui_message`), so that a client may change between the two.
"""

import random

import msgspec
from msgspec import Raw

from events.log.cursor import cursor_prefix
from events.log.port import Block
from gateway.chat.dialects.ui_message import COMMON_UI, earlier_records, told_to
from gateway.chat.records.chat_record import (
    FIRST_RECORD,
    MESSAGE,
    Answered,
    Ask,
    MemberChange,
    MessagesDeleted,
    Queued,
    Taken,
    Truncate,
    Unqueued,
)
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import RECORD
from gateway.errors import TrilaneError, problem

SUBPROTOCOL = "trilane.chat.v1"
TOLD = frozenset(
    {
        *(MESSAGE, MessagesDeleted.event, Truncate.event),
        *(Ask.event, Answered.event, Queued.event, Unqueued.event, Taken.event, MemberChange.event),
    }
)
"""Names of the events of a chat that its clients are told; runs are told by their chunks."""
_json = msgspec.json.Encoder().encode


class LiveFrames(msgspec.Struct, frozen=True):
    """An encoder of one run: each record as one line with its cursor, everything else as nothing.

    `earlier` are records of the answer that it continues, which follow its first. Only the last of those has a cursor:
    a client that is cut before it begins anew.
    """

    run_id: str
    ui: int = COMMON_UI
    """The version of the AI SDK that reads."""
    earlier: tuple[bytes, ...] = ()

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = b'{"cursor":"%b' % cursor_prefix(self.run_id, epoch)
        is_plain = self.ui == COMMON_UI and not (self.earlier and block.first == FIRST_RECORD)
        if is_plain:
            return [b'%b%d","chunk":%b}\n' % (lead, at, data) for at, data in enumerate(block.data, block.first)]
        return [self._lines(lead, at, data) for at, data in enumerate(block.data, block.first)]

    def _lines(self, lead: bytes, offset: int, data: bytes) -> bytes:
        records = told_to(self.ui, data) + ([*self.earlier] if offset == FIRST_RECORD else [])
        if not records:
            return b""
        before = b"".join([b'{"chunk":%b}\n' % record for record in records[:-1]])
        return b'%b%b%d","chunk":%b}\n' % (before, lead, offset, records[-1])


def live_frames(run_id: str, answer: UIMessage | None, ui: int = COMMON_UI) -> LiveFrames:
    """Returns the encoder that tells all of an answer, of which an earlier run may have written a part."""
    return LiveFrames(run_id, ui, earlier_records(answer, ui))


class WaitingTold(msgspec.Struct, rename="camel"):
    """A message that waits, as the snapshot has it: what its answer is to be asked with is nobody else's."""

    id: str
    message: Raw
    at: str
    actor: Raw = Raw(b"{}")
    run_id: str = ""


def event_line(name: str, data: bytes) -> bytes:
    """Returns the line of an event of the chat; b"" for one that is not told."""
    if name == Queued.event:
        data = _json(msgspec.json.decode(data, type=WaitingTold))
    return b'{"event":"%b","data":%b}\n' % (name.encode(), data) if name in TOLD else b""


def people_line(event: str, data: object) -> bytes:
    """Returns the line of what the others do who look at the chat; nothing of it is in the chat."""
    return _own(event, data).encode() + b"\n"


def gap_line(reason: str, chat_id: str) -> bytes:
    """Returns the line that says that a part of the chat is not told, why, and where all of it is to be had."""
    return _json({"gap": reason, "snapshot": f"/api/chat/{chat_id}"}) + b"\n"


def expiry_notice(seconds: int) -> str:
    """Returns the message that tells a client in how many seconds its credential expires, and the socket closes."""
    return _own("auth", {"expiresIn": seconds})


def farewell(error: TrilaneError | None) -> str:
    """Returns the last message before a close: of a log that failed, or, without an error, of a process that leaves.

    There is none where coming back is no use: the code of the close says so.
    """
    if error is None:
        return _own("drain", {"retry": random.randint(1000, 4000)})
    return _own("busy", {"code": error.code, "retry": random.randint(5000, 15000)}) if error.retryable else ""


def _own(event: str, data: object) -> str:
    return _json({"event": event, "data": data}).decode()


def answer(ref: str | int | None, result: msgspec.Struct) -> str:
    """Returns the answer to a command that was done, with what the same call over HTTP answers."""
    return _json({"ref": ref, "ok": True, **msgspec.to_builtins(result)}).decode()


def refusal(ref: str | int | None, error: TrilaneError, request_id: str) -> str:
    """Returns the answer to a command that was not done: the problem document, and the seconds until it may be."""
    return _json({"ref": ref, **_problem(error, request_id)}).decode()


def opening_refusal(error: TrilaneError, request_id: str) -> str:
    """Returns the message that says why there is no chat to follow; a close follows it."""
    return _json(_problem(error, request_id)).decode()


def _problem(error: TrilaneError, request_id: str) -> dict[str, object]:
    _, document, headers = problem(error, request_id)
    retry_after = headers.get("retry-after", "")
    return {"problem": Raw(document), **({"retryAfter": int(retry_after)} if retry_after.isdecimal() else {})}
