"""A chat has room for so many bytes and parts, and is refused with what to do then."""

import msgspec
import pytest
from msgspec import Raw

from events.log.port import Append
from gateway.chat.history import History
from gateway.chat.records.chat_record import MessagesDeleted, Truncate
from gateway.chat.records.messages import UIMessage
from gateway.chat.room import MAX_CHAT_PARTS, MAX_PARTS, chats_in_memory, check_posted, check_room
from gateway.errors import BadRequest, Overloaded, TooLarge
from tests.support.chats import fold, history, user

NEW = [Append(topic="chat/x", data=[b"12345", b"67890"])]


def long(count: int, message_id: str = "m") -> UIMessage:
    return UIMessage(id=message_id, role="user", parts=[Raw(b"{}")] * count)


def test_a_chat_takes_its_last_byte_and_no_more() -> None:
    chat = History(chat_id="c", size=90)
    check_room(chat, NEW, [], 100)
    with pytest.raises(
        TooLarge, match=r"have 100 bytes: at most 99 are kept of one \(TRILANE_LIMIT_CHAT_BYTES\)"
    ) as err:
        check_room(chat, NEW, [], 99)
    assert (err.value.status, err.value.code) == (413, "chat_full")
    assert "start a new one" in err.value.detail


def test_parts_that_are_stored_or_sent_count() -> None:
    for chat, conversation in ((history(long(MAX_CHAT_PARTS)), []), (history(), [long(MAX_CHAT_PARTS)])):
        check_room(chat, NEW, conversation, 1 << 30)
    for chat, conversation in ((history(long(MAX_CHAT_PARTS + 1)), []), (history(), [long(MAX_CHAT_PARTS), long(0)])):
        with pytest.raises(TooLarge, match="30001 parts of messages: at most 30000"):
            check_room(chat, NEW, conversation, 1 << 30)


def test_a_request_takes_so_many_parts() -> None:
    check_posted([long(MAX_PARTS)])
    with pytest.raises(BadRequest, match="10001 parts of messages: at most 10000 come with one request"):
        check_posted([long(MAX_PARTS), long(0)])


def test_what_was_edited_or_deleted_counts_as_bytes_and_not_as_parts() -> None:
    chat = history(long(3, "a"), long(0, "b"), user("c", "hi"))
    assert chat.parts == 5
    size = chat.size
    fold(chat, [long(1, "a"), MessagesDeleted(["c"])])
    assert (chat.parts, chat.size) == (2, size + len(msgspec.json.encode(long(1, "a"))) + len(b'{"ids":["c"]}'))
    fold(chat, [Truncate(0)])
    assert (chat.parts, chat.messages) == (0, [])


def test_long_chats_in_memory_are_refused_past_the_bound_but_for_the_first() -> None:
    account = chats_in_memory(100)
    with account.hold() as first:
        first.count(500)
        with account.hold() as second, pytest.raises(Overloaded, match="the chats being read are 100 bytes already"):
            second.count(1)
    assert account.held_bytes == 0
