"""Takes messages that wait into an answer: what is recorded of them, and what the chat is told, are one append.

That append is fenced by the chat's head: a message that somebody has removed is not taken, and one that is taken cannot
be removed.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
from msgspec import Raw

from events.log.port import Append
from gateway.chat.producers.producer import Sink
from gateway.chat.records.chat_record import Queued
from gateway.chat.records.messages import STEER
from gateway.chat.records.record import Data, encode_record

_json = msgspec.json.Encoder().encode


class WaitingSteers(Protocol):
    """The messages of a chat that its active run may take, as they come and go."""

    on_change: Callable[[], None]
    """Called each time that they may have changed."""

    def steers(self) -> list[Queued]:
        """Returns those that wait, in order."""
        ...

    def taking(self, steers: list[Queued]) -> Append:
        """Returns the append that tells the chat that the run takes them, fenced by its head."""
        ...


async def take_steers(sink: Sink, waiting: WaitingSteers, ids: Sequence[str] | None = None) -> bool:
    """Takes what waits, of `ids` alone where some are given. Returns whether there was any. Raises TrilaneError."""
    while steers := [queued for queued in waiting.steers() if ids is None or queued.id in ids]:
        records = [_steer(queued) for queued in steers]
        if await sink.take(list(map(encode_record, records)), waiting.taking(steers)):
            for record in records:
                sink.recorder.data(record, [])
            return True
    return False


def _steer(queued: Queued) -> Data:
    return Data(type=STEER, id=queued.id, data=Raw(_json({"parts": queued.message.parts, "by": queued.actor.sub})))
