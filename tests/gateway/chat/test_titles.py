"""A title is the beginning of what a chat shows first, and never cuts a word or a character in two where it can."""

import asyncio

import msgspec
import pytest

from events.log.memory import MemoryLog
from events.log.port import Append, EventLog, TopicInfo
from gateway.chat.records.chat_record import ChatCreated, ChatEvent, MessagesDeleted, Truncate, encode_event
from gateway.chat.records.messages import UIMessage
from gateway.chat.titles import Titles, shortened
from tests.support.chats import answer, user

TOPIC = "chat/1"
FAMILY, FLAG, WAVE = "👩‍👩‍👧", "🇨🇭", "👋🏽"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ten letter", "ten letter"),
        ("one two three", "one two…"),
        ("one, two, three", "one, two…"),
        ("onetwothree", "onetwothr…"),
        ("ab cdefghijkl", "ab cdefgh…"),
        ("日本語日本語日本語日本語", "日本語日本語日本語…"),
        (f"12345678{FLAG}0", "12345678…"),
        (f"1234567{FLAG}{FLAG}", f"1234567{FLAG}…"),
        (f"12345678{WAVE}9", "12345678…"),
        (f"1234567{FAMILY}", "1234567…"),
        ("12345678e\u0301f", "12345678…"),
        ("1234567e\u0301fg", "1234567e\u0301…"),
        ("12345678क\u094dषx", "12345678…"),
        ("12345678\u1112\u1161\u11ab", "12345678…"),
        ("a" + "\u0301" * 20, "…"),
    ],
)
def test_a_text_is_cut_between_words_or_else_between_characters(text: str, expected: str) -> None:
    assert shortened(text, 10) == expected


def first_titles(*steps: list[ChatEvent]) -> list[str]:
    """Returns the chat's title after each step."""

    async def run() -> list[str]:
        log = MemoryLog()
        await log.open()
        titles = Titles(log)
        await put(log, ChatCreated(id="c1"))
        found: list[str] = []
        for step in steps:
            await put(log, *step)
            chat = await titles.of(await info(log))
            assert chat is not None
            assert chat.id == "c1"
            assert chat == await Titles(log).of(await info(log))
            found.append(chat.title)
        return found

    return asyncio.run(run())


async def put(log: EventLog, *events: ChatEvent, topic: str = TOPIC) -> None:
    for event in events:
        name, data = encode_event(event)
        await log.append(Append(topic=topic, data=[data], name=name))


async def info(log: EventLog) -> TopicInfo:
    [found] = await log.topics("chat/")
    return found


def test_the_title_is_that_of_the_first_message_and_stays() -> None:
    assert first_titles([user("u1", " first\n question ")], [answer("a1", "so"), user("u2", "second")]) == [
        "first question",
        "first question",
    ]


def test_an_edited_first_message_gives_its_new_title() -> None:
    assert first_titles([user("u1", "one")], [user("u1", "two")], [Truncate(0), user("u1", "three")]) == [
        "one",
        "two",
        "three",
    ]


def test_a_deleted_first_message_is_not_told_by_the_title() -> None:
    messages: list[ChatEvent] = [user("u1", "secret"), answer("a1", "an answer"), user("u2", "second")]
    assert first_titles(messages, [MessagesDeleted(["u1"])], [MessagesDeleted(["a1", "u2"])]) == [
        "secret",
        "an answer",
        "Untitled",
    ]


def test_what_has_no_text_or_is_the_systems_gives_no_title() -> None:
    system = UIMessage(id="s", role="system", parts=user("s", "be brief").parts)
    assert first_titles([system, user("u1", "  ")], [user("u2", "words")]) == ["Untitled", "words"]


def test_a_title_is_read_again_when_its_chat_has_changed_or_too_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        log = MemoryLog()
        await log.open()
        for topic in ("chat/1", "chat/2"):
            await put(log, ChatCreated(id=topic), user("u1", "one"), topic=topic)
        titles = Titles(log)
        second, first = await log.topics("chat/")
        chat = await titles.of(first)
        await titles.of(second)
        assert await titles.of(first) is chat
        monkeypatch.setattr("gateway.chat.titles.MAX_TITLES", 1)
        await titles.of(msgspec.structs.replace(second, head=0))
        assert await titles.of(first) is not chat

    asyncio.run(run())
