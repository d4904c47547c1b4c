"""What a client of `/api/chat` holds at the end of an answer, for comparison with what is right."""

import json
from typing import Any
from uuid import uuid4

import httpx2

from tests.conftest import Gateway


def asked(gateway: Gateway, model: str) -> dict[str, Any]:
    """Asks a model once; returns the text, the calls and the end of its answer, or the status of a refusal."""
    message = {"id": uuid4().hex, "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    body = {"id": uuid4().hex, "model": model, "message": message}
    answer = httpx2.post(f"{gateway.url}/api/chat", json=body, timeout=30)
    return shown(answer.text) if answer.status_code == 200 else {"status": answer.status_code, "said": answer.text}


def shown(stream: str) -> dict[str, Any]:
    held: dict[str, Any] = {"text": "", "reasoning": "", "tools": [], "failed": [], "ids": [], "ends": []}
    held["metadata"] = {}
    for line in stream.splitlines():
        if line.startswith("data: {"):
            take(json.loads(line[6:]), held)
    return held


def take(chunk: dict[str, Any], held: dict[str, Any]) -> None:
    match chunk["type"]:
        case "text-delta":
            held["text"] += chunk["delta"]
        case "reasoning-delta":
            held["reasoning"] += chunk["delta"]
        case "tool-input-available":
            held["tools"].append([chunk["toolName"], chunk["input"]])
            held["ids"].append(chunk["toolCallId"])
        case "tool-input-error":
            held["failed"].append([chunk["toolName"], chunk["input"]])
        case "finish" | "error" | "abort" as end:
            held["ends"].append(end)
            held["reason"] = chunk.get("finishReason")
    held["metadata"] |= chunk.get("messageMetadata") or {}
