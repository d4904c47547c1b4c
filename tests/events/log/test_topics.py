"""Names of topics, patterns and events are accepted or refused, and patterns match what they stand for."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.log.topics import (
    MAX_TOPICS,
    PRESENCE,
    RESERVED,
    check_event,
    check_subscription,
    check_topic,
    covers,
    is_owner,
    is_pattern,
    new_session,
    stored,
    user_topic,
)
from gateway.access.grants import Grants, Principal
from gateway.errors import BadRequest

LETTERS = "ABCXYZabcxyz0189._:/-"
names = st.text(LETTERS, min_size=1, max_size=128)
GOOD = ["a", "0", "A.b_c:d/e-f", "/", "//", ".", "..", "a/../b", "user/alice", "x" * 128]
BAD = {
    "nothing": "",
    "129": "x" * 129,
    "a space": "a b",
    "LF": "a\n",
    "LF at the end of 128": "x" * 128 + "\n",
    "CR": "a\rb",
    "NUL": "a\0",
    "a star": "a*",
    "a pattern": "a/*",
    "only a star": "*",
    "umlaut": "ä",
    "a digit of another script": "٣",
    "wide": "ａ",  # noqa: RUF001 - that it looks alike is the point
    "line separator": "a\u2028",
    "lone surrogate": "a\ud800",
    "percent": "a%2Fb",
    "backslash": "a\\b",
}


@pytest.mark.parametrize("name", GOOD, ids=range(len(GOOD)))
def test_a_name_of_the_alphabet_is_taken_as_it_is(name: str) -> None:
    assert check_topic(name) == name
    assert check_subscription([name]) == (name,)
    assert stored(name) == f"event/{name}"


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_any_other_name_is_refused_and_shown_in_ascii(name: str) -> None:
    with pytest.raises(BadRequest) as error:
        check_topic(name)
    assert error.value.code == "bad_topic"
    assert "1 to 128" in error.value.detail
    assert error.value.detail.isascii()
    assert error.value.detail.isprintable()
    assert len(error.value.detail) < 400


@given(st.text())
@example("x\n")
def test_what_is_taken_is_of_the_alphabet(name: str) -> None:
    try:
        check_topic(name)
    except BadRequest:
        return
    assert re.fullmatch(rb"[A-Za-z0-9._:/-]{1,128}\Z", name.encode())


PATTERNS = {"*": True, "a/*": True, "/*": True, "a/b/*": True, "a*": False, "a": False, "": False, "**": False}


@pytest.mark.parametrize(("name", "expected"), PATTERNS.items(), ids=PATTERNS)
def test_a_pattern_ends_with_a_segment_that_is_a_star(name: str, expected: bool) -> None:
    assert is_pattern(name) == expected


@pytest.mark.parametrize("name", ["a*", "**", "a/**", "*/a", "a/*/b", "*a", "*/*", "a b/*", "\n/*", "x" * 129 + "/*"])
def test_a_star_stands_nowhere_else(name: str) -> None:
    with pytest.raises(BadRequest, match="not valid"):
        check_subscription([name])


def test_a_subscription_is_sorted_and_names_each_once() -> None:
    assert check_subscription(["b", "a/*", "b", "a", "*"]) == ("*", "a", "a/*", "b")


def test_a_stream_follows_up_to_64_topics() -> None:
    most = [f"t{number:02}" for number in range(MAX_TOPICS)]
    assert check_subscription([*most, most[0]]) == tuple(most)
    with pytest.raises(BadRequest, match="65 topics: one stream follows at most 64") as error:
        check_subscription([*most, "u"])
    assert error.value.code == "too_many_topics"


COVERED: dict[str, tuple[list[str], str, bool]] = {
    "itself": (["a"], "a", True),
    "not what begins with it": (["a"], "ab", False),
    "not what is below it": (["a"], "a/b", False),
    "everything": (["*"], "a/b", True),
    "every pattern": (["*"], "a/*", True),
    "everything of everything": (["*"], "*", True),
    "below": (["a/*"], "a/b", True),
    "far below": (["a/*"], "a/b/c", True),
    "a pattern by itself": (["a/*"], "a/*", True),
    "a narrower pattern": (["a/*"], "a/b/*", True),
    "not a wider pattern": (["a/b/*"], "a/*", False),
    "not the widest pattern": (["a/*"], "*", False),
    "not above": (["a/*"], "a", False),
    "not beside": (["a/*"], "ab/c", False),
    "any of them": (["b", "a/*"], "a/c", True),
    "nothing": ([], "a", False),
    "the empty grant": ([""], "a", False),
    "case": (["A/*"], "a/b", False),
    "a part of a segment": (["a*"], "ab/c", True),
}


@pytest.mark.parametrize(("grants", "topic", "expected"), COVERED.values(), ids=COVERED)
def test_a_grant_covers_what_it_names_and_no_more(grants: list[str], topic: str, expected: bool) -> None:
    assert covers(grants, topic) == expected
    assert Principal(sub="x", grants=Grants(publish=grants)).may_publish(topic) == expected
    assert Principal(sub="x", grants=Grants(subscribe=grants)).may_subscribe(topic) == expected
    assert Principal(sub="x", grants=Grants(subscribe=grants)).may_subscribe(PRESENCE + topic) == expected


GATEWAYS_TOPICS = [
    "user/bob",
    "user/bob/x",
    "user/*",
    "audio/0123",
    "audio/*",
    "audio/x/*",
    "chat/1",
    "chat/*",
    "run/1",
    "usage/alice",
    "ticket/issued",
]
"""Topics and patterns that are not alice's."""


@pytest.mark.parametrize("topic", GATEWAYS_TOPICS)
@pytest.mark.parametrize("grant", ["*", "user/*", "audio/*", "u*", "run/1", "presence/*", "itself"])
def test_no_grant_opens_what_the_gateway_writes_for_others(topic: str, grant: str) -> None:
    patterns = [topic if grant == "itself" else grant]
    who = Principal(sub="alice", grants=Grants(subscribe=patterns, publish=patterns))
    operator = Principal(sub="alice", grants=Grants(operator=True))
    for name in (topic, PRESENCE + topic, PRESENCE + PRESENCE + topic):
        assert not who.may_subscribe(name)
        assert not who.may_publish(name)
        assert operator.may_subscribe(name)
        assert not operator.may_publish(name)


REACHED: dict[str, tuple[str, str, bool]] = {
    "everything, but another's own": ("*", "user/bob", False),
    "everything, but who follows": ("*", "presence/team", False),
    "who follows": ("presence/*", "presence/team", True),
    "who follows, but not another's own": ("presence/*", "presence/user/bob", False),
    "who follows another's own": ("presence/user/*", "presence/user/bob", True),
    "who follows who follows": ("presence/*", "presence/presence/team", False),
    "an operator's": ("user/*", "user/bob", True),
    "another of the gateway's": ("user/*", "audio/x", False),
    "what only looks like it": ("*", "users/bob", True),
    "nor what has no slash": ("*", "user", True),
}


@pytest.mark.parametrize(("pattern", "topic", "expected"), REACHED.values(), ids=REACHED)
def test_a_pattern_reaches_the_gateways_topics_only_by_their_own_beginning(
    pattern: str, topic: str, expected: bool
) -> None:
    assert covers([pattern], topic) == expected


def test_an_audio_session_is_its_owners_by_its_name() -> None:
    session = new_session("alice")
    assert is_owner(session, "alice")
    assert Principal(sub="alice").may_subscribe(f"audio/{session}")
    assert Principal(sub="alice").may_subscribe(f"presence/audio/{session}")
    assert not Principal(sub="alice").may_publish(f"audio/{session}")
    others = [
        session[:-1],
        session + "0",
        session[:-1] + "\u00e4",
        session.upper(),
        session.replace(session[0], "g"),
        session + "/x",
        "",
    ]
    assert not [name for name in others if name != session and Principal(sub="alice").may_subscribe(f"audio/{name}")]
    for sub in ("bob", "", "alic", f"{session[0]}\nalice", "alice\n", "\ud800"):
        assert not Principal(sub=sub).may_subscribe(f"audio/{session}")


@given(st.lists(names.map(lambda name: f"{name}/*") | names, max_size=3), names, names)
def test_who_may_follow_a_pattern_may_follow_all_that_it_stands_for(grants: list[str], prefix: str, rest: str) -> None:
    who = Principal(sub="x", grants=Grants(subscribe=grants))
    if who.may_subscribe(f"{prefix}/*"):
        assert who.may_subscribe(f"{prefix}/{rest}")


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_name_that_only_the_gateway_says_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match=f"'{name}' is reserved for the gateway") as error:
        check_event(name)
    assert error.value.code == "reserved_event"


@pytest.mark.parametrize("name", ["", "a b", "a\n", "a\r", "a\0", "a\nid: 1", "ä", "x" * 65, "a 1700000000000", "a/b"])
def test_an_event_that_could_be_more_than_a_name_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="1 to 64") as error:
        check_event(name)
    assert error.value.code == "bad_event"
    assert error.value.detail.isascii()


@pytest.mark.parametrize("name", ["message", "x", "Hello", "a.b_c:d-e", "x" * 64])
def test_any_other_event_is_taken(name: str) -> None:
    assert check_event(name) == name


# Everyone's own topic

USERS = {"alice": "user/alice", "a@b": "user/a:40b", "ä": "user/:c3:a4", "a:b": "user/a:3ab", "a/b": "user/a/b"}


@pytest.mark.parametrize(("sub", "topic"), USERS.items())
def test_what_cannot_stand_in_a_name_is_written_as_its_code(sub: str, topic: str) -> None:
    assert user_topic(sub) == topic


@given(st.text(min_size=1))
def test_every_user_has_a_topic_of_a_valid_name(sub: str) -> None:
    assert check_topic(user_topic(sub)).startswith("user/")


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_users_have_two_topics(one: str, other: str) -> None:
    assert (user_topic(one) == user_topic(other)) == (one == other)


def test_no_name_can_be_chosen_to_have_the_topic_of_a_long_one() -> None:
    """A digest of a long name looks like an escaped short name, when it begins with the code of an unsafe letter."""
    for number in range(1000):
        victim = f"{'x' * 111}{number}"
        digest = user_topic(victim).removeprefix("user/::")
        attacker = bytes.fromhex(digest[:2]).decode("ascii", "replace") + digest[2:]
        assert user_topic(attacker) != user_topic(victim), (attacker, victim)


def test_ones_own_topic_needs_no_grant_and_allows_no_other() -> None:
    alice = Principal(sub="alice")
    assert alice.may_subscribe("user/alice")
    assert alice.may_subscribe("presence/user/alice")
    others = [
        "user/alice/x",
        "user/alice/*",
        "user/*",
        "user/bob",
        "presence/user/bob",
        "presence/presence/user/alice",
    ]
    assert not [topic for topic in others if alice.may_subscribe(topic)]
    assert not alice.may_publish("user/alice")
