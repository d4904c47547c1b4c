"""Bounds what one chat may hold, and how many long chats are in memory at once: each run reads all of its chat.

A chat is refused further messages, never its readers what is there. Edits and deleted messages count, because the log
keeps them. Large chats are counted while they are read, and until whoever asked has them, or their upstream has.
"""

import sys
from collections.abc import Iterable, Sequence

from events.log.port import Append
from events.log.rules import size_of
from gateway.chat.history import History
from gateway.chat.records.messages import UIMessage, count_of_parts
from gateway.errors import BadRequest, TooLarge
from gateway.serving.bodies import Bodies

MAX_PARTS = 10_000
"""Maximum parts of all messages of one request."""
MAX_CHAT_PARTS = 30_000
"""Parts of all messages of a chat past which no run starts."""


def chats_in_memory(max_bytes: int) -> Bodies:
    """Returns the account of all chats that are being read, of `max_bytes` together; one is always taken."""
    return Bodies(sys.maxsize, max_bytes, "the chats being read")


def check_posted(messages: Iterable[UIMessage]) -> None:
    """Raises BadRequest for a request whose messages have too many parts."""
    if (parts := sum(map(count_of_parts, messages))) > MAX_PARTS:
        raise BadRequest(
            f"{parts} parts of messages: at most {MAX_PARTS} come with one request; post the newest message alone, as "
            "`message`",
            code="too_many_messages",
        )


def check_room(history: History, appends: Sequence[Append], conversation: Iterable[UIMessage], max_bytes: int) -> None:
    """Raises TooLarge (`chat_full`) when a chat would be larger, with what is to be appended, than it may be."""
    size = history.size + size_of(appends)
    if size > max_bytes:
        raise _full(f"{size} bytes: at most {max_bytes} are kept of one (TRILANE_LIMIT_CHAT_BYTES)")
    parts = max(history.parts, sum(map(count_of_parts, conversation)))
    if parts > MAX_CHAT_PARTS:
        raise _full(f"{parts} parts of messages: at most {MAX_CHAT_PARTS} are taken")


def _full(what: str) -> TooLarge:
    advice = "start a new one, with what matters of this one in its first message; this one can still be read"
    return TooLarge(f"the chat would have {what}: {advice}", code="chat_full")
