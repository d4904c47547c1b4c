"""Defines the grammar of topics, of patterns of topics, and of names of events. Pure.

This is the one place that tells by its name whose a topic is. A topic of the events lane lives in the log under
`event/`, so no published name can reach a chat, a run or a usage book.

Some topics are the gateway's: it alone writes them. Who may read one follows from its name, and from no grant: a user's
own topic has the user's name, and the name of an audio session proves its owner.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256

from gateway.errors import BadRequest

MAX_NAME = 128
"""Maximum characters of a topic's name."""
MAX_TOPICS = 64
"""Maximum topics and patterns of one stream."""
STORED = "event/"
"""Prefix that a topic of the events lane has in the log."""
PRESENCE = "presence/"
"""Prefix of the topics that say who follows the topic named after it."""
USER = "user/"
"""Prefix of each user's own topic."""
SESSION = "audio/"
"""Prefix of the transcript of an audio session."""
GATEWAYS = (PRESENCE, USER, SESSION, "chat/", "run/", "usage/", "ticket/", "key/")
"""Prefixes of the topics that only the gateway writes: those it has, and those whose names it keeps for itself."""
RESERVED = frozenset({"hello", "gap", "drain", "busy", "auth", "bye"})
"""Names of events that only the gateway sends."""
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}", re.ASCII)
_EVENT = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9._/-]")
_LONGEST_USER = 110
"""Characters of a user's name past which its digest stands in for it."""


@lru_cache
def user_topic(sub: str) -> str:
    """Returns the topic of everything that happens to one user.

    A character that cannot stand in a name is written as `:` and its code, byte by byte. A very long name is replaced
    by its digest after two `:`, with which no other can begin.
    """
    safe = _UNSAFE.sub(lambda match: "".join(f":{byte:02x}" for byte in match[0].encode("utf-8", "replace")), sub)
    return USER + (safe if len(safe) <= _LONGEST_USER else f"::{sha256(safe.encode()).hexdigest()}")


def new_session(sub: str) -> str:
    """Returns an audio session's name, which cannot be guessed and proves its owner to anyone who knows the user."""
    nonce = secrets.token_hex(10)
    return f"{nonce}{_proof(nonce, sub)}"


def is_owner(session: str, sub: str) -> bool:
    """Returns whether an audio session of that name is the user's."""
    nonce, proof = session[:20], session[20:]
    is_name = len(session) == 36 and session.isascii() and session.isalnum()
    return is_name and hmac.compare_digest(proof, _proof(nonce, sub))


def _proof(nonce: str, sub: str) -> str:
    return sha256(f"{nonce}\n{sub}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_gateways(name: str) -> bool:
    """Returns whether a topic, or a pattern, is one of the gateway's own."""
    return name.startswith(GATEWAYS)


def is_own(topic: str, sub: str) -> bool:
    """Returns whether one of the gateway's topics is there for this user to read."""
    return topic == user_topic(sub) or (topic.startswith(SESSION) and is_owner(topic.removeprefix(SESSION), sub))


def stored(topic: str) -> str:
    """Returns the name that a topic of the events lane has in the log."""
    return STORED + topic


def check_topic(name: str) -> str:
    """Returns the name unchanged; raises BadRequest when it is not valid."""
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"the topic {_quote(name)} is not valid: 1 to {MAX_NAME} of A-Z a-z 0-9 . _ : / -", code="bad_topic"
        )
    return name


def check_subscription(names: Sequence[str]) -> tuple[str, ...]:
    """Returns the topics and patterns of one stream, sorted, each once. Raises BadRequest."""
    topics = sorted(set(names))
    if len(topics) > MAX_TOPICS:
        raise BadRequest(f"{len(topics)} topics: one stream follows at most {MAX_TOPICS}", code="too_many_topics")
    for name in topics:
        if is_pattern(name):
            if name != "*":
                check_topic(name[:-1])
        else:
            check_topic(name)
    return tuple(topics)


def is_pattern(name: str) -> bool:
    """Returns whether a name is `*` or ends in `/*`, and so stands for every topic that begins like it."""
    return name == "*" or name.endswith("/*")


def check_event(name: str) -> str:
    """Returns the name of an event unchanged; raises BadRequest when it is not valid, or reserved."""
    if not _EVENT.fullmatch(name):
        raise BadRequest(f"the event {_quote(name)} is not valid: 1 to 64 of A-Z a-z 0-9 . _ : -", code="bad_event")
    if name in RESERVED:
        raise BadRequest(f"the event {name!r} is reserved for the gateway: choose another name", code="reserved_event")
    return name


def stored_name(event: str, ttl_s: float | None, now_ms: int) -> str:
    """Returns an event's name as the log keeps it: with the time (ms since 1970) at which it expires, if it does."""
    return event if ttl_s is None else f"{event} {now_ms + int(ttl_s * 1000)}"


def covers(patterns: Iterable[str], topic: str) -> bool:
    """Returns whether one of the patterns stands for `topic`, or for all topics of `topic` where that is a pattern.

    A pattern stands for the gateway's topics only where it begins as they do: `*` for none of them.
    """
    return any(pattern == topic or _matches(pattern, topic) for pattern in patterns)


def _matches(pattern: str, topic: str) -> bool:
    return pattern.endswith("*") and topic.startswith(pattern[:-1]) and _may_reach(pattern, topic)


def _may_reach(pattern: str, topic: str) -> bool:
    if topic.startswith(PRESENCE):
        return pattern.startswith(PRESENCE) and _may_reach(pattern[len(PRESENCE) :], topic[len(PRESENCE) :])
    return is_gateways(pattern) or not is_gateways(topic)


def _quote(text: str) -> str:
    return repr(text[:40].encode("ascii", "backslashreplace").decode())
