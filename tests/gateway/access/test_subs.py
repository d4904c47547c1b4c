"""Whatever a user is called, its topics, chats, usage and voices are its own, and no name reaches another's."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from events.log.topics import MAX_NAME, check_topic, is_owner, is_pattern, new_session, user_topic
from gateway.access.grants import EVERYTHING, Grants, Principal, Sub
from gateway.chat.topics import chat_topic
from gateway.core.usage import usage_topic

VICTIM = "bob"
NAMES = {
    "a slash": "bob/x",
    "a slash before": "/bob",
    "a path": "../bob",
    "dots": "..",
    "everything": "*",
    "all of a kind": "user/*",
    "all below": "bob/*",
    "another's topic": "user/bob",
    "another's stored topic": "event/user/bob",
    "another's chat": chat_topic(VICTIM, "c1"),
    "another's usage": usage_topic(VICTIM),
    "another's voice": "audio/" + "0" * 20 + sha256(b"00000000000000000000\nbob").hexdigest()[:16],
    "presence": "presence/user/bob",
    "another case": "BOB",
    "a space": "bob ",
    "a percent": "b%6fb",
    "our own way of writing": "b:6fb",
    "a digest as we write it": f"::{sha256(b'bob').hexdigest()}",
    "a letter that looks the same": "b\u043eb",
    "a letter that is composed": "bo\u0301b",
    "the same letter in one": "b\u00f3b",
    "an emoji": "\U0001f600",
    "no width": "bob\u200b",
    "right to left": "\u202ebob",
    "SQL": "bob'; DROP TABLE topics;--",
    "Lua": 'bob"]]..redis.call("FLUSHALL")',
    "a hash tag": "{bob}",
    "long": "b" * 1024,
    "long, and one letter other": "b" * 1023 + "c",
    "long, and composed of others": "\u00f3" * 1024,
}
REFUSED: dict[str, Any] = {
    "nothing": "",
    "NUL": "bob\0",
    "CR LF": "bob\r\nx-user: alice",
    "LF": "bob\n",
    "escape": "bob\x1b[2J",
    "NEL": "bob\x85",
    "DEL": "bob\x7f",
    "half a pair": "bob\ud800",
    "a megabyte": "b" * 1_048_576,
    "one too many": "b" * 1025,
    "a number": 7,
    "a truth": True,
    "null": None,
    "a list": ["bob"],
    "an object": {"sub": "bob"},
    "bytes": b"bob",
}


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_a_user_cannot_be_called_so(name: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(name, Sub, strict=True)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("grants", [Grants(), EVERYTHING, Grants(subscribe=["user/*", "presence/*", "audio/*"])])
def test_a_user_of_any_name_reaches_nothing_of_another(name: str, grants: Grants) -> None:
    who = Principal(sub=msgspec.convert(name, Sub), grants=grants)
    voice = new_session(VICTIM)
    for topic in (user_topic(VICTIM), f"audio/{voice}", chat_topic(VICTIM, "c1"), usage_topic(VICTIM), "key/all"):
        for read in (topic, f"presence/{topic}", f"presence/presence/{topic}"):
            assert not who.may_subscribe(read)
            assert not who.may_publish(read)
    for pattern in ("user/*", "presence/user/*", "audio/*", "chat/*", "usage/*", "key/*"):
        assert not who.may_subscribe(pattern)
    assert not is_owner(voice, name)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_user_of_any_name_has_topics_of_its_own(name: str) -> None:
    who, topic = Principal(sub=name), user_topic(name)
    assert who.may_subscribe(check_topic(topic))
    assert who.may_subscribe(f"presence/{topic}")
    assert is_owner(new_session(name), name)
    assert not is_pattern(topic)
    assert len(topic) <= MAX_NAME


def test_no_two_names_share_a_topic_a_chat_or_a_usage_book() -> None:
    names = [VICTIM, *NAMES.values()]
    assert len({user_topic(name) for name in names}) == len(names)
    assert len({chat_topic(name, "c1") for name in names}) == len(names)
    assert len({usage_topic(name) for name in names}) == len(names)
