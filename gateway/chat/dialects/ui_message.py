"""This dialect is the AI SDK's UI Message Stream v1, for its clients of versions 5, 6 and 7.

A run's records are stored as this dialect has them, so a frame is made without decoding anything.
"""

import random

import msgspec

from events.log.cursor import cursor_prefix
from events.log.port import Block
from gateway.chat.records.record import RECORD

HEADERS = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE = b"data: [DONE]\n\n"


class UIFrames(msgspec.Struct, frozen=True):
    """An encoder for a hub: each record of one run as one frame with its cursor, everything else as nothing."""

    run_id: str

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != RECORD:
            return [b""] * len(block.data)
        lead = b"id: " + cursor_prefix(self.run_id, epoch)
        return [b"%b%d\ndata: %b\n\n" % (lead, offset, data) for offset, data in enumerate(block.data, block.first)]


def farewell() -> bytes:
    """Returns the last frame that a reader gets when this process leaves.

    It is a transient data chunk, which AI SDK clients show to nobody, so that `retry:` has an event to stand on.
    """
    retry_ms = random.randint(1000, 4000)
    return b'retry: %d\ndata: {"type":"data-drain","data":{"retry":%d},"transient":true}\n\n' % (retry_ms, retry_ms)
