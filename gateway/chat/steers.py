"""This producer puts messages that came meanwhile into the answer, between two steps of its model.

A worker's agent takes them by itself, where it has come to (`gateway.chat.producers.worker`).
"""

from collections.abc import Sequence

from gateway.chat.inbox import Inbox
from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.producers.taken_steers import take_steers
from gateway.chat.records.chat_record import Ask
from gateway.chat.records.record import FinishReason
from gateway.core.usage import Usage

CUT_OFF = "a message of the user came before this call was written to its end"


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
        self.has_taken = await take_steers(sink, self._inbox)
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
