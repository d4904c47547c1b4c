"""Translates the chunks of an upstream into records. Pure."""

import msgspec
from msgspec import UNSET, Raw

from gateway.chat.producers.tool_calls import ToolCalls
from gateway.chat.records.record import CHOICES, Data, ProviderFields, TextKind
from gateway.chat.records.recorder import Recorder
from gateway.chat.upstreams.chunks import AnswerChunk, ExtendedDelta, ManyChoices
from gateway.core.loose_json import strict_raw


class CompletionRecords:
    """Translates one completion as it comes; fields that we do not know are passed on under the name `provider`."""

    def __init__(self, recorder: Recorder, provider: str) -> None:
        self.calls = ToolCalls(recorder, provider)
        self._recorder = recorder
        self._provider = provider
        self._refused = Raw(msgspec.json.encode({provider: {"refusal": True}}))

    def write(self, chunks: list[AnswerChunk]) -> list[bytes]:
        """Returns the records of what `chunks` bring; none of what no client could see."""
        out: list[bytes] = []
        recorder = self._recorder
        for chunk in chunks:
            if not chunk.choices or (delta := chunk.choices[0].delta) is None:
                self._others(chunk, out)
                continue
            if type(delta) is ExtendedDelta:
                self._extended(delta, out)
                self._others(chunk, out)
                continue
            if thought := delta.reasoning_content or delta.reasoning:
                recorder.text("reasoning", thought, out)
            if text := delta.content:
                recorder.text("text", text, out)
            for call in delta.tool_calls or ():
                self.calls.write(call, out)
        return out

    def end(self) -> list[bytes]:
        """Returns the records of what waited for more that did not come."""
        out: list[bytes] = []
        self.calls.end(out)
        return out

    def _others(self, chunk: AnswerChunk, out: list[bytes]) -> None:
        if isinstance(chunk, ManyChoices) and chunk.others:
            self._recorder.data(Data(type=CHOICES, data=strict_raw(list(chunk.others))), out)

    def _extended(self, delta: ExtendedDelta, out: list[bytes]) -> None:
        """Writes a delta with fields that we do not know: with its first text, or else in a record of their own."""
        fields = None if delta.unknown is UNSET else Raw(msgspec.json.encode({self._provider: delta.unknown}))
        texts: list[tuple[TextKind, str | None]] = [
            ("reasoning", delta.reasoning_content or delta.reasoning),
            ("text", delta.content),
        ]
        for kind, text in texts:
            if text and fields is not None:
                self._recorder.text_with_fields(kind, text, fields, out)
                fields = None
            elif text:
                self._recorder.text(kind, text, out)
        if delta.refused:
            self._recorder.refusal(delta.refused, self._refused, out)
        for call in delta.tool_calls or ():
            self.calls.write(call, out)
        if fields is not None:
            self._recorder.data(ProviderFields(data=fields), out)
