"""A small client for tests posts, reads frames with their ids, and follows cursors."""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx2
import msgspec

TERMINAL = {"finish", "error", "abort"}


def user_message(text: str, message_id: str) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


def chat_body(chat_id: str, text: str, **more: Any) -> dict[str, Any]:
    message_id = more.pop("message_id", f"m-{chat_id}")
    return {"id": chat_id, "messages": [user_message(text, message_id)], "trigger": "submit-message", **more}


class Frames:
    """Holds what one stream said: (id, data) of every event, whether `[DONE]` came, and the comments."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.done = False
        self.comments: list[str] = []

    @property
    def chunks(self) -> list[dict[str, Any]]:
        return [data for _, data in self.events]

    @property
    def types(self) -> list[str]:
        return [chunk["type"] for chunk in self.chunks]

    @property
    def text(self) -> str:
        return "".join(c["delta"] for c in self.chunks if c["type"] == "text-delta")

    @property
    def terminals(self) -> list[dict[str, Any]]:
        return [c for c in self.chunks if c["type"] in TERMINAL]

    @property
    def metadata(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for chunk in self.chunks:
            merged |= chunk.get("messageMetadata") or {}
        return merged

    @property
    def cursor(self) -> str:
        return self.events[-1][0] if self.events else ""


def read_frames(lines: Iterable[str], into: Frames | None = None) -> Frames:
    frames = into or Frames()
    for _ in iter_frames(lines, frames):
        pass
    return frames


def iter_frames(lines: Iterable[str], frames: Frames) -> Iterator[tuple[str, Any]]:
    """Adds to `frames` as it reads; yields each event as it is complete."""
    event_id, data = "", ""
    for line in lines:
        if line.startswith(":"):
            frames.comments.append(line)
        elif line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line and data:
            if data == "[DONE]":
                frames.done = True
            else:
                event = (event_id, msgspec.json.decode(data))
                frames.events.append(event)
                yield event
            event_id, data = "", ""


def send(url: str, body: dict[str, Any], timeout_s: float = 20, **headers: str) -> tuple[httpx2.Response, Frames]:
    """Posts to `/api/chat` and reads the stream to its end (or the problem document)."""
    frames = Frames()
    raw_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    with httpx2.stream("POST", f"{url}/api/chat", json=body, headers=raw_headers, timeout=timeout_s) as response:
        if response.headers["content-type"].startswith("text/event-stream"):
            read_frames(response.iter_lines(), frames)
        else:
            response.read()
    return response, frames


def follow(url: str, chat_id: str, cursor: str = "", timeout_s: float = 20) -> tuple[httpx2.Response, Frames]:
    frames = Frames()
    headers = {"last-event-id": cursor} if cursor else {}
    with httpx2.stream("GET", f"{url}/api/chat/{chat_id}/stream", headers=headers, timeout=timeout_s) as response:
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            read_frames(response.iter_lines(), frames)
        else:
            response.read()
    return response, frames
