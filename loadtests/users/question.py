"""A question is asked of the chat lane, and a plan says what happens to the answer on its way."""

import random
from typing import Any, NamedTuple


class Question(NamedTuple):
    """One message of a chat. `tokens`: with how many the fake upstream will answer it."""

    chat_id: str
    message_id: str
    text: str
    tokens: int = 0
    model: str = ""

    @property
    def path(self) -> str:
        return f"/api/chat/{self.chat_id}"

    def body(self) -> dict[str, Any]:
        """Returns the body; sent again, it is the same run again, for the message's id says so."""
        message = {"id": self.message_id, "role": "user", "parts": [{"type": "text", "text": self.text}]}
        return {"id": self.chat_id, "message": message} | ({"model": self.model} if self.model else {})


class Plan(NamedTuple):
    """`stop_after` and `second_after`: the token after which another device does that, 0 for never."""

    cut_share: float = 0.0
    cut_within_bytes: int = 8_000
    stop_after: int = 0
    second_after: int = 0

    def cut_after(self) -> int | None:
        """Returns how many bytes of its answer the next connection gives us before it is cut; None: all."""
        return random.randrange(self.cut_within_bytes) if random.random() < self.cut_share else None
