"""This dialect is the AI SDK's UI Message Stream v1, for its clients of versions 5, 6 and 7.

A run's records are stored as this dialect has them, so a frame is made without decoding anything.
"""

import random

import msgspec

from events.log.cursor import cursor_prefix
from events.log.port import Block
from gateway.chat.records.chat_record import FIRST_RECORD
from gateway.chat.records.messages import UIMessage
from gateway.chat.records.record import RECORD
from gateway.chat.records.retelling import records_of
from gateway.errors import TrilaneError, Unauthorized

HEADERS = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE = b"data: [DONE]\n\n"


class UIFrames(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of one run as one frame with its cursor, everything else as nothing."""

    run_id: str

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = b"id: " + cursor_prefix(self.run_id, epoch)
        # The id is the last line: some clients keep it as soon as they have read it, and would skip what was cut.
        return [b"data: %b\n%b%d\n\n" % (data, lead, offset) for offset, data in enumerate(block.data, block.first)]


class WholeUIFrames(msgspec.Struct, frozen=True):
    """An encoder of a run that continues an answer, which tells the earlier part of that answer after its `start`.

    Only the last of those frames has a cursor, that of the `start`: a client that is cut before it begins anew.
    """

    run_id: str
    earlier: tuple[bytes, ...]
    """Records of the earlier part, at least one."""

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        frames = UIFrames(self.run_id)(epoch, block)
        place = FIRST_RECORD - block.first
        if block.name == RECORD and 0 <= place < len(frames):
            _, _, cursor_line = frames[place].rpartition(b"\nid: ")
            told = b"".join(b"data: %b\n\n" % record for record in (block.data[place], *self.earlier))
            frames[place] = b"%b\nid: %b" % (told.removesuffix(b"\n\n"), cursor_line)
        return frames


def whole_frames(run_id: str, answer: UIMessage | None) -> UIFrames | WholeUIFrames:
    """Returns the encoder that tells all of an answer, of which an earlier run may have written a part."""
    earlier = records_of(answer.parts) if answer is not None else []
    return WholeUIFrames(run_id, tuple(earlier)) if earlier else UIFrames(run_id)


def farewell() -> bytes:
    """Returns the last frame that a reader gets when this process leaves."""
    return _transient("data-drain", {}, random.randint(1000, 4000))


def expiry_notice(seconds: int) -> bytes:
    """Returns the frame that tells a reader in how many seconds its token expires, and this stream is cut."""
    chunk = {"type": "data-auth", "data": {"expiresIn": seconds}, "transient": True}
    return b"data: %b\n\n" % msgspec.json.encode(chunk)


def apology(error: TrilaneError) -> bytes:
    """Returns the last frame that a reader gets when the log fails: the answer may go on, so nothing says its end.

    One whose credential has ended gets none: the status of its next request says so.
    """
    if isinstance(error, Unauthorized):
        return b""
    return _transient("data-busy", {"code": error.code}, random.randint(5000, 15000))


def _transient(kind: str, data: dict[str, object], retry_ms: int) -> bytes:
    """Returns a data chunk that AI SDK clients show to nobody, so that `retry:` has an event to stand on."""
    chunk = {"type": kind, "data": {**data, "retry": retry_ms}, "transient": True}
    return b"retry: %d\ndata: %b\n\n" % (retry_ms, msgspec.json.encode(chunk))
