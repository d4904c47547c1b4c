"""Records what a worker posts of its answer, chunk by chunk; what was recorded when it was entered before is left out.

Chunks are those of the UI Message Stream, in the part of it that an agent may write by itself. Pure.
"""

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.agents.ui_chunks import UIChunkTranslation
from gateway.chat.agents.writer import OF_AGENT, AgentWriter, on_one_line
from gateway.chat.producers.logged_calls import LoggedCalls
from gateway.chat.producers.tools import Call
from gateway.chat.records.record import DATA, Data, NewerRecord, decode_record
from gateway.chat.records.recorder import Recorder
from gateway.chat.workers.protocol import CHUNKS, TEXTS, BeginCall, ChunkHead
from gateway.core.usage import UpstreamUsage
from gateway.errors import UpstreamError

MAX_CALLS = 1000
"""Logged calls of one answer."""
PROGRESS = (DATA + "step", DATA + "state")
"""Data of the gateway's own names that an agent may tell of itself."""
_data = msgspec.json.Decoder(Data).decode


class PostedChunks:
    """The records of one answer of a worker. Set `logged` each time that its agent is entered."""

    def __init__(self, recorder: Recorder, run_id: str, logged: LoggedCalls) -> None:
        self.logged = logged
        self._recorder = recorder
        self._writer = AgentWriter(recorder, run_id)
        self._translation = UIChunkTranslation(self._writer)

    @property
    def usage(self) -> UpstreamUsage | None:
        """Returns what the agent says that its answer has cost."""
        return self._translation.usage

    def record(self, head: ChunkHead, data: bytes) -> list[bytes]:
        """Returns the records of a chunk. Raises UpstreamError (`bad_chunk`), or DecodeError, for what is none."""
        out: list[bytes] = []
        if not (head.type in CHUNKS or head.type.startswith(DATA)):
            raise bad_chunk(f"a worker posts no {head.type[:40]!r}")
        if isinstance(decode_record(data), NewerRecord):
            raise bad_chunk(f"a {head.type!r} without all of its fields")
        if self.logged.is_replaying or head.tool_call_id in self.logged.own_ids:
            return out
        if self.logged.said and head.type in TEXTS:
            self._say_again(head, out)
        elif head.type in PROGRESS:
            told = _data(data)
            self._writer.data(told.type.removeprefix(DATA), told.data, out, data_id=told.id, transient=told.transient)
        else:
            self._translation.take(data, out)
        return out

    def _say_again(self, head: ChunkHead, out: list[bytes]) -> None:
        """Records what is new of a piece of text that may have been said before."""
        rest = self.logged.rest_of(head.delta)
        if rest is None:
            self._writer.close_text(out)
            out += self._recorder.next_step()
            rest = self.logged.all_again(head.delta)
        if rest:
            self._writer.text("text", f"text:{head.id}", rest, UNSET, out)

    def end_text(self) -> list[bytes]:
        """Ends the text that is open, so that what comes next stands behind it."""
        out: list[bytes] = []
        self._writer.close_text(out)
        return out

    def begin_call(self, begun: BeginCall) -> tuple[Call, list[bytes]]:
        """Returns a new logged call, and its records. Raises UpstreamError."""
        arguments = on_one_line(begun.input)
        if begun.n > MAX_CALLS:
            raise UpstreamError(f"more than {MAX_CALLS} calls in one answer", code="too_many_steps")
        if not 1 <= len(begun.name) <= 64 or not bytes(arguments).startswith(b"{"):
            raise bad_chunk(f"call number {begun.n}: want a name of 1 to 64 characters, and an object as its input")
        call_id, out = self.logged.id_of(begun.n), list[bytes]()
        self._writer.call(call_id, begun.name, OF_AGENT, out)
        self._writer.complete(call_id, out, bytes(arguments).decode())
        self._recorder.calls_to_make[call_id] = False
        return Call(call_id=call_id, name=begun.name, arguments=Raw(bytes(arguments))), out


def bad_chunk(what: str) -> UpstreamError:
    """Returns the error of a worker that has posted what is no chunk; it ends the run."""
    return UpstreamError(f"the worker posted what is no chunk: {what}", code="bad_chunk")
