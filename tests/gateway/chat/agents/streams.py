"""Streams of agents for tests: captures of real ones, events made by hand, and the records that they become."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Raw

from gateway.chat.agents.agent import AgentParser, Translation
from gateway.chat.agents.agui import AguiTranslation
from gateway.chat.agents.ui_chunks import UIChunkTranslation
from gateway.chat.agents.writer import AgentWriter
from gateway.chat.records.recorder import Recorder

CAPTURES = Path(__file__).resolve().parent / "captures"
RUN_ID = "r1"


class Played:
    """What became of a stream."""

    def __init__(self, kind: str, pieces: Iterable[bytes], base: Iterable[Raw] = (), tools: Iterable[str] = ()) -> None:
        """Plays `pieces` to their end; `base` are the parts of the answer that is gone on from."""
        self.writer = AgentWriter(Recorder(base), RUN_ID)
        self.translation: Translation
        if kind == "ag-ui":
            self.translation = AguiTranslation(self.writer, set(tools))
        else:
            self.translation = UIChunkTranslation(self.writer)
        self.parser = AgentParser(self.translation)
        self.raw: list[bytes] = []
        for piece in pieces:
            self.raw += self.parser.feed(piece)
        self.raw += self.parser.end()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(record) for record in self.raw]

    @property
    def types(self) -> list[str]:
        return [record["type"] for record in self.records]

    @property
    def end(self) -> str:
        """Returns `finish` and the reason, or `error` and its code."""
        if self.parser.error is not None:
            return f"error {self.parser.error.code}"
        assert self.translation.is_complete
        return f"finish {self.translation.finish_reason}"

    @property
    def raw_parts(self) -> list[Raw]:
        out: list[bytes] = []
        self.writer.recorder.complete_calls(out)
        return self.writer.recorder.parts.encoded()

    @property
    def parts(self) -> list[dict[str, Any]]:
        return [json.loads(bytes(part)) for part in self.raw_parts]

    @property
    def brief(self) -> list[str]:
        """Returns the parts in short: what stands in each, without ids."""
        return [_brief(part) for part in self.parts]


def _brief(part: dict[str, Any]) -> str:
    kind = part["type"]
    if kind in ("text", "reasoning"):
        return f"{kind}: {part['text']}"
    if kind.startswith("data-"):
        return f"{kind} {part.get('id', '')}".rstrip()
    if "toolCallId" not in part:
        return kind
    name = part.get("toolName") or kind
    told = part.get("output", part.get("errorText", ""))
    return f"{name} {json.dumps(part['input'])} {part['state']} {told}".rstrip()


def capture_kind(path: Path) -> str:
    return "ui-message" if "-ui_" in path.name else "ag-ui"


def frames(*events: dict[str, Any] | str) -> bytes:
    """Returns events as the bytes of a stream."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
DONE = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}


def said(message_id: str, *texts: str) -> list[dict[str, Any]]:
    """Returns the events of one AG-UI message."""
    pieces = [{"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": text} for text in texts]
    start = {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
    return [start, *pieces, {"type": "TEXT_MESSAGE_END", "messageId": message_id}]


def called(call_id: str, name: str, *arguments: str, parent: str | None = None) -> list[dict[str, Any]]:
    """Returns the events of one AG-UI call."""
    pieces = [{"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": piece} for piece in arguments]
    start = {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": name, "parentMessageId": parent}
    return [start, *pieces, {"type": "TOOL_CALL_END", "toolCallId": call_id}]


def result(call_id: str, content: Any, message_id: str = "t1") -> dict[str, Any]:
    return {"type": "TOOL_CALL_RESULT", "messageId": message_id, "toolCallId": call_id, "content": content}


def agui(*events: dict[str, Any], base: Iterable[Raw] = (), tools: Iterable[str] = (), done: Any = DONE) -> Played:
    """Plays AG-UI events, with a start and an end."""
    return Played("ag-ui", [frames(STARTED, *events, *([done] if done else []))], base, tools)


def ui(*chunks: dict[str, Any] | str, base: Iterable[Raw] = (), finish: Any = "stop") -> Played:
    """Plays chunks of the UI Message Stream, with a start and an end."""
    end = [{"type": "finish", "finishReason": finish}, "[DONE]"] if finish else []
    return Played("ui-message", [frames({"type": "start"}, *chunks, *end)], base)
