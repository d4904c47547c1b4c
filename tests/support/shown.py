"""Shown is what a client of the UI Message Stream shows of a run; it raises where the AI SDK's own client would."""

import json
from typing import Any


class Shown:
    """Builds the message part by part, and remembers how the stream ended."""

    def __init__(self, chunks: list[bytes] | None = None) -> None:
        self.parts: list[dict[str, Any]] = []
        self.message_id = ""
        self.metadata: dict[str, Any] = {}
        self.ending: dict[str, Any] | None = None
        self._open: dict[tuple[str, str], dict[str, Any]] = {}
        self._tools: dict[str, dict[str, Any]] = {}
        self._arguments: dict[str, str] = {}
        self._custom: set[str] = set()
        """Calls whose input is any text."""
        for chunk in chunks or ():
            self.take(chunk)

    @property
    def open(self) -> list[str]:
        """Returns ids of the texts whose end is missing."""
        return [part_id for _, part_id in self._open]

    def take(self, line: bytes) -> None:
        assert b"\n" not in line
        assert b"\r" not in line
        chunk = json.loads(line)
        assert self.ending is None, f"{chunk['type']} after {self.ending['type']}"
        kind, _, event = chunk["type"].partition("-")
        match kind:
            case "text" | "reasoning":
                self._text(kind, event, chunk)
            case "tool":
                self._tool(event.removeprefix("input-"), chunk)
            case "start" if not event:
                self.message_id = chunk["messageId"]
            case "start" | "message":
                self.metadata |= chunk.get("messageMetadata", {})
            case "data" if event == "custom-tool":
                self._custom.add(chunk["data"])
            case "finish" if event:
                assert not self._open
            case "finish" | "error" | "abort":
                assert not self._open
                self.ending = chunk
                self.metadata |= chunk.get("messageMetadata", {})
            case _:
                raise AssertionError(f"no client knows {chunk['type']}")

    def _text(self, kind: str, event: str, chunk: dict[str, Any]) -> None:
        key = (kind, chunk["id"])
        if event == "start":
            assert key not in self._open
            self._open[key] = {"type": kind, "text": "", "state": "streaming"}
            self.parts.append(self._open[key])
        elif event == "delta":
            assert chunk["delta"]
            self._open[key]["text"] += chunk["delta"]
        else:
            self._open.pop(key)["state"] = "done"

    def _tool(self, event: str, chunk: dict[str, Any]) -> None:
        call = chunk["toolCallId"]
        if event == "start":
            assert call not in self._tools
            part = {"type": f"tool-{chunk['toolName']}", "toolCallId": call, "state": "input-streaming"}
            self._tools[call], self._arguments[call] = part, ""
            self.parts.append(part)
            return
        part = self._tools[call]
        assert part["state"] == "input-streaming"
        if event == "delta":
            self._arguments[call] += chunk["inputTextDelta"]
        elif event == "available":
            part |= {"state": "input-available", "input": chunk["input"]}
            text = self._arguments[call]
            assert chunk["input"] == (text if call in self._custom else json.loads(text or "{}"))
        else:
            part |= {"state": "output-error", "rawInput": chunk["input"], "errorText": chunk["errorText"]}
            assert chunk["input"] == self._arguments[call]
