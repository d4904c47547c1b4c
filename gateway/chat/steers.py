"""This producer puts messages that came meanwhile into the answer, between two steps of its model.

They are taken with an append that is fenced by the chat's head: a message that somebody has removed is not taken, and
one that is taken cannot be removed.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Raw

from gateway.chat.inbox import Inbox
from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.chat_record import Ask, Queued
from gateway.chat.records.messages import STEER
from gateway.chat.records.record import Data, FinishReason, encode_record
from gateway.core.usage import Usage

CUT_OFF = "a message of the user came before this call was written to its end"
_json = msgspec.json.Encoder().encode


class SteersProducer:
    """A Producer that takes what waits for a run, if anything still does."""

    is_step = False
    asks: Sequence[Ask] = ()

    def __init__(self, inbox: Inbox, reason: FinishReason = "other") -> None:
        """`reason` is why the producer before it stopped, and so why the run ends when nothing is taken."""
        self.model = self.upstream = ""
        self.has_taken = False
        self._inbox = inbox
        self._reason: FinishReason = reason

    async def produce(self, sink: Sink) -> FinishReason:
        sink.write(sink.recorder.end_step(CUT_OFF))
        while steers := self._inbox.steers():
            records = [_steer(queued) for queued in steers]
            if await sink.take(list(map(encode_record, records)), self._inbox.taking(steers)):
                for record in records:
                    sink.recorder.data(record, [])
                self.has_taken = True
                break
        return self._reason

    # Called by the run: there is nothing to wait for

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...
    def expire(self) -> None: ...
    def deadline(self) -> float:
        return NEVER

    def usage(self) -> Usage:
        return Usage(input_tokens=0, output_tokens=0, total_tokens=0)

    async def aclose(self) -> None: ...


def _steer(queued: Queued) -> Data:
    return Data(type=STEER, id=queued.id, data=Raw(_json({"parts": queued.message.parts, "by": queued.actor.sub})))
