"""The AI SDK's UI Message Stream v1: deltas of an upstream → chunks, chunks → frames, chunks → a message.

Chunks of this dialect are what a run's log holds; other dialects translate from them. Only the subset that versions 5,
6 and 7 of the SDK all accept is written: an unknown `type` would fail the whole stream in the client.
"""

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from events.log.port import Block
from gateway.chat.upstreams.completion import Chunk, FinishReason, ToolCall

HEADERS = [(b"x-vercel-ai-ui-message-stream", b"v1")]
DONE = b"data: [DONE]\n\n"
STEP_START = Raw(b'{"type":"step-start"}')
"""Parts what a run adds to an earlier one's answer: tools called in one step ran side by side, in two one by one."""
CHUNK = "chunk"
"""Name of the events that are chunks; the other events of a run are hidden from clients."""

NOT_JSON = "the arguments are not valid JSON"
_json = msgspec.json.Encoder().encode


class UIFrames(msgspec.Struct, frozen=True):
    """An encoder for a hub: each chunk of one run as one frame with its cursor, everything else as nothing."""

    run_id: str

    def __call__(self, epoch: str, block: Block) -> list[bytes]:
        if block.name != CHUNK:
            return [b""] * len(block.data)
        lead = f"id: {self.run_id}.{epoch}.".encode()
        return [b"%b%d\ndata: %b\n\n" % (lead, offset, data) for offset, data in enumerate(block.data, block.first)]


class ToolInput(msgspec.Struct):
    """A tool call whose arguments are still coming."""

    call_id: str
    name: str
    arguments: list[str] = []
    ended: bool = False


class MessageParts:
    """The parts of an answer as they grow. Deltas are kept in pieces: nothing here touches the text so far."""

    def __init__(self, base: Iterable[Raw] = ()) -> None:
        self._base = list(base)
        self._parts: list[tuple[str, list[str]] | ToolInput] = []
        self.emitted = 0
        """Deltas that a user could see."""

    def open(self, kind: str) -> list[str]:
        pieces: list[str] = []
        self._parts.append((kind, pieces))
        return pieces

    def open_tool(self, tool: ToolInput) -> None:
        self._parts.append(tool)

    def encoded(self) -> list[Raw]:
        """The parts as JSON, in the form a client keeps them."""
        said = [Raw(_json(_part(part))) for part in self._parts]
        return [*self._base, STEP_START, *said] if self._base and said else self._base + said


def _part(part: tuple[str, list[str]] | ToolInput) -> dict[str, object]:
    if isinstance(part, tuple):
        return {"type": part[0], "text": "".join(part[1]), "state": "done"}
    arguments = "".join(part.arguments)
    known = _json_or_none(arguments)
    told: dict[str, object] = {"type": f"tool-{part.name}", "toolCallId": part.call_id}
    if part.ended and known is None:
        return {**told, "state": "output-error", "rawInput": arguments, "errorText": NOT_JSON}
    state = "input-available" if part.ended else "input-streaming"
    return {**told, "state": state, "input": {} if known is None else known}


def _json_or_none(text: str) -> Raw | None:
    """`text` as JSON on one line, its numbers and order untouched; None when it is none.

    One line, because the log's events and the frames of a stream are lines: a model that writes its arguments over
    several would tear them apart.
    """
    try:
        msgspec.json.decode(text or "{}")
        return Raw(msgspec.json.format(text.encode() or b"{}", indent=-1))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class ChunkWriter:
    """Turns an upstream's deltas into chunks, one for each, and keeps the message they make."""

    def __init__(self, base: Iterable[Raw] = ()) -> None:
        self.parts = MessageParts(base)
        self._open = ""
        self._open_id = b""
        self._pieces: list[str] = []
        self._delta_lead = b""
        self._count = 0
        self._tools: dict[int, ToolInput] = {}
        """The call that each index stands for now: servers that leave the index out send whole calls one by one."""
        self._called: list[ToolInput] = []

    def start(self, message_id: str) -> list[bytes]:
        return [_json({"type": "start", "messageId": message_id}), b'{"type":"start-step"}']

    def speaker(self, model: str) -> list[bytes]:
        """Says which model answers; known only when one does."""
        return [_json({"type": "message-metadata", "messageMetadata": {"model": model}})]

    def write(self, chunks: list[Chunk]) -> list[bytes]:
        """Chunks for what `chunks` bring; none for what no client could see."""
        out: list[bytes] = []
        for chunk in chunks:
            if not chunk.choices or (delta := chunk.choices[0].delta) is None:
                continue
            if thought := delta.reasoning_content or delta.reasoning:
                self.text("reasoning", thought, out)
            if text := delta.content or delta.refusal:
                self.text("text", text, out)
            for call in delta.tool_calls or ():
                self.tool(call, out)
        return out

    def finish(self, reason: FinishReason, metadata: dict[str, object]) -> list[bytes]:
        out = self._close_parts(complete=True)
        out.append(b'{"type":"finish-step"}')
        out.append(_json({"type": "finish", "finishReason": reason, "messageMetadata": metadata}))
        return out

    def error(self, text: str, metadata: dict[str, object]) -> list[bytes]:
        out = self._close_parts(complete=False)
        out.append(_json({"type": "message-metadata", "messageMetadata": metadata}))
        out.append(_json({"type": "error", "errorText": text}))
        return out

    def abort(self, reason: str, metadata: dict[str, object]) -> list[bytes]:
        out = self._close_parts(complete=False)
        out.append(_json({"type": "message-metadata", "messageMetadata": metadata}))
        out.append(_json({"type": "abort", "reason": reason}))
        return out

    def text(self, kind: str, text: str, out: list[bytes]) -> None:
        if self._open != kind:
            self.close_text(out)
            self._open = kind
            self._open_id = b'"%b%d"' % (kind[:1].encode(), self._count)
            self._count += 1
            self._pieces = self.parts.open(kind)
            self._delta_lead = b'{"type":"%b-delta","id":%b,"delta":' % (kind.encode(), self._open_id)
            out.append(b'{"type":"%b-start","id":%b}' % (kind.encode(), self._open_id))
        self._pieces.append(text)
        self.parts.emitted += 1
        out.append(self._delta_lead + _json(text) + b"}")

    def close_text(self, out: list[bytes]) -> None:
        if self._open:
            out.append(b'{"type":"%b-end","id":%b}' % (self._open.encode(), self._open_id))
            self._open = ""

    def tool(self, call: ToolCall, out: list[bytes]) -> None:
        function = call.function
        tool = self._tools.get(call.index)
        if tool is None or (call.id and call.id != tool.call_id):
            if function is None or not function.name:
                return
            self.close_text(out)
            self._count += 1
            tool = ToolInput(call.id or f"call-{self._count}", function.name, [])
            self._tools[call.index] = tool
            self._called.append(tool)
            self.parts.open_tool(tool)
            out.append(_json({"type": "tool-input-start", "toolCallId": tool.call_id, "toolName": tool.name}))
        if function is not None and function.arguments:
            tool.arguments.append(function.arguments)
            self.parts.emitted += 1
            out.append(
                _json({"type": "tool-input-delta", "toolCallId": tool.call_id, "inputTextDelta": function.arguments})
            )

    def _close_parts(self, *, complete: bool) -> list[bytes]:
        out: list[bytes] = []
        self.close_text(out)
        for tool in self._called if complete else ():
            tool.ended = True
            arguments = "".join(tool.arguments)
            known = _json_or_none(arguments)
            said: dict[str, object] = {"toolCallId": tool.call_id, "toolName": tool.name}
            if known is None:
                said |= {
                    "type": "tool-input-error",
                    "input": arguments,
                    "errorText": NOT_JSON,
                }
            else:
                said |= {"type": "tool-input-available", "input": known}
            out.append(_json(said))
        return out


class StoredChunk(msgspec.Struct, rename="camel"):
    """What is read of a chunk that a log holds."""

    type: str
    id: str = ""
    delta: str = ""
    message_id: str = ""
    tool_call_id: str = ""
    tool_name: str = ""
    input_text_delta: str = ""
    finish_reason: str = ""
    error_text: str = ""
    message_metadata: Raw | UnsetType = UNSET


decode_chunk = msgspec.json.Decoder(StoredChunk).decode


def resume_writer(chunks: Iterable[bytes], base: Iterable[Raw] = ()) -> ChunkWriter:
    """The writer as it stood after `chunks`: how another process ends a run whose own process died."""
    writer = ChunkWriter(base)
    tools: dict[str, int] = {}
    for data in chunks:
        chunk = decode_chunk(data)
        match chunk.type:
            case "text-delta" | "reasoning-delta":
                writer.text(chunk.type.removesuffix("-delta"), chunk.delta, [])
            case "text-end" | "reasoning-end":
                writer.close_text([])
            case "tool-input-start" | "tool-input-delta":
                index = tools.setdefault(chunk.tool_call_id, len(tools))
                call = msgspec.convert(
                    {
                        "index": index,
                        "id": chunk.tool_call_id,
                        "function": {"name": chunk.tool_name or None, "arguments": chunk.input_text_delta or None},
                    },
                    ToolCall,
                )
                writer.tool(call, [])
            case _:
                pass
    return writer
