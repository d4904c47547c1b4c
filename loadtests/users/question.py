"""A question is asked of the chat lane, and a plan says what happens to the answer on its way."""

import random
from typing import Any, NamedTuple


class Question(NamedTuple):
    """A message of a chat, which the fake upstream will answer with so many `tokens`."""

    chat_id: str
    message_id: str
    text: str
    tokens: int = 0
    model: str = ""

    @property
    def path(self) -> str:
        return f"/api/chat/{self.chat_id}"

    @property
    def message(self) -> dict[str, Any]:
        return {"id": self.message_id, "role": "user", "parts": [{"type": "text", "text": self.text}]}

    def body(self) -> dict[str, Any]:
        """Returns the body; sent again, it is the same run again, for the message's id says so."""
        return {"id": self.chat_id, "message": self.message} | ({"model": self.model} if self.model else {})


class Plan(NamedTuple):
    """The course of an answer. Other devices act after the token `stop_after` and `second_after`, 0 for never."""

    cut_share: float = 0.0
    cut_within_bytes: int = 8_000
    stop_after: int = 0
    second_after: int = 0

    def cut_after(self) -> int | None:
        """Returns how many bytes of its answer the next connection gives us before it is cut; None: all."""
        return random.randrange(self.cut_within_bytes) if random.random() < self.cut_share else None
