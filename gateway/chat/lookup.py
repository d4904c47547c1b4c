"""Finds the chat that a caller means by an id: one of their own first, then one that is shared with them.

A chat id is its owner's own, so nobody's id is taken by others: what is shared never hides an own chat. Who has left a
chat of their own making begins anew under that id, in a topic beside it.
"""

from collections.abc import Callable

from events.log.port import EventLog
from gateway.access.memberships import Memberships, is_shared_id
from gateway.chat.history import History, read_history
from gateway.chat.topics import chat_topic
from gateway.errors import NotFound, TrilaneError

MAX_NAMESAKES = 20
"""Maximum chats of one id, shared with one user, that are looked at; the newest come first."""


class ChatLookup:
    """Looks chats up in one process."""

    def __init__(self, event_log: EventLog, memberships: Memberships) -> None:
        self._log = event_log
        self._memberships = memberships

    def may_exist(self, sub: str, chat_id: str) -> bool:
        """Returns whether a user may have such a chat; False is certain, and costs no look at the log."""
        return self._log.may_exist(chat_topic(sub, chat_id)) or self.may_be_shared(sub, chat_id)

    def may_be_shared(self, sub: str, chat_id: str) -> bool:
        """Returns whether an id may mean a chat whose topic is not named by the user and that id."""
        return self._memberships.may_have_links(sub) or (self._memberships.are_kept and is_shared_id(chat_id))

    async def find(self, sub: str, chat_id: str, count: Callable[[int], None]) -> History:
        """Returns the user's chat of that id; an empty one, where they could make it, when there is none.

        Raises NotFound for a shared id that is not theirs, TrilaneError (409 `chat_ambiguous`) for several, BadRequest
        for what is no chat's id.
        """
        chat = await read_history(self._log, sub, chat_id, count)
        if not self._memberships.are_kept:
            return chat
        while chat.epoch and sub not in chat.members:  # they have made it, and were removed by another owner
            beside = chat_topic(sub, f"{chat_id}\0{chat.shared_id}")
            chat = await read_history(self._log, sub, chat_id, count, topic=beside)
        if chat.epoch:
            return chat
        shared = await self._shared(sub, chat_id, count)
        if shared is None and is_shared_id(chat_id):
            raise NotFound(f"there is no chat {chat_id!r}", code="chat_not_found")
        return shared or chat

    async def _shared(self, sub: str, chat_id: str, count: Callable[[int], None]) -> History | None:
        links = await self._memberships.links(sub)
        if chat_id in links:
            named = [links[chat_id]]
        else:
            named = [link for link in links.values() if link.chat_id == chat_id][-MAX_NAMESAKES:]
        chats: list[History] = []
        for link in named:
            chat = await read_history(self._log, link.owner, link.chat_id, count, topic=link.topic)
            if chat.epoch and sub in chat.members:  # a link may outlive its chat
                chats.append(chat)
        if len(chats) > 1:
            ids = ", ".join(chat.shared_id for chat in chats)
            raise TrilaneError(
                f"{len(chats)} chats {chat_id!r} are shared with you: use one of their shared ids, {ids}",
                code="chat_ambiguous",
                status=409,
            )
        return chats[0] if chats else None
