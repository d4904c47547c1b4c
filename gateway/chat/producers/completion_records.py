"""Translates the chunks of an upstream into records. Pure."""

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.records.record import ProviderFields, TextKind
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk, ExtendedDelta, ToolCall


class CompletionRecords:
    """Translates one completion as it comes; fields that we do not know are passed on under the name `provider`."""

    def __init__(self, recorder: Recorder, provider: str) -> None:
        self._recorder = recorder
        self._provider = provider
        self._calls: dict[int, str] = {}
        """The call that each index stands for now: servers that leave the index out send whole calls one by one."""

    def write(self, chunks: list[AnswerChunk]) -> list[bytes]:
        """Returns the records of what `chunks` bring; none of what no client could see."""
        out: list[bytes] = []
        recorder = self._recorder
        for chunk in chunks:
            if not chunk.choices or (delta := chunk.choices[0].delta) is None:
                continue
            if type(delta) is ExtendedDelta:
                self._extended(delta, out)
                continue
            if thought := delta.reasoning_content or delta.reasoning:
                recorder.text("reasoning", thought, out)
            if text := delta.content or delta.refusal:
                recorder.text("text", text, out)
            for call in delta.tool_calls or ():
                self._tool(call, out)
        return out

    def _extended(self, delta: ExtendedDelta, out: list[bytes]) -> None:
        """Writes a delta with fields that we do not know: with its first text, or else in a record of their own."""
        fields = None if delta.unknown is UNSET else Raw(msgspec.json.encode({self._provider: delta.unknown}))
        texts: list[tuple[TextKind, str | None]] = [
            ("reasoning", delta.reasoning_content or delta.reasoning),
            ("text", delta.content or delta.refusal),
        ]
        for kind, text in texts:
            if text and fields is not None:
                self._recorder.text_with_fields(kind, text, fields, out)
                fields = None
            elif text:
                self._recorder.text(kind, text, out)
        for call in delta.tool_calls or ():
            self._tool(call, out)
        if fields is not None:
            self._recorder.data(ProviderFields(data=fields), out)

    def _tool(self, call: ToolCall, out: list[bytes]) -> None:
        function = call.function
        call_id = self._calls.get(call.index)
        if call_id is None or (call.id and call.id != call_id):
            if function is None or not function.name:
                return
            call_id = self._calls[call.index] = self._recorder.tool_input(call.id or "", function.name, out)
        if function is not None and function.arguments:
            self._recorder.tool_arguments(call_id, function.arguments, out)
