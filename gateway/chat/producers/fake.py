"""A producer for tests: it plays a script, and remembers what was asked of it."""

import asyncio
from collections.abc import Sequence

import msgspec

from gateway.chat.producers.producer import NEVER, Sink
from gateway.chat.records.chat_record import Ask
from gateway.chat.records.record import FinishReason
from gateway.core.usage import Usage
from gateway.errors import TrilaneError


class Wait(msgspec.Struct, frozen=True):
    """A line of a script during which nothing comes."""

    seconds: float


Line = str | Wait | TrilaneError
"""A line of a script: a text to write, a wait, or the error that the producer fails with."""


class FakeProducer:
    """A Producer that writes the texts of its script, each in a turn of the event loop of its own."""

    is_step = True
    asks: Sequence[Ask] = ()

    def __init__(
        self, *script: Line, reason: FinishReason = "stop", model: str = "fake", limit_s: float = NEVER, tokens: int = 1
    ) -> None:
        """Plays `script`; may write nothing for `limit_s` seconds, and reads and writes `tokens` tokens."""
        self.model = self.upstream = ""
        self.calls: list[str] = []
        """Names of the methods that were called, in order."""
        self.is_paused = False
        self._script = script
        self._reason: FinishReason = reason
        self._model_name = model
        self._limit_s = limit_s
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._expired: asyncio.Future[None] = self._loop.create_future()
        self._deadline = NEVER

    async def produce(self, sink: Sink) -> FinishReason:
        self.calls.append("produce")
        self._deadline = self._loop.time() + self._limit_s
        sink.deadline_moved()
        for line in self._script:
            if isinstance(line, TrilaneError):
                raise line
            if isinstance(line, Wait):
                await asyncio.wait((self._expired,), timeout=line.seconds)
            else:
                await self._resumed.wait()
                self._write(sink, line)
                await asyncio.sleep(0)
            if self._expired.done():
                break
        return self._reason

    def _write(self, sink: Sink, text: str) -> None:
        out: list[bytes] = []
        self._deadline = self._loop.time() + self._limit_s
        if self.model:
            sink.recorder.text("text", text, out)
            sink.write(out)
            return
        self.model, self.upstream = self._model_name, "fake"
        out += sink.recorder.speaker(self.model)
        sink.recorder.text("text", text, out)
        sink.begin(out)

    def pause(self) -> None:
        self.calls.append("pause")
        self.is_paused = True
        self._resumed.clear()

    def resume(self) -> None:
        self.calls.append("resume")
        self.is_paused = False
        self._resumed.set()

    def abort(self) -> None:
        self.calls.append("abort")

    def deadline(self) -> float:
        return self._deadline

    def expire(self) -> None:
        self.calls.append("expire")
        if not self._expired.done():
            self._expired.set_result(None)

    def usage(self) -> Usage:
        return Usage(input_tokens=self._tokens, output_tokens=self._tokens, total_tokens=2 * self._tokens)

    async def aclose(self) -> None:
        self.calls.append("aclose")
