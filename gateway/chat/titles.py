"""A chat's title is the beginning of the first message it shows: of the edited one after an edit, of the next one
after a deletion. It is kept until the chat changes. Titles end at a word, or else between two characters as people see
them.
"""

import unicodedata

import msgspec
import structlog

from events.log.port import EventLog, TopicInfo, read_past_damage
from gateway.chat.history import History
from gateway.chat.records.messages import text_of

TITLE_CHARS = 80
TITLE_BYTES = 1 << 20
"""Bytes of a chat past which no more of it is read for its title: a page of long chats would be a gigabyte."""
MAX_TITLES = 1000
"""Maximum titles in memory; past that the oldest is read again when it is wanted."""
ELLIPSIS = "…"
UNTITLED = "Untitled"
JOINER = "\u200d"
logger = structlog.get_logger("chats")


class TitledChat(msgspec.Struct, frozen=True):
    """A chat's id and title as of one position of its topic."""

    epoch: str
    head: int
    id: str
    title: str


class Titles:
    """Reads titles, each again only when its chat has changed."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._chats: dict[str, TitledChat] = {}

    async def of(self, info: TopicInfo) -> TitledChat | None:
        """Returns the chat of a topic with its title; None when it was deleted just now, or its id cannot be read."""
        chat = self._chats.get(info.topic)
        if chat is not None and (chat.epoch, chat.head) == (info.epoch, info.head):
            return chat
        self._chats.pop(info.topic, None)
        chat = await self._read(info.topic)
        if chat is not None:
            self._chats[info.topic] = chat
            while len(self._chats) > MAX_TITLES:
                del self._chats[next(iter(self._chats))]
        return chat

    async def _read(self, topic: str) -> TitledChat | None:
        history, head = History(chat_id=""), 0
        async for part in read_past_damage(self._log, topic, history.lose):
            history.epoch = part.epoch
            for block in part.blocks:
                history.apply(block)
            head = part.head
            if history.size > TITLE_BYTES:
                break
        if not history.chat_id:
            if history.lost:
                logger.error("a chat cannot be listed: the log is damaged", topic=topic)
            return None
        texts = (" ".join(text_of(message).split()) for message in history.messages if message.role != "system")
        title = next(filter(None, texts), UNTITLED)
        return TitledChat(history.epoch, head, history.chat_id, shortened(title, TITLE_CHARS))


def shortened(text: str, limit: int) -> str:
    """Returns the beginning of a text of one line, with an ellipsis at its end when that is not all.

    It ends at a word when one ends in its second half, and else never inside of what people see as one character
    (a rough form of UAX 29, which keeps more together rather than less).
    """
    if len(text) <= limit:
        return text
    end = limit - len(ELLIPSIS)
    at_word = text.rfind(" ", 0, end + 1)
    if at_word >= limit // 2:
        end = at_word
    while end > 0 and not _is_boundary(text, end):
        end -= 1
    return text[:end].rstrip(" ,;:") + ELLIPSIS


def _is_boundary(text: str, place: int) -> bool:
    """Returns whether one character ends before this place and another begins there."""
    before, after = text[place - 1], text[place]
    if after == JOINER or before == JOINER or unicodedata.category(after) in ("Mn", "Mc", "Me"):
        return False
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":  # skin tones; flags of regions
        return False
    if unicodedata.combining(before) == 9:  # a virama joins two consonants
        return False
    if "\u1160" <= after <= "\u11ff" or ("\u1100" <= before <= "\u115f" and _is_hangul(after)):
        return False
    return not (_is_flag_half(after) and _flag_halves_before(text, place) % 2)


def _is_hangul(char: str) -> bool:
    return "\u1100" <= char <= "\u11ff" or "\uac00" <= char <= "\ud7a3"


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_halves_before(text: str, place: int) -> int:
    start = place
    while start > 0 and _is_flag_half(text[start - 1]):
        start -= 1
    return place - start
