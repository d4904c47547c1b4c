"""The items of a response's output: each is told when it begins, piece by piece, and whole at its end. Pure.

Texts are kept as pieces of the JSON strings in which they came: joined, they are the JSON of the whole.
"""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Raw

TextItemKind = Literal["text", "refusal", "reasoning", "summary"]
CallItemKind = Literal["function_call", "custom_tool_call", "mcp_call"]
Tell = Callable[[str, dict[str, Any]], None]
"""A function that tells an event: its name, and its fields but for type and number."""
SERVER = "gateway"
"""Label of the server of a tool that the gateway or an agent runs, so that no client does."""
NAMED = ("id", "type", "index", "function", "custom")
"""Fields of a completion's call that are an item's own."""
_json = msgspec.json.Encoder().encode
_DELTAS = {
    "text": "response.output_text",
    "refusal": "response.refusal",
    "reasoning": "response.reasoning_text",
    "summary": "response.reasoning_summary_text",
}
_PARTS = {"text": "output_text", "refusal": "refusal", "reasoning": "reasoning_text", "summary": "summary_text"}


def text_of(pieces: list[bytes]) -> Raw:
    """Returns the JSON string that pieces of it make."""
    return Raw(b'"%b"' % b"".join(pieces))


class TextItem:
    """A message with one text or refusal, or what a model thought before it."""

    def __init__(self, item_id: str, kind: TextItemKind) -> None:
        self.index = 0
        self.pieces: list[bytes] = []
        self._id = item_id
        self._kind: TextItemKind = kind
        self._status = "in_progress"

    @property
    def _is_thought(self) -> bool:
        return self._kind in ("reasoning", "summary")

    def end(self) -> None:
        """Notes that no more of it will come."""
        self._status = "incomplete" if self._status == "in_progress" else self._status

    def whole(self) -> dict[str, Any]:
        """Returns the item as it stands."""
        if not self._is_thought:
            content = [self._part(text_of(self.pieces))] if self.pieces else []
            return self._item(content)
        return self._item([self._part(text_of(self.pieces))])

    def _item(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        if not self._is_thought:
            return {
                "id": self._id,
                "type": "message",
                "status": self._status,
                "role": "assistant",
                "content": parts,
            }
        summary, content = (parts, []) if self._kind == "summary" else ([], parts)
        item: dict[str, Any] = {"id": self._id, "type": "reasoning", "status": self._status, "summary": summary}
        return item if self._kind == "summary" else {**item, "content": content}

    def _part(self, text: object) -> dict[str, Any]:
        field = "refusal" if self._kind == "refusal" else "text"
        more: dict[str, Any] = {"annotations": [], "logprobs": []} if self._kind == "text" else {}
        return {"type": _PARTS[self._kind], field: text, **more}

    @property
    def _place(self) -> dict[str, Any]:
        part = "summary_index" if self._kind == "summary" else "content_index"
        return {"item_id": self._id, "output_index": self.index, part: 0}

    @property
    def _part_event(self) -> str:
        return "response.reasoning_summary_part" if self._kind == "summary" else "response.content_part"

    def open(self, tell: Tell) -> None:
        tell("response.output_item.added", {"output_index": self.index, "item": self._item([])})
        tell(f"{self._part_event}.added", {**self._place, "part": self._part("")})

    def delta_lead(self) -> bytes:
        """Returns the frame of a piece up to its text; after that follow a quote and the event's number."""
        name = f"{_DELTAS[self._kind]}.delta"
        more: dict[str, Any] = {"logprobs": []} if self._kind == "text" else {}
        fields = _json({"type": name, **self._place, **more})[:-1]
        return b'event: %b\ndata: %b,"delta":"' % (name.encode(), fields)

    def close(self, status: str, tell: Tell) -> None:
        self._status = status
        text = text_of(self.pieces)
        field = "refusal" if self._kind == "refusal" else "text"
        more: dict[str, Any] = {"logprobs": []} if self._kind == "text" else {}
        tell(f"{_DELTAS[self._kind]}.done", {**self._place, field: text, **more})
        tell(f"{self._part_event}.done", {**self._place, "part": self._part(text)})
        tell("response.output_item.done", {"output_index": self.index, "item": self.whole()})


class CallItem:
    """A call of a tool: the client's to make, or made by the gateway or an agent, and then with its result."""

    def __init__(self, item_id: str, kind: CallItemKind, call_id: str, name: str, namespace: str = "") -> None:
        """`namespace` is that of the tool, or empty."""
        self.index = 0
        self._id = item_id
        self._kind: CallItemKind = kind
        self._call_id = call_id
        self._name = name
        self._namespace = {"namespace": namespace} if namespace else {}
        self._pieces: list[str] = []
        self._status = "in_progress"
        self._output: str | None = None
        self._error: str | None = None
        self._provider: dict[str, object] = {}

    def end(self) -> None:
        """Notes that no more of it will come."""
        self._status = "incomplete" if self._status == "in_progress" else self._status

    def whole(self) -> dict[str, Any]:
        arguments = "".join(self._pieces)
        item: dict[str, Any] = {"id": self._id, "type": self._kind, "status": self._status, "name": self._name}
        if self._provider:
            item["provider"] = self._provider
        if self._kind == "function_call":
            return {**item, **self._namespace, "call_id": self._call_id, "arguments": arguments}
        if self._kind == "custom_tool_call":
            return {**item, **self._namespace, "call_id": self._call_id, "input": arguments}
        more = {"server_label": SERVER, "output": self._output, "error": self._error}
        return {**item, "arguments": arguments, **more}

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self.index}

    @property
    def _input_event(self) -> str:
        names = {"function_call": "function_call_arguments", "mcp_call": "mcp_call_arguments"}
        return f"response.{names.get(self._kind, 'custom_tool_call_input')}"

    def open(self, tell: Tell) -> None:
        tell("response.output_item.added", {"output_index": self.index, "item": self.whole()})
        if self._kind == "mcp_call":
            tell("response.mcp_call.in_progress", self._place)

    def add(self, piece: str, tell: Tell) -> None:
        if piece:
            self._pieces.append(piece)
            tell(f"{self._input_event}.delta", {**self._place, "delta": piece})

    def note_fields(self, fields: dict[str, object]) -> None:
        """Notes what an upstream adds to the call, and wants back with its result."""
        self._provider = {name: value for name, value in fields.items() if name not in NAMED}

    def end_arguments(self, whole: str, tell: Tell) -> None:
        """Tells that all arguments are there, `whole` where none came in pieces: now a client may make the call."""
        self._pieces = self._pieces or [whole]
        arguments = "".join(self._pieces)
        field = "input" if self._kind == "custom_tool_call" else "arguments"
        name = {"name": self._name} if self._kind == "function_call" else {}
        tell(f"{self._input_event}.done", {**self._place, **name, field: arguments})
        if self._kind != "mcp_call":
            self._done("completed", tell)

    def result(self, output: str | None, error: str | None, tell: Tell) -> None:
        """Tells what became of a call that is not the client's to make."""
        if self._kind != "mcp_call" or self._status != "in_progress":
            return
        self._output, self._error = output, error
        status = "completed" if error is None else "failed"
        tell(f"response.mcp_call.{status}", self._place)
        self._done(status, tell)

    def _done(self, status: str, tell: Tell) -> None:
        self._status = status
        tell("response.output_item.done", {"output_index": self.index, "item": self.whole()})


OutputItem = TextItem | CallItem
