"""The queue of a chat: messages that wait for a running answer to take them, or for an answer of their own. Pure.

It is folded from the chat's events, by whoever reads the chat and by the process that writes its active run. A message
that was queued is in exactly one of three places from then on: taken by a run, waiting, or removed.
"""

import msgspec

from gateway.chat.records.chat_record import ChatEvent, Queued, RunFinished, Taken, Unqueued
from gateway.chat.records.messages import UIMessage

MAX_QUEUED = 20
"""Maximum messages that wait in one chat."""


class ChatQueue(msgspec.Struct):
    """What waits in a chat, in order, and what became of what has waited."""

    waiting: dict[str, Queued] = {}
    taken: dict[str, str] = {}
    """Id of the run that has taken each message, by the message's id."""
    removed: set[str] = set()
    """Ids of the messages that somebody did not want any more."""

    def copy(self) -> "ChatQueue":
        return ChatQueue(dict(self.waiting), dict(self.taken), set(self.removed))

    def knows(self, message_id: str) -> bool:
        """Returns whether a message was queued before, whatever became of it."""
        return message_id in self.waiting or message_id in self.taken or message_id in self.removed

    def taken_by(self, run_id: str) -> list[str]:
        """Returns the ids of the messages that a run has taken, in order."""
        return [message_id for message_id, taker in self.taken.items() if taker == run_id]

    def apply(self, event: ChatEvent) -> None:
        """Notes what an event of the chat means for the queue; most mean nothing."""
        match event:
            case Queued():
                if not self.knows(event.id):
                    self.waiting[event.id] = event
            case Unqueued():
                if self.waiting.pop(event.id, None) is not None:
                    self.removed.add(event.id)
            case Taken(run_id=run_id, ids=ids) | RunFinished(run_id=run_id, took=ids):
                for message_id in ids:
                    self.waiting.pop(message_id, None)
                    self.taken.setdefault(message_id, run_id)
            case UIMessage():
                self.waiting.pop(event.id, None)  # it has an answer of its own now
            case _:
                pass
